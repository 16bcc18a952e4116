# What the library calls, in a turn and with the GIL. Nothing is raised out of here: an exception is kept
# and ends its connection. Included by picows.pyx.

cdef class _Opening:
    """A handshake of a client, until its outcome is known."""
    cdef:
        pwu_attempt* attempt
        object future
        object factory
        object error
        object listener
        bint wants_heads
        double deadline

    def __cinit__(self):
        self.attempt = NULL
        self.deadline = 0.0

    cdef NoResult settle(self, object error) except NoResult.EXC:
        """Notes the outcome."""
        if self.attempt is not NULL:
            pwu_attempt_free(self.attempt)
            self.attempt = NULL
        if not self.future.done():
            if error is None:
                self.future.set_result(None)
            else:
                self.future.set_exception(error)
        return NoResult.SUCCESS

    cdef NoResult abandon(self) except NoResult.EXC:
        if self.attempt is not NULL:
            pwu_attempt_abandon(self.attempt)
            self.attempt = NULL
        return NoResult.SUCCESS


cdef str _text(pwu_str text):
    return PyUnicode_DecodeUTF8(text.data, text.size, "replace") if text.size else ""


cdef bytes _bytes(pwu_str text):
    return PyBytes_FromStringAndSize(text.data, text.size) if text.size else b""


cdef WSFrame _frame_of(_Worker worker, const pwu_frame* shown):
    """What is shown, as a frame: the one of the last callback, unless that was kept."""
    cdef WSFrame frame = worker._frame
    # Two references: the worker's, and the one of this function.
    if Py_REFCNT(frame) != 2:
        frame = worker._frame = WSFrame.__new__(WSFrame)
    frame._shown = shown
    frame.payload_ptr = <char*>shown.payload
    frame.payload_size = shown.size
    frame.tail_size = shown.tail_size
    frame.msg_type = <WSMsgType>shown.type
    frame.fin = shown.fin
    frame.rsv1 = (shown.rsv >> 2) & 1
    frame.rsv2 = (shown.rsv >> 1) & 1
    frame.rsv3 = shown.rsv & 1
    frame.last_in_buffer = shown.last_in_buffer
    return frame


cdef int _on_frame(void* user, pwu_conn* conn, const pwu_frame* shown) noexcept:
    cdef WSTransport transport = <WSTransport>user
    # After a callback that has raised, there are no further ones.
    if not transport._is_failed and _try_deliver(transport, shown) < 0:
        _fail_delivery(transport)
    return 0


cdef int _deliver(WSTransport transport, const pwu_frame* shown) except -1:
    cdef WSFrame frame = _frame_of(transport._worker, shown)
    try:
        if transport._pong_waiter is None or not _takes_pong(transport, frame):
            _call_on_ws_frame(transport, frame)
    finally:
        frame._end()
    return 0


cdef inline int _call_on_ws_frame(WSTransport transport, WSFrame frame) except -1:
    cdef PyObject* arguments[3]
    cdef object listener = transport._listener
    if not _is_of_python(listener):
        # A listener in Cython: a call of C.
        (<WSListener>listener).on_ws_frame(transport, frame)
        return 0
    # The same call would look the method up and bind it.
    arguments[0] = <PyObject*>listener
    arguments[1] = <PyObject*>transport
    arguments[2] = <PyObject*>frame
    PyObject_VectorcallMethod("on_ws_frame", arguments, 3, NULL)
    return 0


# As a pointer of a type that raises nothing: an exception stays set, and costs those calls nothing that
# end without one.
ctypedef int (*_Delivery)(WSTransport, const pwu_frame*) noexcept
cdef _Delivery _try_deliver = <_Delivery><void*>_deliver


cdef void _fail_delivery(WSTransport transport) noexcept:
    """Ends the connection for the exception that is set."""
    try:
        _raise_again()
    except BaseException as error:
        transport._fail(error, "on_ws_frame")


cdef int _raise_again() except -1:
    """Raises the exception that is set."""
    return -1


cdef bint _takes_pong(WSTransport transport, WSFrame frame) except -1:
    """Whether `frame` answers the ping of a round trip that is being measured."""
    if not (<WSListener>transport._listener).is_user_specific_pong(frame):
        return False
    transport._note_pong()
    return True


cdef int _is_pong(void* user, pwu_conn* conn, const pwu_frame* shown) noexcept:
    cdef WSTransport transport = <WSTransport>user
    cdef WSFrame frame
    if transport._is_failed:
        return 0
    try:
        frame = _frame_of(transport._worker, shown)
        try:
            if (<WSListener>transport._listener).is_user_specific_pong(frame):
                transport._note_pong()
                return 1
        finally:
            frame._end()
    except BaseException as error:
        transport._fail(error, "is_user_specific_pong")
    return 0


cdef int _send_ping(void* user, pwu_conn* conn) noexcept:
    cdef WSTransport transport = <WSTransport>user
    if transport._listener is None:
        return 0
    try:
        (<WSListener>transport._listener).send_user_specific_ping(transport)
    except BaseException as error:
        transport._fail(error, "send_user_specific_ping")
    return 0


cdef void _pause_writing(void* user, pwu_conn* conn) noexcept:
    cdef WSTransport transport = <WSTransport>user
    if transport._listener is None:
        return
    try:
        (<WSListener>transport._listener).pause_writing()
    except BaseException as error:
        transport._fail(error, "pause_writing")


cdef void _resume_writing(void* user, pwu_conn* conn) noexcept:
    cdef WSTransport transport = <WSTransport>user
    if transport._listener is None:
        return
    try:
        (<WSListener>transport._listener).resume_writing()
    except BaseException as error:
        transport._fail(error, "resume_writing")


cdef int _on_connected(void* user, pwu_conn* conn) noexcept:
    cdef WSTransport transport = <WSTransport>user
    cdef void* carrier
    pwu_conn_ref(conn)
    transport._conn = conn
    try:
        if transport._opening is not None and not _make_listener(transport):
            return 0
        if transport._server is not None:
            transport._server._attach(transport)
            carrier = pwu_outside_of(conn)
            if carrier is not NULL:
                transport._carrier = <object>carrier
        (<WSListener>transport._listener).on_ws_connected(transport)
    except BaseException as error:
        transport._fail(error, "on_ws_connected")
    return 0


cdef bint _make_listener(WSTransport transport) noexcept:
    """Has the client's factory make the listener; whether there is one."""
    cdef _Opening opening = transport._opening
    cdef pwu_response response
    cdef pwu_request request
    try:
        if opening.deadline > 0.0 and transport._worker.loop.time() >= opening.deadline:
            raise asyncio.TimeoutError("the server did not answer the upgrade request in time")
        response.size = sizeof(response)
        if pwu_get_response(<pwu_conn*>transport._conn, &response) == PWU_OK:
            head = _bytes(response.raw_head).partition(b"\r\n\r\n")[0]
            transport.response = _http.parse_response_head(head)
        request.size = sizeof(request)
        if pwu_get_request(<pwu_conn*>transport._conn, &request) == PWU_OK:
            transport.request = _request_of(_bytes(request.raw_head).partition(b"\r\n\r\n")[0])
        if opening.wants_heads:
            listener = opening.factory(transport.request, transport.response)
        else:
            listener = opening.factory()
        if not isinstance(listener, WSListener):
            raise TypeError(
                f"the factory returned {type(listener).__name__}: it has to be a WSListener")
        transport._listener = opening.listener = listener
        return True
    except BaseException as error:
        opening.error = error
        transport._is_failed = True
        pwu_abort(<pwu_conn*>transport._conn)
        return False


cdef void _on_outcome(void* user, pwu_conn* conn, const pwu_error* error) noexcept:
    cdef WSTransport transport = <WSTransport>user
    cdef _Opening opening = transport._opening
    if opening is None:
        return
    try:
        if error is not NULL:
            opening.settle(_exception_of(error))
        else:
            opening.settle(opening.error)
    except BaseException as failure:
        transport._logger.error("the outcome of a handshake cannot be reported", exc_info=failure)
    transport._opening = None


cdef object _exception_of(const pwu_error* error):
    """The exception for an error of the library."""
    cdef pwu_str head, body
    cdef int kind = pwu_error_kind(error)
    cdef int errno = pwu_error_errno(error)
    text = pwu_error_text(error).decode("utf-8", "replace")
    head.size = body.size = 0
    pwu_error_response(error, &head, &body)
    if head.size:
        is_malformed = kind == PWU_ERROR_ANSWER_MALFORMED
        return _http.describe_refusal(_bytes(head), _bytes(body), text, is_malformed)
    if kind == PWU_ERROR_ANSWER_MALFORMED:
        return WSInvalidMessageError(text)
    if kind == PWU_ERROR_TIMEOUT:
        return asyncio.TimeoutError(text)
    if kind == PWU_ERROR_DISCONNECTED and errno == 0:
        return WSHandshakeError(text)
    if errno:
        return OSError(errno, text)
    if kind in (PWU_ERROR_SETTING, PWU_ERROR_OPTION, PWU_ERROR_URL):
        return ValueError(text)
    return WSHandshakeError(text) if kind >= PWU_ERROR_URL else RuntimeError(text)


cdef object _take_error(pwu_error* error):
    """The same, of an error that is ours to free."""
    if error is NULL:
        return RuntimeError("the library has failed without a reason")
    try:
        return _exception_of(error)
    finally:
        pwu_error_free(error)


cdef void _on_disconnected(void* user, pwu_conn* conn) noexcept:
    cdef WSTransport transport = <WSTransport>user
    try:
        _note_end(transport)
        if transport._listener is not None:
            (<WSListener>transport._listener).on_ws_disconnected(transport)
    except BaseException as error:
        transport._fail(error, "on_ws_disconnected")
    try:
        _release(transport)
    except BaseException as error:
        transport._logger.error("the end of a connection cannot be reported", exc_info=error)


cdef object _note_end(WSTransport transport):
    cdef pwu_close_info info
    transport.is_disconnected = True
    transport._read_close()
    info.size = sizeof(info)
    if pwu_get_close_info(<pwu_conn*>transport._conn, &info) != PWU_OK:
        return None
    if info.cause == PWU_CAUSE_PROTOCOL and transport._exception is None:
        code = _close_code(info.sent_code or WSCloseCode.PROTOCOL_ERROR)
        text = _text(info.cause_text)
        error = WSProtocolError(code, text[max(text.find("Received"), 0):])
        if transport.is_client_side:
            transport._exception = error
        else:
            transport._logger.warning("a connection has ended: %s", error)
    return None


cdef object _release(WSTransport transport):
    """Lets everything go that belongs to a connection which is open."""
    waiter = transport._pong_waiter
    if waiter is not None and not waiter.done():
        waiter.set_exception(ConnectionResetError("the connection has ended"))
    if not transport._disconnected.done():
        transport._disconnected.set_result(None)
    if transport._server is not None:
        transport._server._detach(transport)
    if transport._underlying is not None:
        transport._underlying._forget()
    if transport._given_socket is not None:
        transport._given_socket.close()
    return None


cdef void _free_user(void* user) noexcept:
    cdef WSTransport transport = <WSTransport>user
    # Breaks the cycle of a listener that has kept its transport.
    transport._listener = None
    Py_DECREF(transport)


cdef pwu_callbacks _callbacks
_callbacks.size = sizeof(pwu_callbacks)
_callbacks.on_connected = _on_connected
_callbacks.on_frame = _on_frame
_callbacks.on_disconnected = _on_disconnected
_callbacks.send_ping = _send_ping
_callbacks.is_pong = _is_pong
_callbacks.pause_writing = _pause_writing
_callbacks.resume_writing = _resume_writing
_callbacks.free_user = _free_user
