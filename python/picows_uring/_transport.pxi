# The handle of a connection. Included by picows.pyx.

# From here on, a server's `bytes` are kept by reference instead of copied.
cdef enum:
    OWNED_BYTES_MIN = 1024
    HEADROOM_BYTES = 14


cdef class WSTransport:
    """A connection: sends, and ends.

    Belongs to the thread of its loop; a call on another thread raises ``RuntimeError``. No method
    blocks: what is sent is queued and leaves at the end of the loop's turn. After a CLOSE was sent, and
    after the end, sending does nothing.

    :ivar request: ``WSUpgradeRequest``
    :ivar response: ``WSUpgradeResponse``
    :ivar is_client_side: whether this side connected
    :ivar is_secure: whether TLS is spoken
    :ivar is_disconnected: whether the connection is over
    """

    def __init__(self):
        raise TypeError("transports are made by ws_connect and ws_create_server")

    def __dealloc__(self):
        if self._conn is not NULL and self._process == _process and _is_thread(self._thread_id):
            pwu_conn_unref(<pwu_conn*>self._conn)

    def __repr__(self):
        side = "client" if self.is_client_side else "server"
        state = "disconnected" if self.is_disconnected else "connected"
        return f"<WSTransport {side} {state}>"

    # -- questions ------------------------------------------------------------------------------------

    @property
    def underlying_transport(self):
        """An ``asyncio.Transport`` for questions and settings: ``get_extra_info``,
        ``set_write_buffer_limits``, ``pause_reading`` and their kin."""
        if self._underlying is None:
            from ._shim import UnderlyingTransport
            self._underlying = UnderlyingTransport(self, self._carrier)
        return self._underlying

    @property
    def engine(self):
        """``"native"``: the worker has the socket; ``"loop"``: a transport of the loop brings its
        bytes, as for TLS."""
        return "native" if self._carrier is None else "loop"

    @property
    def close_handshake(self):
        """``WSCloseHandshake``; ``None`` while no CLOSE was sent or received."""
        self._read_close()
        return self._close_handshake

    @property
    def is_close_frame_sent(self):
        """Whether a CLOSE was sent, after which nothing is."""
        self._read_close()
        return self._close_handshake is not None and self._close_handshake.sent is not None

    @property
    def buffered_amount(self):
        """Bytes that were queued and that the kernel has not taken."""
        self._check_thread("buffered_amount")
        return self._buffered()

    # -- sending --------------------------------------------------------------------------------------

    cpdef send(self, WSMsgType msg_type, message, bint fin=True, bint rsv1=False, bint rsv2=False,
               bint rsv3=False):
        """Sends a frame.

        :param msg_type: ``WSMsgType``
        :param message: ``str`` (sent as UTF-8), ``bytes``, ``bytearray``, ``memoryview``, or ``None``
        :param fin: whether it is the last frame of its message
        :param rsv1: first reserved bit; `rsv2` and `rsv3` are the others
        :raises RuntimeError: on another thread
        :raises TypeError: if `message` is something else
        :raises ValueError: if a control frame would have more than 125 bytes
        """
        cdef:
            unsigned rsv = (rsv1 << 2) | (rsv2 << 1) | rsv3
            const char* payload = NULL
            Py_ssize_t size = 0
            Py_buffer view
        # The thread is checked by the library, and where that is not called.
        if type(message) is bytes:
            payload, size = PyBytes_AS_STRING(message), PyBytes_GET_SIZE(message)
            self._send_bytes(msg_type, payload, size, fin, rsv, message)
        elif message is None:
            self._send_bytes(msg_type, NULL, 0, fin, rsv, None)
        elif isinstance(message, str):
            payload = PyUnicode_AsUTF8AndSize(message, &size)
            self._send_bytes(msg_type, payload, size, fin, rsv, None)
        else:
            PyObject_GetBuffer(message, &view, PyBUF_SIMPLE)
            try:
                self._send_bytes(msg_type, <const char*>view.buf, view.len, fin, rsv, None)
            finally:
                PyBuffer_Release(&view)

    cdef NoResult _send_bytes(
            self, int msg_type, const char* payload, Py_ssize_t size, bint fin, unsigned rsv,
            object owner) except NoResult.EXC:
        cdef int status
        if self._conn is NULL or self.is_disconnected or self._is_closing:
            return self._check_thread("send")
        if owner is not None and size >= OWNED_BYTES_MIN and not self.is_client_side:
            Py_INCREF(owner)
            status = pwu_send_owned(
                <pwu_conn*>self._conn, msg_type, fin, rsv, payload, size, _release_owned,
                <void*>owner)
        elif msg_type == WSMsgType.CLOSE:
            self._check_thread("send")
            return self._send_raw_close(payload, size)
        else:
            status = pwu_send_frame(<pwu_conn*>self._conn, msg_type, fin, rsv, payload, size)
        if status == PWU_OK:
            return NoResult.SUCCESS
        if status == PWU_WRONG_THREAD or status == PWU_FORKED:
            self._check_thread("send")
        if status == PWU_INVALID and msg_type not in _TYPE_NAMES:
            # Not a type of RFC 6455. The peer is the judge, as in picows.
            return self._send_unknown(msg_type, payload, size, fin, rsv)
        return self._after_send(status)

    cdef NoResult _after_send(self, int status) except NoResult.EXC:
        if status == PWU_CONGESTED:
            return self._take_pause()
        if status >= 0 or status in (PWU_CLOSED, PWU_DROPPED, PWU_LOST):
            return NoResult.SUCCESS
        text = pwu_last_error().decode("utf-8", "replace")
        if status in (PWU_REFUSED, PWU_INVALID):
            raise ValueError(text)
        raise RuntimeError(text)

    cdef NoResult _take_pause(self) except NoResult.EXC:
        """Above the high watermark: offers the socket what is queued, and where it does not take that,
        the listener hears of it before the call returns. Else ``while not paused: send()`` would not
        end."""
        if not self._worker._is_in_turn:
            # Calls pause_writing itself.
            pwu_worker_flush(<pwu_worker*>self._worker._handle)
        elif pwu_take_pause(<pwu_conn*>self._conn) == 1:
            _pause_writing(<void*>self, <pwu_conn*>self._conn)
        return NoResult.SUCCESS

    cdef NoResult _send_raw_close(self, const char* payload, Py_ssize_t size) except NoResult.EXC:
        """A CLOSE whose payload the caller has put together."""
        cdef int code = 0
        if size == 1:
            raise ValueError("the payload of a CLOSE begins with two bytes of its code")
        if size >= 2:
            code = (<unsigned char>payload[0] << 8) | <unsigned char>payload[1]
            return self._after_send(
                pwu_send_close(<pwu_conn*>self._conn, code, payload + 2, size - 2))
        return self._after_send(pwu_send_close(<pwu_conn*>self._conn, 0, NULL, 0))

    cdef NoResult send_reuse_external_buffer(
            self, WSMsgType msg_type, char* msg_ptr, Py_ssize_t msg_size,
            bint fin=True, bint rsv1=False, bint rsv2=False, bint rsv3=False) except NoResult.EXC:
        """Sends a frame whose header is written into the 14 bytes in front of `msg_ptr`. On a client the
        payload is masked in place: it is garbage afterwards, and the memory can be used again."""
        cdef int status
        self._check_thread("send_reuse_external_buffer")
        if msg_type == WSMsgType.CLOSE:
            raise ValueError("CLOSE cannot be sent this way: use send_close")
        if self._conn is NULL or self.is_disconnected or self._is_closing:
            return NoResult.SUCCESS
        status = pwu_send_headroom(
            <pwu_conn*>self._conn, msg_type, fin, (rsv1 << 2) | (rsv2 << 1) | rsv3,
            <unsigned char*>msg_ptr, msg_size)
        if status == PWU_OK:
            return NoResult.SUCCESS
        return self._after_send(status)

    cpdef send_reuse_external_bytearray(
            self, WSMsgType msg_type, bytearray buffer, Py_ssize_t msg_offset,
            bint fin=True, bint rsv1=False, bint rsv2=False, bint rsv3=False):
        """Sends ``buffer[msg_offset:]`` without a copy where the socket takes it at once. The header is
        written in front of the payload, and a client masks that in place: both are garbage afterwards,
        and the buffer can be used again.

        :param msg_offset: where the payload begins: 14 or more
        :raises ValueError: if there is no buffer, no room in front of the payload, or the type is CLOSE
        """
        self._check_thread("send_reuse_external_bytearray")
        if buffer is None:
            raise ValueError("buffer is None: give a bytearray")
        if msg_offset < HEADROOM_BYTES:
            raise ValueError(f"msg_offset is {msg_offset}: the header needs {HEADROOM_BYTES} bytes")
        if msg_offset > len(buffer):
            raise ValueError(f"msg_offset is {msg_offset}, past the end of {len(buffer)} bytes")
        self.send_reuse_external_buffer(
            msg_type, PyByteArray_AS_STRING(buffer) + msg_offset, len(buffer) - msg_offset,
            fin, rsv1, rsv2, rsv3)

    cpdef send_latest(self, unsigned long long key, WSMsgType msg_type, message):
        """Sends a message that a later one with the same `key` replaces, as long as the peer has not
        taken it: a slow peer gets fewer messages, each of them new.

        :param key: a number below 2**64, such as that of an instrument
        :param message: as for ``send``
        """
        cdef:
            Py_ssize_t size = 0
            const char* payload
            bytes copied
        self._check_thread("send_latest")
        if self._conn is NULL or self.is_disconnected or self._is_closing:
            return
        copied = message.encode() if isinstance(message, str) else bytes(message or b"")
        payload, size = PyBytes_AS_STRING(copied), PyBytes_GET_SIZE(copied)
        self._after_send(pwu_send_latest(<pwu_conn*>self._conn, key, msg_type, payload, size))

    cpdef forward(self, WSFrame frame):
        """Sends a frame on, in the callback that it was given to: with its type, FIN and RSV bits, and
        on a server without a copy of a large payload. On this connection it is an echo, on another one
        of the same loop a relay."""
        self._check_thread("forward")
        frame._check()
        if self._conn is NULL or self.is_disconnected or self._is_closing:
            return
        if frame._shown is NULL:
            self._send_bytes(
                frame.msg_type, frame.payload_ptr, frame.payload_size, frame.fin,
                (frame.rsv1 << 2) | (frame.rsv2 << 1) | frame.rsv3, None)
        else:
            self._after_send(pwu_forward(<pwu_conn*>self._conn, <const pwu_frame*>frame._shown))

    cpdef send_ping(self, message=None):
        """Sends a PING with at most 125 bytes."""
        self._check_thread("send_ping")
        self.send(WSMsgType.PING, message)

    cpdef send_pong(self, message=None):
        """Sends a PONG with at most 125 bytes."""
        self._check_thread("send_pong")
        self.send(WSMsgType.PONG, message)

    cpdef send_close(self, close_code=0, close_message=None):
        """Sends a CLOSE; nothing is sent after it. Does not disconnect.

        :param close_code: ``WSCloseCode``, or an ``int`` of 3000 to 4999; ``NO_INFO`` sends an empty CLOSE
        :param close_message: reason: ``str``, or bytes of UTF-8; more than 123 bytes are cut
        :raises ValueError: if no peer may be sent this code, such as 1006
        """
        cdef bytes reason
        self._check_thread("send_close")
        if self._conn is NULL or self.is_disconnected or self._is_closing:
            return
        if isinstance(close_message, str):
            reason = (<str>close_message).encode("utf-8", "surrogateescape")
        else:
            reason = bytes(close_message or b"")
        self._after_send(pwu_send_close(
            <pwu_conn*>self._conn, int(close_code), PyBytes_AS_STRING(reason), len(reason)))

    # -- the end --------------------------------------------------------------------------------------

    cpdef disconnect(self, bint graceful=True):
        """Ends the connection. May be called any number of times. ``on_ws_disconnected`` follows, not in
        this call.

        :param graceful: send first what is queued, for 5 s at most; else drop it
        """
        self._check_thread("disconnect")
        if self._conn is NULL or self.is_disconnected:
            return
        if graceful:
            pwu_disconnect(<pwu_conn*>self._conn)
        else:
            pwu_abort(<pwu_conn*>self._conn)
            if self._carrier is not None:
                self._carrier.abort()
        self._is_closing = True

    async def wait_disconnected(self):
        """Waits for the end of the connection. Any number of tasks may wait.

        :raises Exception: on a client, the exception of a callback that has ended the connection, or
            ``WSProtocolError`` if the peer broke the protocol. That the peer closed, or is gone, raises
            nothing.
        """
        self._check_thread("wait_disconnected")
        if not self.is_disconnected:
            await asyncio.shield(self._disconnected)
        if self.is_client_side and self._exception is not None:
            raise self._exception

    async def measure_roundtrip_time(self, int rounds):
        """Measures how long pings take to be answered, one after the other.

        :return: list of `rounds` times in seconds
        :raises ConnectionResetError: if the connection ends before
        """
        cdef list results = []
        self._check_thread("measure_roundtrip_time")
        if self._pong_waiter is not None:
            raise RuntimeError("a round trip is being measured: wait for its end")
        for _ in range(rounds):
            if self.is_disconnected or self._is_closing:
                raise ConnectionResetError("the connection has ended")
            self._pong_waiter = waiter = self._worker.loop.create_future()
            try:
                since = time.perf_counter()
                (<WSListener>self._listener).send_user_specific_ping(self)
                results.append((await waiter) - since)
            finally:
                self._pong_waiter = None
        return results

    cpdef notify_user_specific_pong_received(self):
        """The frame that is being handled answers the last ping: for listeners that know only after
        parsing. Harmless when no answer is awaited."""
        self._check_thread("notify_user_specific_pong_received")
        self._note_pong()
        if self._conn is not NULL:
            pwu_pong_received(<pwu_conn*>self._conn)

    def _note_pong(self):
        if self._pong_waiter is not None and not self._pong_waiter.done():
            self._pong_waiter.set_result(time.perf_counter())

    def _read_close(self):
        """Notes what the library knows of the close handshake."""
        cdef pwu_close_info info
        cdef WSCloseHandshake handshake
        if self._conn is NULL or self._process != _process or not _is_thread(self._thread_id):
            return
        info.size = sizeof(info)
        if pwu_get_close_info(<pwu_conn*>self._conn, &info) != PWU_OK:
            return
        if not (info.is_sent or info.is_received):
            return
        handshake = WSCloseHandshake.__new__(WSCloseHandshake)
        if info.is_received:
            handshake.recv = _close_info(info.received_code, info.received_reason)
        if info.is_sent:
            handshake.sent = _close_info(info.sent_code, info.sent_reason)
        handshake.recv_then_sent = info.is_received and (info.received_first or not info.is_sent)
        self._close_handshake = handshake

    cdef NoResult _check_thread(self, str method) except NoResult.EXC:
        if self._process != _process:
            raise RuntimeError(
                f"WSTransport.{method} called in a child of fork: the connection is its parent's")
        if not _is_thread(self._thread_id):
            raise RuntimeError(f"WSTransport.{method} called from a wrong thread")
        return NoResult.SUCCESS

    cdef object _fail(self, object error, str callback):
        """Ends the connection for the exception of a callback."""
        cdef int code = WSCloseCode.INTERNAL_ERROR
        cdef object message = None
        if not isinstance(error, Exception):
            if self._worker._exit is None:
                self._worker._exit = error
        elif callback == "on_ws_frame" and not self._disconnect_on_exception:
            self._logger.error("%s raised, and the connection stays", callback, exc_info=error)
            return None
        elif not self.is_client_side:
            self._logger.error("%s raised, and its connection ends", callback, exc_info=error)
        if self._exception is None:
            self._exception = error
        self._is_failed = True
        if self._conn is NULL or self.is_disconnected:
            return None
        if isinstance(error, WSProtocolError):
            code, message = int(error.code), error.message
        try:
            if not self._is_closing:
                self.send_close(code, message)
            self.disconnect()
        except Exception as failure:
            self._logger.error("the exception's own CLOSE cannot be sent", exc_info=failure)
            self.disconnect()
        return None

    # -- for underlying_transport ---------------------------------------------------------------------

    def _buffered(self):
        return 0 if self._conn is NULL else pwu_buffered(<pwu_conn*>self._conn)

    def _descriptor(self):
        return -1 if self._conn is NULL or self.is_disconnected else pwu_socket(<pwu_conn*>self._conn)

    def _is_transport_closing(self):
        return self.is_disconnected or self._is_closing

    def _set_watermarks(self, high, low):
        self._check_thread("underlying_transport.set_write_buffer_limits")
        if self._conn is not NULL and not self.is_disconnected:
            high = min(high, QUEUE_BYTES_MAX)
            self._after_send(
                pwu_set_watermarks(<pwu_conn*>self._conn, high, min(low, high)))

    def _pause_reading(self, bint pause):
        self._check_thread("underlying_transport.pause_reading")
        if self._conn is not NULL and not self.is_disconnected:
            pwu_pause_reading(<pwu_conn*>self._conn, pause)

    def _write_raw(self, data):
        cdef bytes copied = bytes(data)
        self._check_thread("underlying_transport.write")
        if self._conn is not NULL and not self.is_disconnected:
            pwu_test_write_raw(<pwu_conn*>self._conn, PyBytes_AS_STRING(copied), len(copied))

    cdef NoResult _send_unknown(
            self, int msg_type, const char* payload, Py_ssize_t size, bint fin,
            unsigned rsv) except NoResult.EXC:
        """Sends a frame of a type that RFC 6455 does not have."""
        cdef bytes data = PyBytes_FromStringAndSize(payload, size) if size else b""
        head = bytearray([(fin << 7) | (rsv << 4) | (msg_type & 15)])
        mask = 0x80 if self.is_client_side else 0
        if size < 126:
            head.append(mask | size)
        elif size < 65536:
            head += bytes([mask | 126]) + size.to_bytes(2, "big")
        else:
            head += bytes([mask | 127]) + size.to_bytes(8, "big")
        # A key of zeros leaves the payload as it is.
        self._write_raw(bytes(head) + (b"\0\0\0\0" if mask else b"") + data)
        return NoResult.SUCCESS


cdef WSCloseInfo _close_info(int code, pwu_str reason):
    cdef WSCloseInfo info = WSCloseInfo.__new__(WSCloseInfo)
    info.code = _close_code(code)
    info.reason = _text(reason) if reason.size else None
    return info


cdef void _release_owned(void* owner) noexcept:
    Py_DECREF(<object>owner)
