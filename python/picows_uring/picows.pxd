# The interface for Cython: derive from WSListener, call the methods of WSTransport as C functions.

from libc.stdint cimport uint8_t


cdef enum NoResult:
    # What functions return that have no result: the caller checks it for EXC, which means that an
    # exception was raised, and no reference to None is counted.
    EXC = -1
    SUCCESS = 0


cpdef enum WSMsgType:
    CONTINUATION = 0x0
    TEXT = 0x1
    BINARY = 0x2
    CLOSE = 0x8
    PING = 0x9
    PONG = 0xA


cpdef enum WSCloseCode:
    NO_INFO = 0
    OK = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    UNSUPPORTED_DATA = 1003
    ABNORMAL_CLOSURE = 1006
    INVALID_TEXT = 1007
    POLICY_VIOLATION = 1008
    MESSAGE_TOO_BIG = 1009
    MANDATORY_EXTENSION = 1010
    INTERNAL_ERROR = 1011
    SERVICE_RESTART = 1012
    TRY_AGAIN_LATER = 1013
    BAD_GATEWAY = 1014


cpdef enum WSAutoPingStrategy:
    PING_WHEN_IDLE = 1
    PING_PERIODICALLY = 2


cdef class WSCloseInfo:
    cdef:
        readonly object code            #: WSCloseCode, or int where that has no such member
        readonly str reason             #: None if there is none


cdef class WSCloseHandshake:
    cdef:
        readonly WSCloseInfo recv       #: None if no CLOSE was received
        readonly WSCloseInfo sent       #: None if none was sent
        readonly bint recv_then_sent


cdef class WSFrame:
    cdef:
        char* payload_ptr               # NULL once the callback has returned
        readonly Py_ssize_t payload_size
        readonly Py_ssize_t tail_size
        readonly WSMsgType msg_type
        readonly uint8_t fin
        readonly uint8_t rsv1
        readonly uint8_t rsv2
        readonly uint8_t rsv3
        readonly uint8_t last_in_buffer

        const void* _shown              # what the library shows, for forward()
        object _view                    # the memoryview that was given out
        bytes _kept                     # the payload of a frame that no connection received

    cpdef bytes get_payload_as_bytes(self)
    cpdef str get_payload_as_utf8_text(self)
    cpdef str get_payload_as_ascii_text(self)
    cpdef object get_payload_as_memoryview(self)
    cpdef object get_close_code(self)
    cpdef bytes get_close_message(self)
    cpdef str get_close_reason(self)

    cdef NoResult _check(self) except NoResult.EXC
    cdef NoResult _end(self) except NoResult.EXC


cdef class WSTransport:
    cdef:
        object __weakref__
        void* _conn                     # pwu_conn of the library; NULL before the handshake is done
        unsigned long _thread_id
        unsigned long _process
        _Worker _worker
        object _listener
        object _logger
        object _underlying
        object _exception               # of a callback, or why the peer's frames ended it
        object _disconnected            # asyncio.Future
        object _pong_waiter             # asyncio.Future, while a round trip is measured
        object _opening                 # _Opening of a client
        object _server                  # Server that it came by
        object _given_socket            # of the socket factory
        object _carrier                 # what brings the bytes, on the loop engine
        WSCloseHandshake _close_handshake
        bint _is_failed
        bint _is_closing
        bint _disconnect_on_exception

        readonly object request         #: WSUpgradeRequest
        readonly object response        #: WSUpgradeResponse
        readonly bint is_client_side
        readonly bint is_secure
        readonly bint is_disconnected

    cdef NoResult send_reuse_external_buffer(
        self, WSMsgType msg_type, char* msg_ptr, Py_ssize_t msg_size,
        bint fin=*, bint rsv1=*, bint rsv2=*, bint rsv3=*) except NoResult.EXC
    cpdef send(self, WSMsgType msg_type, message, bint fin=*, bint rsv1=*, bint rsv2=*, bint rsv3=*)
    cpdef send_reuse_external_bytearray(
        self, WSMsgType msg_type, bytearray buffer, Py_ssize_t msg_offset,
        bint fin=*, bint rsv1=*, bint rsv2=*, bint rsv3=*)
    cpdef send_latest(self, unsigned long long key, WSMsgType msg_type, message)
    cpdef forward(self, WSFrame frame)
    cpdef send_ping(self, message=*)
    cpdef send_pong(self, message=*)
    cpdef send_close(self, close_code=*, close_message=*)
    cpdef disconnect(self, bint graceful=*)
    cpdef notify_user_specific_pong_received(self)

    cdef NoResult _check_thread(self, str method) except NoResult.EXC
    cdef NoResult _after_send(self, int status) except NoResult.EXC
    cdef NoResult _take_pause(self) except NoResult.EXC
    cdef NoResult _send_bytes(
        self, int msg_type, const char* payload, Py_ssize_t size, bint fin, unsigned rsv,
        object owner) except NoResult.EXC
    cdef NoResult _send_raw_close(self, const char* payload, Py_ssize_t size) except NoResult.EXC
    cdef NoResult _send_unknown(
        self, int msg_type, const char* payload, Py_ssize_t size, bint fin,
        unsigned rsv) except NoResult.EXC
    cdef object _fail(self, object error, str callback)


cdef class WSListener:
    cdef object __weakref__

    cpdef on_ws_connected(self, WSTransport transport)
    cpdef on_ws_frame(self, WSTransport transport, WSFrame frame)
    cpdef on_ws_disconnected(self, WSTransport transport)
    cpdef send_user_specific_ping(self, WSTransport transport)
    cpdef is_user_specific_pong(self, WSFrame frame)
    cpdef pause_writing(self)
    cpdef resume_writing(self)


cdef class _Worker:
    cdef:
        object __weakref__
        void* _handle                   # pwu_worker of the library
        readonly object loop
        WSFrame _frame                  # of the last callback, for the next one
        unsigned long _thread_id
        unsigned long _process
        object _turn_method
        object _call_soon
        object _generator
        object _exit                    # SystemExit or KeyboardInterrupt of a callback
        int _descriptor
        bint _is_scheduled
        bint _is_in_turn
        bint _is_lost

    cdef object _take_turn(self)
