# cython: language_level=3
# The server of an echo in Cython: the payload is sent from where it lies. echo_server.py runs it.

from picows_uring.picows cimport WSFrame, WSListener, WSMsgType, WSTransport


cdef class EchoServer(WSListener):
    """Sends each frame back as it came."""

    cpdef on_ws_frame(self, WSTransport transport, WSFrame frame):
        if frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()
        else:
            transport.forward(frame)
