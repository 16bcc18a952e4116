# The part of picows_uring.h that the package uses. All callbacks are called with the GIL held, by
# functions that were called with it.

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t


cdef extern from "picows_uring.h":
    ctypedef struct pwu_worker:
        pass
    ctypedef struct pwu_server:
        pass
    ctypedef struct pwu_conn:
        pass
    ctypedef struct pwu_attempt:
        pass
    ctypedef struct pwu_error:
        pass
    ctypedef struct pwu_kept:
        pass
    ctypedef struct pwu_outside:
        pass

    int PWU_OK, PWU_CONGESTED, PWU_REPLACED, PWU_DROPPED_OLDEST, PWU_CLOSED, PWU_DROPPED
    int PWU_REFUSED, PWU_WRONG_THREAD, PWU_FORKED, PWU_INVALID, PWU_INSIDE_TURN, PWU_LOST
    int PWU_BUSY
    int PWU_CAUSE_PROTOCOL
    int PWU_DRIVER_AUTO, PWU_DRIVER_IO_URING, PWU_DRIVER_EPOLL
    int PWU_ERROR_SETTING, PWU_ERROR_DRIVER, PWU_ERROR_SECOND_WORKER, PWU_ERROR_OPTION
    int PWU_ERROR_SOCKET, PWU_ERROR_TIMEOUT, PWU_ERROR_DISCONNECTED, PWU_ERROR_URL
    int PWU_ERROR_ANSWER_MALFORMED

    ctypedef struct pwu_str:
        const char* data
        size_t size

    ctypedef struct pwu_header:
        pwu_str name
        pwu_str value

    ctypedef struct pwu_frame:
        const uint8_t* payload
        size_t size
        size_t tail_size
        uint8_t type
        uint8_t fin
        uint8_t rsv
        uint8_t last_in_buffer

    ctypedef struct pwu_callbacks:
        size_t size
        int (*on_connected)(void*, pwu_conn*) noexcept
        int (*on_frame)(void*, pwu_conn*, const pwu_frame*) noexcept
        void (*on_disconnected)(void*, pwu_conn*) noexcept
        int (*send_ping)(void*, pwu_conn*) noexcept
        int (*is_pong)(void*, pwu_conn*, const pwu_frame*) noexcept
        void (*pause_writing)(void*, pwu_conn*) noexcept
        void (*resume_writing)(void*, pwu_conn*) noexcept
        void (*free_user)(void*) noexcept

    ctypedef struct pwu_outside_ops:
        size_t size
        void (*set_reading)(void*, int) noexcept
        int (*write)(void*, const void*, size_t) noexcept
        void (*shut_down)(void*) noexcept
        void (*close)(void*) noexcept
        void (*free_user)(void*) noexcept

    ctypedef struct pwu_worker_options:
        size_t size
        uint8_t driver
        uint32_t turns_max
        uint64_t memory_limit
        uint32_t slow_callback_ms

    ctypedef struct pwu_options:
        size_t size
        uint64_t max_frame
        uint32_t handshake_ms, close_ms, ping_idle_ms, ping_reply_ms
        uint32_t idle_ms, message_ms, write_stall_ms, lifetime_ms
        uint8_t ping_periodic, auto_pong, auto_close, validate_text, allow_rsv, any_order
        uint8_t disconnect_on_error, queue_policy
        size_t high_watermark, low_watermark, max_queue
        uint8_t keep_request
        uint8_t deflate
        const char* proxy_protocol
        const char* trusted_proxies
        const char* origins

    ctypedef struct pwu_request:
        size_t size
        pwu_str method, target, version, raw_head, peer
        const pwu_header* headers
        size_t count

    ctypedef struct pwu_response:
        size_t size
        uint16_t status
        pwu_str raw_head, subprotocol

    ctypedef struct pwu_answer:
        size_t size
        uint16_t status
        pwu_str subprotocol
        const pwu_header* headers
        size_t count
        pwu_str body
        const pwu_callbacks* callbacks
        void* user
        void (*release)(void*) noexcept
        void* release_user

    ctypedef struct pwu_close_info:
        size_t size
        uint8_t is_sent, is_received, received_first
        uint16_t sent_code, received_code
        pwu_str sent_reason, received_reason
        int cause
        pwu_str cause_text

    const char* pwu_last_error()
    int pwu_options_init(pwu_options*, size_t, int)
    pwu_worker* pwu_worker_new(const pwu_worker_options*, pwu_error**)
    int pwu_worker_free(pwu_worker*)
    int pwu_worker_fd(const pwu_worker*)
    int pwu_worker_turn(pwu_worker*, unsigned)
    int pwu_worker_on_work(pwu_worker*, void (*)(void*) noexcept, void*, void (*)(void*) noexcept)
    int pwu_worker_flush(pwu_worker*)
    pwu_server* pwu_listen(
        pwu_worker*, const char*, int, const pwu_options*,
        int (*)(void*, const pwu_request*, pwu_answer*) noexcept, void*, void (*)(void*) noexcept,
        pwu_error**)
    int pwu_server_close(pwu_server*)
    pwu_attempt* pwu_connect(
        pwu_worker*, const char*, int, const pwu_header*, size_t, const pwu_options*,
        const pwu_callbacks*, void*, void (*)(void*, pwu_conn*, const pwu_error*) noexcept,
        pwu_error**)
    pwu_attempt* pwu_connect_outside(
        pwu_worker*, const char*, const pwu_outside_ops*, void*, pwu_outside**, const pwu_header*,
        size_t, const pwu_options*, const pwu_callbacks*, void*,
        void (*)(void*, pwu_conn*, const pwu_error*) noexcept, pwu_error**)
    pwu_server* pwu_serve_outside(
        pwu_worker*, const pwu_options*,
        int (*)(void*, const pwu_request*, pwu_answer*) noexcept, void*, void (*)(void*) noexcept,
        pwu_error**)
    pwu_outside* pwu_accept_outside(
        pwu_worker*, const pwu_server*, const pwu_outside_ops*, void*, pwu_str, pwu_error**)
    void* pwu_outside_buffer(const pwu_outside*, size_t*)
    int pwu_outside_filled(const pwu_outside*, size_t)
    int pwu_outside_ended(const pwu_outside*, int)
    int pwu_outside_drained(const pwu_outside*)
    int pwu_outside_free(pwu_outside*)
    void* pwu_outside_of(const pwu_conn*)
    int pwu_attempt_abandon(pwu_attempt*)
    int pwu_attempt_free(pwu_attempt*)
    int pwu_conn_ref(pwu_conn*)
    int pwu_conn_unref(pwu_conn*)
    int pwu_send_frame(pwu_conn*, int, int, unsigned, const void*, size_t)
    int pwu_send_headroom(pwu_conn*, int, int, unsigned, uint8_t*, size_t)
    int pwu_send_owned(
        pwu_conn*, int, int, unsigned, const void*, size_t, void (*)(void*) noexcept, void*)
    int pwu_send_latest(pwu_conn*, uint64_t, int, const void*, size_t)
    int pwu_forward(pwu_conn*, const pwu_frame*)
    pwu_kept* pwu_frame_keep(const pwu_frame*)
    int pwu_kept_free(pwu_kept*)
    int pwu_send_close(pwu_conn*, uint16_t, const char*, size_t)
    int pwu_disconnect(pwu_conn*)
    int pwu_abort(pwu_conn*)
    int pwu_pong_received(pwu_conn*)
    int pwu_pause_reading(pwu_conn*, int)
    int pwu_set_watermarks(pwu_conn*, size_t, size_t)
    int pwu_take_pause(pwu_conn*)
    int64_t pwu_buffered(const pwu_conn*)
    int pwu_socket(const pwu_conn*)
    int pwu_get_close_info(const pwu_conn*, pwu_close_info*)
    int pwu_get_response(const pwu_conn*, pwu_response*)
    int pwu_get_request(const pwu_conn*, pwu_request*)
    int pwu_error_kind(const pwu_error*)
    int pwu_error_errno(const pwu_error*)
    const char* pwu_error_text(const pwu_error*)
    int pwu_error_response(const pwu_error*, pwu_str*, pwu_str*)
    void pwu_error_free(pwu_error*)


cdef extern from *:
    # Not in the header: for tests of peers that break the protocol.
    """
    extern pwu_status pwu_test_write_raw(pwu_conn *, const void *, size_t);
    """
    int pwu_test_write_raw(pwu_conn*, const void*, size_t)
