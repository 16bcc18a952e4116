# cython: language_level=3
# A listener in Cython: the package calls it through a slot of a C table, and it calls the transport the
# same way. echo_client.py runs it.

from time import perf_counter

from picows_uring.picows cimport WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport


cdef class EchoClient(WSListener):
    """Sends a message, and sends it again with each answer."""

    cdef:
        readonly unsigned long count
        readonly double seconds
        bytes _message
        double _since
        double _duration

    def __init__(self, size_t message_size, double duration):
        self._message = b"x" * message_size
        self._duration = duration

    cpdef on_ws_connected(self, WSTransport transport):
        self._since = perf_counter()
        transport.send(WSMsgType.BINARY, self._message)

    cpdef on_ws_frame(self, WSTransport transport, WSFrame frame):
        cdef double now
        if frame.msg_type == WSMsgType.CLOSE:
            transport.disconnect()
            return
        self.count += 1
        now = perf_counter()
        if now - self._since < self._duration:
            transport.send(WSMsgType.BINARY, self._message)
        else:
            self.seconds = now - self._since
            transport.send_close(WSCloseCode.OK)
