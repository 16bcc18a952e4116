# Listening sockets, and the route that has the application's factory answer requests. Included by
# picows.pyx.

cdef class _Listening:
    """A listening socket of a worker."""
    cdef:
        _Worker worker
        pwu_server* server
        object factory
        object owner
        object logger
        dict settings
        # Its streams are carried, by TLS or not.
        bint is_carried
        bint is_secure
        # What an answer lends to the library.
        list kept
        pwu_header* lent

    def __cinit__(self):
        self.server = NULL
        self.lent = NULL

    def __dealloc__(self):
        PyMem_Free(self.lent)

    def enter(self, carrier):
        """Serves a connection whose bytes `carrier` brings.

        :raises OSError: if no more are served
        """
        cdef:
            pwu_outside* handle
            pwu_error* error = NULL
            pwu_str peer
            bytes text = _peer_text(carrier.get_extra_info("peername"))
        if self.server is NULL or not self.worker.is_open:
            raise ConnectionAbortedError("the server is closed")
        peer.data, peer.size = PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text)
        # Given back by _free_carrier, whatever happens.
        Py_INCREF(carrier)
        handle = pwu_accept_outside(
            <pwu_worker*>self.worker._handle, self.server, &_outside_ops, <void*>carrier, peer, &error)
        if handle is NULL:
            raise ConnectionAbortedError(str(_take_error(error)))
        return _stream_of(handle)

    def close(self):
        """Closes the socket; its connections stay."""
        server, self.server = self.server, NULL
        if server is not NULL and self.worker._process == _process:
            pwu_server_close(server)


def listen(_Worker worker, sock, owner, factory, logger, dict settings):
    """Accepts connections on a socket that listens, of which a duplicate is made.

    :param owner: the server object, which counts the connections
    """
    cdef:
        _Listening listening = _new_listening(worker, owner, factory, logger, settings)
        pwu_options options
        pwu_error* error = NULL
    _fill_options(&options, settings, True)
    # Given back by _free_listening, whatever happens.
    Py_INCREF(listening)
    listening.server = pwu_listen(
        <pwu_worker*>worker._handle, NULL, os.dup(sock.fileno()), &options, _route,
        <void*>listening, _free_listening, &error)
    return _checked(listening, error)


def serve_carried(_Worker worker, owner, factory, logger, dict settings, bint is_secure):
    """The same for connections that the loop accepts: `enter` of the result takes them."""
    cdef:
        _Listening listening = _new_listening(worker, owner, factory, logger, settings)
        pwu_options options
        pwu_error* error = NULL
    listening.is_carried, listening.is_secure = True, is_secure
    _fill_options(&options, settings, True)
    # Given back by _free_listening, whatever happens.
    Py_INCREF(listening)
    listening.server = pwu_serve_outside(
        <pwu_worker*>worker._handle, &options, _route, <void*>listening, _free_listening, &error)
    return _checked(listening, error)


cdef _Listening _new_listening(_Worker worker, owner, factory, logger, dict settings):
    cdef _Listening listening = _Listening.__new__(_Listening)
    listening.worker = worker
    listening.factory = factory
    listening.owner = owner
    listening.logger = logger
    listening.settings = settings
    return listening


cdef object _checked(_Listening listening, pwu_error* error):
    if listening.server is NULL:
        failure = _take_error(error)
        # Which texts are networks and origins, the library knows.
        raise ValueError(str(failure)) if type(failure) is RuntimeError else failure
    return listening


cdef bytes _peer_text(object name):
    """An address of a socket as the library takes it; empty for one that has no port."""
    if not isinstance(name, tuple) or len(name) < 2:
        return b""
    host = str(name[0]).partition("%")[0]
    return (f"[{host}]:{name[1]}" if ":" in host else f"{host}:{name[1]}").encode("ascii", "replace")


cdef void _free_listening(void* user) noexcept:
    Py_DECREF(<_Listening>user)


cdef int _route(void* user, const pwu_request* given, pwu_answer* answer) noexcept:
    cdef _Listening listening = <_Listening>user
    try:
        _answer(listening, given, answer)
        return 0
    except BaseException as error:
        if not isinstance(error, Exception) and listening.worker._exit is None:
            listening.worker._exit = error
        listening.logger.error("the listener factory raised, and the answer is 500", exc_info=error)
        return 1


cdef object _answer(_Listening listening, const pwu_request* given, pwu_answer* answer):
    """Has the factory answer a request."""
    cdef WSTransport transport
    head = _bytes(given.raw_head).partition(b"\r\n\r\n")[0]
    request = _request_of(head)
    request.peer = _text(given.peer) or None
    result = listening.factory(request)
    listener, response = result, None
    if isinstance(result, WSUpgradeResponseWithListener):
        listener, response = result.listener, result.response
    if result is None:
        response = WSUpgradeResponse.create_error_response(404, b"Not Found\n")
    if response is not None and int(response.status) != 101:
        answer.status = int(response.status)
        body = bytes(response.body or b"")
        _lend_answer(listening, response.headers, answer, body)
        return None
    if not isinstance(listener, WSListener):
        raise TypeError(
            f"the factory returned {type(listener).__name__}: it has to be a WSListener, a "
            "WSUpgradeResponseWithListener or None")
    if response is None:
        response = WSUpgradeResponse.create_101_response()
    transport = _new_transport(listening.worker, listening.logger, False, listening.settings)
    transport.request, transport.response = request, response
    transport.is_secure = listening.is_secure
    transport._listener = listener
    transport._server = listening.owner
    _lend_answer(listening, response.headers, answer, b"")
    answer.callbacks = &_callbacks
    answer.user = <void*>transport
    # Given back by _free_user, whatever happens.
    Py_INCREF(transport)
    return None


cdef object _request_of(bytes head):
    """The request as an object. Heads are judged by the library, which takes a few that are not for
    asyncio's eyes, such as HTTP/1.0."""
    line, *lines = head.split(b"\r\n")
    request = WSUpgradeRequest()
    request.method, request.path, request.version = line.split(b" ", 2)
    request.headers = _http.read_headers(lines)
    return request


# What the library writes itself.
_OWN_HEADERS = frozenset(("connection", "content-length", "transfer-encoding", "upgrade"))


cdef object _lend_answer(_Listening listening, object headers, pwu_answer* answer, bytes body):
    cdef list pairs = []
    for name, value in headers.items():
        lower = name.lower()
        if lower == "sec-websocket-protocol":
            protocol = value.encode("utf-8", "surrogateescape")
            pairs.append((b"", protocol))
        elif lower not in _OWN_HEADERS:
            pairs.append((name.encode("ascii"), value.encode("utf-8", "surrogateescape")))
    listening.kept = [it for it in pairs if it[0]]
    protocols = [it[1] for it in pairs if not it[0]]
    count = len(listening.kept)
    PyMem_Free(listening.lent)
    listening.lent = <pwu_header*>PyMem_Malloc(max(count, 1) * sizeof(pwu_header))
    if listening.lent is NULL:
        raise MemoryError()
    _lend_headers(listening.lent, listening.kept)
    answer.headers, answer.count = listening.lent, count
    if protocols and answer.status == 0:
        protocol = protocols[0]
        answer.subprotocol.data = PyBytes_AS_STRING(protocol)
        answer.subprotocol.size = PyBytes_GET_SIZE(protocol)
        listening.kept.append(protocol)
    answer.body.data, answer.body.size = PyBytes_AS_STRING(body), PyBytes_GET_SIZE(body)
    listening.kept.append(body)
    return None
