# What an application derives from. Included by picows.pyx.

cdef class WSListener:
    """Receives the events of one connection.

    Called on the thread of the loop, in the order ``on_ws_connected``, any number of ``on_ws_frame``,
    ``on_ws_disconnected``; the last exactly once, and only after the first. An exception ends the
    connection with CLOSE 1011, or with what a ``WSProtocolError`` carries, and
    ``WSTransport.wait_disconnected`` of a client raises it. While a callback runs, no other connection
    of the loop is served.
    """

    cpdef on_ws_connected(self, WSTransport transport):
        """The handshake is done: `transport` can send."""

    cpdef on_ws_frame(self, WSTransport transport, WSFrame frame):
        """A frame was received. It is lent for the time of the call.

        PING is answered and not delivered, unless ``enable_auto_pong=False``. CLOSE is the
        application's to answer: ``transport.send_close(frame.get_close_code(),
        frame.get_close_message())`` and ``transport.disconnect()``.
        """

    cpdef on_ws_disconnected(self, WSTransport transport):
        """The connection is over."""

    cpdef send_user_specific_ping(self, WSTransport transport):
        """An automatic ping is due, or a round trip is measured: sends what the peer answers. By
        default an empty PING."""
        transport.send_ping()

    cpdef is_user_specific_pong(self, WSFrame frame):
        """Whether `frame` answers the last ping. Asked only while an answer is awaited; a frame that
        does is not delivered. By default every PONG does."""
        return frame.msg_type == WSMsgType.PONG

    cpdef pause_writing(self):
        """More bytes are queued than the high watermark (64 KiB by default), and the socket does not
        take them: stop sending until ``resume_writing``."""

    cpdef resume_writing(self):
        """The queue has drained to the low watermark (16 KiB by default)."""
