# Frames and what is known of a close handshake. Included by picows.pyx.

cdef class WSCloseInfo:
    """Code and reason of a CLOSE.

    :ivar code: ``WSCloseCode``, or an ``int`` that is none of those; ``NO_INFO`` for an empty CLOSE
    :ivar reason: ``str``, or ``None``
    """

    def __repr__(self):
        return f"WSCloseInfo(code={self.code!r}, reason={self.reason!r})"


cdef class WSCloseHandshake:
    """Which CLOSE frames a connection has seen.

    :ivar recv: ``WSCloseInfo`` of the peer's, or ``None``
    :ivar sent: ``WSCloseInfo`` of ours, or ``None``
    :ivar recv_then_sent: whether the peer's came first
    """

    def __repr__(self):
        return (f"WSCloseHandshake(recv={self.recv!r}, sent={self.sent!r}, "
                f"recv_then_sent={bool(self.recv_then_sent)})")


cdef enum:
    # Smaller payloads are cheaper to copy than to keep.
    KEPT_BYTES_MIN = 4096


cdef object _close_code(int code):
    """The member of WSCloseCode, or the number where there is none."""
    try:
        return WSCloseCode(code)
    except ValueError:
        return code


cdef dict _TYPE_NAMES = {0: "CONTINUATION", 1: "TEXT", 2: "BINARY", 8: "CLOSE", 9: "PING", 10: "PONG"}


@cython.freelist(16)
cdef class WSFrame:
    """A frame that was received, for the time of the callback that it is given to.

    Its payload lies in the receive buffer. Once the callback has returned, what asks for it raises
    ``RuntimeError``, and a ``memoryview`` of it raises ``ValueError``: copy what has to stay.

    :ivar msg_type: ``WSMsgType``
    :ivar fin: whether it is the last frame of its message
    :ivar rsv1: first reserved bit; ``rsv2`` and ``rsv3`` are the others
    :ivar last_in_buffer: whether no further complete frame was received yet
    :ivar tail_size: bytes that were received behind this frame
    :ivar payload_size: bytes of the payload
    """

    def __init__(self):
        raise TypeError("frames are made by connections")

    cdef NoResult _check(self) except NoResult.EXC:
        if self.payload_ptr is NULL:
            raise RuntimeError(
                "the frame's callback has returned, and its payload is gone: copy it in the callback")
        return NoResult.SUCCESS

    cdef NoResult _end(self) except NoResult.EXC:
        """Ends the life of the payload. A view that the callback has kept is released."""
        cdef object view
        self.payload_ptr = NULL
        self._shown = NULL
        if self._view is None:
            return NoResult.SUCCESS
        view, self._view = self._view, None
        if Py_REFCNT(view) > 1:
            try:
                view.release()
            except BufferError:
                # An array is made of it, which keeps the payload's memory.
                pass
        return NoResult.SUCCESS

    cpdef bytes get_payload_as_bytes(self):
        """The payload, copied."""
        self._check()
        return PyBytes_FromStringAndSize(self.payload_ptr, self.payload_size)

    cpdef str get_payload_as_utf8_text(self):
        """The payload as text.

        :raises UnicodeDecodeError: if it is not UTF-8
        """
        self._check()
        return PyUnicode_DecodeUTF8(self.payload_ptr, self.payload_size, NULL)

    cpdef str get_payload_as_ascii_text(self):
        """The payload as text, a little faster than as UTF-8.

        :raises UnicodeDecodeError: if it is not ASCII
        """
        self._check()
        return PyUnicode_DecodeASCII(self.payload_ptr, self.payload_size, NULL)

    cpdef object get_payload_as_memoryview(self):
        """The payload as a read-only view, for the time of the callback. Slices of it and arrays made of it
        may be kept: their memory is never used for other data. A large payload that was received in
        pieces is not copied, and all of it stays while there are such; others are copies."""
        self._check()
        if self._view is None:
            self._view = _view_of(self)
        return self._view

    cpdef object get_close_code(self):
        """``WSCloseCode`` of a CLOSE; ``NO_INFO`` if it carries none, an ``int`` if it is no member.

        :raises RuntimeError: if the frame is no CLOSE
        """
        self._check()
        self._check_close()
        if self.payload_size < 2:
            return WSCloseCode.NO_INFO
        return _close_code(
            (<unsigned char>self.payload_ptr[0] << 8) | <unsigned char>self.payload_ptr[1])

    cpdef bytes get_close_message(self):
        """The reason of a CLOSE as bytes; ``None`` if there is none.

        :raises RuntimeError: if the frame is no CLOSE
        """
        self._check()
        self._check_close()
        if self.payload_size <= 2:
            return None
        return PyBytes_FromStringAndSize(self.payload_ptr + 2, self.payload_size - 2)

    cpdef str get_close_reason(self):
        """The reason of a CLOSE as text; ``None`` if there is none.

        :raises RuntimeError: if the frame is no CLOSE
        """
        cdef bytes message = self.get_close_message()
        return None if message is None else message.decode("utf-8")

    def _check_close(self):
        if self.msg_type != WSMsgType.CLOSE:
            name = _TYPE_NAMES.get(<int>self.msg_type)
            raise RuntimeError(f"the frame is {name}: only CLOSE has a code and a reason")

    def __str__(self):
        name = _TYPE_NAMES.get(<int>self.msg_type, <int>self.msg_type)
        return (f"WSFrame({name}, fin={bool(self.fin)}, rsv1={bool(self.rsv1)}, "
                f"rsv2={bool(self.rsv2)}, rsv3={bool(self.rsv3)}, payload_size={self.payload_size}, "
                f"last_in_buffer={bool(self.last_in_buffer)}, tail_size={self.tail_size})")

    def __repr__(self):
        return str(self)


cdef class _Payload:
    """The payload of a frame that was received in pieces, in memory of its own: stays as long as there
    is a view of it, or anything made of one."""
    cdef:
        pwu_kept* kept
        char* data
        Py_ssize_t size
        unsigned long thread_id
        unsigned long process

    def __cinit__(self):
        self.kept = NULL

    def __getbuffer__(self, Py_buffer* view, int flags):
        PyBuffer_FillInfo(view, self, self.data, self.size, 1, flags)

    def __dealloc__(self):
        if self.kept is NULL or self.process != _process:
            return
        if _is_thread(self.thread_id):
            pwu_kept_free(self.kept)
        else:
            _leave_behind(self.thread_id, self.kept)


# Payloads whose last view went on another thread, by the thread that has to free them.
cdef dict _left_behind = {}


cdef void _leave_behind(unsigned long thread_id, pwu_kept* kept) noexcept:
    try:
        _left_behind.setdefault(thread_id, []).append(<size_t>kept)
    except BaseException:
        # It stays, for want of memory to note it in.
        pass


cdef void _free_left_behind(unsigned long thread_id):
    for kept in _left_behind.pop(thread_id, ()):
        pwu_kept_free(<pwu_kept*><size_t>kept)


cdef object _view_of(WSFrame frame):
    cdef _Payload payload
    cdef pwu_kept* kept = NULL
    if frame._shown is not NULL and frame.payload_size >= KEPT_BYTES_MIN:
        kept = pwu_frame_keep(<const pwu_frame*>frame._shown)
    if kept is not NULL:
        payload = _Payload.__new__(_Payload)
        payload.kept, payload.data, payload.size = kept, frame.payload_ptr, frame.payload_size
        payload.thread_id, payload.process = PyThread_get_thread_ident(), _process
        return PyMemoryView_FromObject(payload)
    # A copy, which stays what it is whatever is made of it.
    return PyMemoryView_FromObject(
        PyBytes_FromStringAndSize(frame.payload_ptr, frame.payload_size))


def _make_test_ws_frame(int msg_type, bytes payload, bint fin=True, bint rsv1=False):
    """Makes a frame that no connection received, for tests of listeners."""
    cdef WSFrame frame = WSFrame.__new__(WSFrame)
    frame._kept = payload
    frame.payload_ptr = PyBytes_AS_STRING(payload)
    frame.payload_size = len(payload)
    frame.msg_type = <WSMsgType>msg_type
    frame.fin, frame.rsv1, frame.rsv2, frame.rsv3 = fin, rsv1, 0, 0
    frame.last_in_buffer, frame.tail_size = 1, 0
    return frame
