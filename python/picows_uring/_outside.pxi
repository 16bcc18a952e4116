# Streams that transports of the loop carry, for the loop engine. Included by picows.pyx.

cdef class _Stream:
    """The worker's end of a stream: a carrier hands on what its transport receives."""
    cdef:
        pwu_outside* handle
        unsigned long thread_id
        unsigned long process

    def __cinit__(self):
        self.handle = NULL

    def __dealloc__(self):
        if self._is_usable():
            pwu_outside_free(self.handle)

    cdef bint _is_usable(self) noexcept:
        return self.handle is not NULL and self.process == _process and _is_thread(self.thread_id)

    def buffer(self):
        """Memory for what is received next, to be filled before anything else is done."""
        cdef size_t size = 0
        cdef void* memory = pwu_outside_buffer(self.handle, &size) if self._is_usable() else NULL
        if memory is NULL:
            # It is closed.
            return bytearray(4096)
        return PyMemoryView_FromMemory(<char*>memory, size, PyBUF_WRITE)

    def filled(self, size_t count):
        """So many bytes are in it."""
        if self._is_usable():
            pwu_outside_filled(self.handle, count)

    def give(self, const unsigned char[::1] data):
        """The same, of bytes that are elsewhere."""
        cdef size_t size = 0, done = 0
        cdef void* memory
        while done < <size_t>data.shape[0] and self._is_usable():
            memory = pwu_outside_buffer(self.handle, &size)
            if memory is NULL:
                return
            size = min(size, data.shape[0] - done)
            memcpy(memory, &data[done], size)
            pwu_outside_filled(self.handle, size)
            done += size

    def ended(self, int errno):
        """Nothing more is received; errno is 0 if that is an ordinary end."""
        if self._is_usable():
            pwu_outside_ended(self.handle, errno)

    def drained(self):
        """The transport holds nothing any more."""
        if self._is_usable():
            pwu_outside_drained(self.handle)


cdef _Stream _stream_of(pwu_outside* handle):
    cdef _Stream stream = _Stream.__new__(_Stream)
    stream.handle = handle
    stream.thread_id, stream.process = PyThread_get_thread_ident(), _process
    return stream


cdef void _set_reading(void* carrier, int on) noexcept:
    try:
        (<object>carrier).set_reading(bool(on))
    except BaseException as error:
        _report(error)


cdef int _write(void* carrier, const void* data, size_t size) noexcept:
    try:
        return bool((<object>carrier).write(PyBytes_FromStringAndSize(<const char*>data, size)))
    except BaseException as error:
        _report(error)
        # What follows finds the end of the stream.
        return 1


cdef void _shut_down(void* carrier) noexcept:
    try:
        (<object>carrier).shut_down()
    except BaseException as error:
        _report(error)


cdef void _close(void* carrier) noexcept:
    try:
        (<object>carrier).close()
    except BaseException as error:
        _report(error)


cdef void _free_carrier(void* carrier) noexcept:
    Py_DECREF(<object>carrier)


cdef object _report(object error):
    getLogger("picows").error("a transport of the loop has failed", exc_info=error)


cdef pwu_outside_ops _outside_ops
_outside_ops.size = sizeof(pwu_outside_ops)
_outside_ops.set_reading = _set_reading
_outside_ops.write = _write
_outside_ops.shut_down = _shut_down
_outside_ops.close = _close
_outside_ops.free_user = _free_carrier
