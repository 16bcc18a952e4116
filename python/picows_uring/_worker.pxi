# The worker of a running loop, its listening sockets and handshakes. Included by picows.pyx.

QUEUE_BYTES_MAX = 64 * 1024 * 1024

# One worker for each thread, as a ring belongs to its thread.
_local = threading.local()
# Counts forks. What was made before one belongs to the parent.
cdef unsigned long _process = 0


cdef inline bint _is_thread(unsigned long thread_id) noexcept:
    return PyThread_get_thread_ident() == thread_id


def _forget_parent():
    """In the child of a fork: its workers are its own, and those of the parent are left alone."""
    global _process
    cdef _Worker worker = getattr(_local, "worker", None)
    _process += 1
    _local.__dict__.clear()
    if worker is not None and worker._handle is not NULL:
        # Lets go of what is the parent's, so that this thread can have a worker.
        pwu_worker_free(<pwu_worker*>worker._handle)
        worker._handle = NULL


def _close_at_exit():
    worker = getattr(_local, "worker", None)
    if worker is not None:
        worker.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parent)
atexit.register(_close_at_exit)


async def _end_with_loop(worker):
    """A generator that the loop closes at its end, on its own thread."""
    try:
        yield
    finally:
        worker.close()


cdef class _Worker:
    """A worker of the library in a loop of asyncio: the loop waits for its descriptor, and has it take
    turns."""

    def __init__(self, loop):
        self.loop = loop
        self._frame = WSFrame.__new__(WSFrame)
        self._thread_id = PyThread_get_thread_ident()
        self._process = _process
        self._turn_method = self.turn
        self._call_soon = loop.call_soon
        self._descriptor = -1
        self._open()

    def _open(self):
        cdef pwu_worker_options options
        cdef pwu_error* error = NULL
        cdef pwu_worker* handle
        memset(&options, 0, sizeof(options))
        options.size = sizeof(options)
        handle = pwu_worker_new(&options, &error)
        if handle is NULL:
            raise _take_error(error)
        self._handle = handle
        self._descriptor = pwu_worker_fd(handle)
        pwu_worker_on_work(handle, _on_work, <void*>self, NULL)
        self.loop.add_reader(self._descriptor, self._turn_method)
        generator = _end_with_loop(self)
        try:
            generator.__anext__().send(None)
        except StopIteration:
            pass
        self._generator = generator

    def __dealloc__(self):
        if self._handle is NULL or self._process != _process:
            return
        if _is_thread(self._thread_id):
            pwu_worker_free(<pwu_worker*>self._handle)

    def turn(self):
        """Has the worker take its turns."""
        self._take_turn()

    cdef object _take_turn(self):
        cdef int turned
        self._is_scheduled = False
        if self._handle is NULL or self._is_in_turn or self._process != _process:
            return None
        self._is_in_turn = True
        turned = pwu_worker_turn(<pwu_worker*>self._handle, 0)
        self._is_in_turn = False
        if _left_behind:
            _free_left_behind(self._thread_id)
        if turned < 0 and not self._is_lost:
            self._is_lost = True
            text = pwu_last_error().decode("utf-8", "replace")
            getLogger("picows").error("the worker of a loop is lost: %s", text)
            self.close()
        if self._exit is not None:
            error, self._exit = self._exit, None
            raise error
        return None

    def close(self):
        """Ends all connections, with CLOSE 1001 as far as their sockets take it at once."""
        cdef void* handle = self._handle
        if handle is NULL or self._process != _process:
            return
        if not _is_thread(self._thread_id):
            warnings.warn(
                "a worker was not closed on the thread of its loop, and stays: end loops by "
                "asyncio.run or loop.shutdown_asyncgens", ResourceWarning, source=self)
            return
        if self._is_in_turn:
            self._call_soon(self.close)
            return
        self._handle = NULL
        if getattr(_local, "worker", None) is self:
            del _local.worker
        try:
            self.loop.remove_reader(self._descriptor)
        except Exception:
            # The loop is closed, and watches nothing.
            pass
        self._is_in_turn = True
        pwu_worker_free(<pwu_worker*>handle)
        self._is_in_turn = False

    @property
    def is_open(self):
        """Whether it can make connections."""
        return self._handle is not NULL and self._process == _process and not self._is_lost


cdef void _on_work(void* user) noexcept:
    """Something was queued outside of a turn: has the loop take one."""
    cdef _Worker worker = <_Worker>user
    if worker._is_scheduled:
        return
    worker._is_scheduled = True
    try:
        worker._call_soon(worker._turn_method)
    except BaseException:
        # The loop is closed, and sends nothing any more.
        pass


def worker_of(loop):
    """The worker of the running loop, made on first use.

    :raises RuntimeError: if another loop of this thread, which is not closed, has one
    """
    cdef _Worker worker = getattr(_local, "worker", None)
    if worker is not None:
        if worker.loop is loop and worker.is_open:
            return worker
        if worker.loop is not loop and worker.is_open and not worker.loop.is_closed():
            raise RuntimeError(
                "another loop of this thread has a worker, and a thread has one: close that loop first")
        worker.close()
    worker = _Worker(loop)
    _local.worker = worker
    return worker


cdef NoResult _fill_options(pwu_options* options, dict settings, bint is_server) except NoResult.EXC:
    pwu_options_init(options, sizeof(pwu_options), is_server)
    options.max_frame = settings["max_frame_size"]
    options.handshake_ms = _milliseconds(settings["handshake_timeout"])
    if settings["enable_auto_ping"]:
        options.ping_idle_ms = max(_milliseconds(settings["auto_ping_idle_timeout"]), 1)
        options.ping_reply_ms = max(_milliseconds(settings["auto_ping_reply_timeout"]), 1)
        options.ping_periodic = settings["is_periodic"]
    options.auto_pong = settings["enable_auto_pong"]
    # Frames are the application's, in the order it likes, with the bits it likes; so is CLOSE.
    options.auto_close = 0
    options.validate_text = 0
    options.allow_rsv = 7
    options.any_order = 1
    if settings["compression"]:
        options.deflate = 1
        # RSV1 says which messages are compressed, and those are whole.
        options.allow_rsv = 3
        options.any_order = 0
    options.message_ms = 0
    options.write_stall_ms = 0
    options.max_queue = QUEUE_BYTES_MAX
    options.keep_request = 0
    if is_server:
        options.proxy_protocol = _lent_text(settings["proxy_protocol"])
        options.trusted_proxies = _lent_text(settings["trusted_proxies"])
        options.origins = _lent_text(settings["origins"])
    return NoResult.SUCCESS


cdef const char* _lent_text(bytes text) noexcept:
    """The bytes as a text of C, as long as they live; NULL for None."""
    return NULL if text is None else PyBytes_AS_STRING(text)


cdef uint32_t _milliseconds(object seconds) except? 0xFFFFFFFF:
    if seconds is None:
        return 0
    return min(max(int(seconds * 1000), 1), 0x7FFFFFFF)


cdef WSTransport _new_transport(_Worker worker, object logger, bint is_client, dict settings):
    cdef WSTransport transport = WSTransport.__new__(WSTransport)
    transport._worker = worker
    transport._thread_id = worker._thread_id
    transport._process = _process
    transport._logger = logger
    transport._disconnected = worker.loop.create_future()
    transport._disconnect_on_exception = settings["disconnect_on_exception"]
    transport.is_client_side = is_client
    return transport


async def connect(
        _Worker worker, sock, str url, list headers, request, dict settings, factory,
        bint wants_heads, logger, given_socket, carrier, bint is_secure):
    """Makes the handshake on a connected socket, which is taken over.

    :param headers: pairs of bytes
    :return: the transport and its listener
    """
    cdef:
        WSTransport transport = _new_transport(worker, logger, True, settings)
        _Opening opening = _Opening.__new__(_Opening)
        pwu_options options
        pwu_error* error = NULL
        object timer = None
        object timeout = settings["websocket_handshake_timeout"]
    transport.request = request
    transport.is_secure = is_secure
    transport._given_socket = given_socket
    transport._carrier = carrier
    transport._opening = opening
    opening.future = worker.loop.create_future()
    opening.factory = factory
    opening.wants_heads = wants_heads
    _fill_options(&options, settings, False)
    if timeout is not None:
        opening.deadline = worker.loop.time() + timeout
        timer = worker.loop.call_at(opening.deadline, _give_up, transport)
    try:
        if carrier is None:
            _begin(transport, opening, sock.detach(), None, url.encode("ascii"), headers, &options)
        else:
            _begin(transport, opening, -1, carrier, url.encode("ascii"), headers, &options)
        await opening.future
    except BaseException:
        opening.abandon()
        if transport._conn is not NULL and not transport.is_disconnected:
            pwu_abort(<pwu_conn*>transport._conn)
        if carrier is not None:
            carrier.abort()
        transport._opening = None
        _release(transport)
        raise
    finally:
        if timer is not None:
            timer.cancel()
    # The connection may have ended by now, and let go of its listener.
    return transport, opening.listener


def _give_up(WSTransport transport):
    cdef _Opening opening = transport._opening
    if opening is not None:
        opening.abandon()
        opening.settle(
            asyncio.TimeoutError("the server did not answer the upgrade request in time"))


cdef NoResult _begin(
        WSTransport transport, _Opening opening, int descriptor, object carrier, bytes url, list headers,
        pwu_options* options) except NoResult.EXC:
    """Begins the handshake on a descriptor, or on the stream of `carrier`."""
    cdef:
        pwu_header* lent
        pwu_error* error = NULL
        pwu_outside* stream = NULL
        size_t count = len(headers)
    lent = <pwu_header*>PyMem_Malloc(max(count, 1) * sizeof(pwu_header))
    if lent is NULL:
        if descriptor >= 0:
            os.close(descriptor)
        raise MemoryError()
    _lend_headers(lent, headers)
    # Given back by _free_user, whatever happens.
    Py_INCREF(transport)
    if carrier is None:
        opening.attempt = pwu_connect(
            <pwu_worker*>transport._worker._handle, url, descriptor, lent, count, options,
            &_callbacks, <void*>transport, _on_outcome, &error)
    else:
        # Given back by _free_carrier, whatever happens.
        Py_INCREF(carrier)
        opening.attempt = pwu_connect_outside(
            <pwu_worker*>transport._worker._handle, url, &_outside_ops, <void*>carrier, &stream, lent,
            count, options, &_callbacks, <void*>transport, _on_outcome, &error)
    PyMem_Free(lent)
    if opening.attempt is NULL:
        raise _take_error(error)
    if stream is not NULL:
        carrier.attach(_stream_of(stream))
    return NoResult.SUCCESS


cdef void _lend_headers(pwu_header* lent, list headers):
    """The pairs as C has them; they have to live meanwhile."""
    cdef size_t index = 0
    cdef bytes name, value
    for name, value in headers:
        lent[index].name.data = PyBytes_AS_STRING(name)
        lent[index].name.size = PyBytes_GET_SIZE(name)
        lent[index].value.data = PyBytes_AS_STRING(value)
        lent[index].value.size = PyBytes_GET_SIZE(value)
        index += 1
