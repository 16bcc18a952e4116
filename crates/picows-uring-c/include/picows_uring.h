// picows-uring for C: WebSocket client and server on io_uring or epoll, in a loop of the program.
//
// Made by scripts/c-header from crates/picows-uring-c/src: change it there.
//
// Rules for all functions:
// - A function that can fail returns a pwu_status below 0, or NULL; pwu_last_error has the sentence.
// - A NULL where an object is needed is PWU_NULL. Every object belongs to the thread that made its
//   worker: elsewhere each call is PWU_WRONG_THREAD and does nothing, but for those marked "any thread".
//   In a child of fork each call is PWU_FORKED.
// - Structures that the caller fills begin with `size`, the sizeof of the structure.
// - Callbacks run inside pwu_worker_turn (or _run, _free), on its thread. They must not throw
//   exceptions or longjmp through the library.
// - A pwu_frame and each pwu_str that a callback gets are lent for the time of that call.
// - A pointer that was freed must not be used any more.

#ifndef PICOWS_URING_H
#define PICOWS_URING_H

#include <stddef.h>
#include <stdint.h>

// Version of this interface. Functions and fields are only added within one.
#define PWU_ABI_VERSION 0

// The frame is queued: PWU_OK by another name.
#define PWU_QUEUED 0

// Bytes in front of the payload that pwu_send_headroom writes to.
#define PWU_HEADROOM 14

// The outcome of a call. Below 0 it did nothing, and pwu_last_error has the reason.
typedef enum {
  // It is done. Of a frame: it is queued.
  PWU_OK = 0,
  // It is queued, and more than the high watermark is, which the socket does not take: pause_writing
  // follows, or pwu_take_pause is 1.
  PWU_CONGESTED = 1,
  // It is queued in the place of an earlier frame with its key.
  PWU_REPLACED = 2,
  // It is queued, and older messages were dropped for it.
  PWU_DROPPED_OLDEST = 3,
  // A CLOSE was sent before, or the connection or its worker has ended.
  PWU_CLOSED = -1,
  // The queue is full, and the frame is dropped.
  PWU_DROPPED = -2,
  // The frame would break RFC 6455.
  PWU_REFUSED = -3,
  // The object belongs to another thread.
  PWU_WRONG_THREAD = -4,
  // The object belongs to the process that forked this one.
  PWU_FORKED = -5,
  // A pointer that has to be given is NULL.
  PWU_NULL = -6,
  // An argument or a setting makes no sense.
  PWU_INVALID = -7,
  // It cannot be done in a callback or hook: return first.
  PWU_INSIDE_TURN = -8,
  // The worker could not go on, and its connections have ended: free it, and make another one.
  PWU_LOST = -9,
  // A fault of the library. Its worker is lost with it.
  PWU_BUG = -10,
  // A signal handler ran while pwu_worker_run waited: call it again to go on.
  PWU_INTERRUPTED = -11,
  // The system refused something, such as memory or a descriptor.
  PWU_SYSTEM = -12,
} pwu_status;

// The state that pwu_worker_turn leaves behind.
typedef enum {
  // Nothing is to be done until the descriptor is readable, or the hook of pwu_worker_on_work is
  // called.
  PWU_IDLE = 0,
  // There is more to do: call pwu_worker_turn again soon. The descriptor is readable meanwhile.
  PWU_BUSY = 1,
  // The worker was stopped, and its last connection has ended.
  PWU_DONE = 2,
} pwu_turned;

// Types of frames, by their opcodes (RFC 6455, section 5.2).
typedef enum {
  // The next fragment of a message.
  PWU_CONTINUATION = 0,
  // Text, or its first fragment.
  PWU_TEXT = 1,
  // Bytes, or their first fragment.
  PWU_BINARY = 2,
  // The close handshake.
  PWU_CLOSE = 8,
  // A ping.
  PWU_PING = 9,
  // A pong.
  PWU_PONG = 10,
} pwu_type;

// The interface of the kernel that a worker uses.
typedef enum {
  // io_uring, or else epoll; what the environment variable PICOWS_DRIVER says, if it is set.
  PWU_DRIVER_AUTO = 0,
  // io_uring; where it cannot be had, there is no worker.
  PWU_DRIVER_IO_URING = 1,
  // epoll. No call of io_uring is made.
  PWU_DRIVER_EPOLL = 2,
} pwu_driver;

// The fate of a frame for which the queue has no room.
typedef enum {
  // The connection ends with CLOSE 1008.
  PWU_QUEUE_CLOSE = 0,
  // That frame is dropped.
  PWU_QUEUE_DROP_NEWEST = 1,
  // The oldest messages that have not begun to leave are dropped.
  PWU_QUEUE_DROP_OLDEST = 2,
} pwu_queue_policy;

// Kinds of errors. More may be added.
typedef enum {
  // A call that failed as functions do that return a pwu_status: PWU_ERROR_CALL and the text says it.
  PWU_ERROR_CALL = 1,
  // A setting makes no sense, or contradicts another.
  PWU_ERROR_SETTING = 2,
  // An address cannot be understood or listened on.
  PWU_ERROR_LISTEN = 3,
  // The driver cannot be set up. The text names the cure.
  PWU_ERROR_DRIVER = 4,
  // A worker runs on this thread already.
  PWU_ERROR_SECOND_WORKER = 5,
  // The worker could not go on.
  PWU_ERROR_LOST = 6,
  // The URL cannot be used.
  PWU_ERROR_URL = 10,
  // A header or another option of the request cannot be used.
  PWU_ERROR_OPTION = 11,
  // TLS: its settings, such as a key that does not fit; its handshake; a certificate that was refused;
  // ws:// to a port that speaks TLS, or wss:// to one that does not; a build without TLS.
  PWU_ERROR_TLS = 12,
  // The socket cannot be used, or broke.
  PWU_ERROR_SOCKET = 13,
  // It took longer than handshake_ms.
  PWU_ERROR_TIMEOUT = 14,
  // The connection ended before the server had answered.
  PWU_ERROR_DISCONNECTED = 15,
  // The answer is a redirect, which is the caller's to follow.
  PWU_ERROR_REDIRECT = 16,
  // A proxy refused, or the way through it.
  PWU_ERROR_PROXY = 17,
  // The answer is no HTTP response, or a malformed one.
  PWU_ERROR_ANSWER_MALFORMED = 20,
  // The status of the answer is not 101.
  PWU_ERROR_ANSWER_STATUS = 21,
  // The header Upgrade of the answer is not websocket.
  PWU_ERROR_ANSWER_UPGRADE = 22,
  // The header Connection of the answer does not list Upgrade.
  PWU_ERROR_ANSWER_CONNECTION = 23,
  // The header Sec-WebSocket-Accept of the answer does not fit the request.
  PWU_ERROR_ANSWER_ACCEPT = 24,
  // The answer chooses an extension that was not offered.
  PWU_ERROR_ANSWER_EXTENSION = 25,
  // The answer chooses a subprotocol that was not offered.
  PWU_ERROR_ANSWER_SUBPROTOCOL = 26,
  // Another error.
  PWU_ERROR_OTHER = 99,
} pwu_kind;

// Why a connection ended. More may be added.
typedef enum {
  // It has not.
  PWU_CAUSE_NONE = 0,
  // A close handshake.
  PWU_CAUSE_CLOSED = 1,
  // pwu_disconnect or pwu_abort.
  PWU_CAUSE_APPLICATION = 2,
  // The peer ended the stream without CLOSE.
  PWU_CAUSE_END_OF_STREAM = 3,
  // The peer broke RFC 6455 or passed a limit.
  PWU_CAUSE_PROTOCOL = 4,
  // The kernel reported an error, such as a reset.
  PWU_CAUSE_IO = 5,
  // The peer did not do its part in time.
  PWU_CAUSE_TIMEOUT = 6,
  // The peer did not answer a ping in time.
  PWU_CAUSE_PING_TIMEOUT = 7,
  // A callback failed.
  PWU_CAUSE_CALLBACK = 8,
  // More was queued than max_queue.
  PWU_CAUSE_QUEUE_FULL = 9,
  // All connections together held too much memory, or there was none.
  PWU_CAUSE_MEMORY = 10,
  // A message of the peer was under way for too long.
  PWU_CAUSE_MESSAGE_SLOW = 11,
  // The peer took nothing of what was queued for too long.
  PWU_CAUSE_WRITE_STALLED = 12,
  // The worker was stopped or freed.
  PWU_CAUSE_STOPPED = 13,
  // The worker could not go on.
  PWU_CAUSE_WORKER_LOST = 14,
  // Another cause: see the text.
  PWU_CAUSE_OTHER = 99,
} pwu_cause;

// Levels of lines in the log.
typedef enum {
  // Something is lost, such as a worker.
  PWU_LOG_ERROR = 1,
  // Something needs attention.
  PWU_LOG_WARN = 2,
  // The usual level of a service.
  PWU_LOG_INFO = 3,
  // For finding faults.
  PWU_LOG_DEBUG = 4,
} pwu_level;

// A connection that is being made.
typedef struct pwu_attempt pwu_attempt;

// A connection. Counted: a callback is lent it, and pwu_conn_ref keeps it, also beyond its end. It
// belongs to the thread of its worker.
typedef struct pwu_conn pwu_conn;

// Why something could not be made. May be used on any thread.
typedef struct pwu_error pwu_error;

// The payload of a frame, kept by pwu_frame_keep.
typedef struct pwu_kept pwu_kept;

// A stream, for the program that carries it.
typedef struct pwu_outside pwu_outside;

// A connection for other threads. What they ask for happens in the next turn of its worker.
typedef struct pwu_remote pwu_remote;

// Listening sockets of one pwu_listen.
typedef struct pwu_server pwu_server;

// Settings of TLS, of servers or of clients. One object serves any number of listening sockets or
// connections, of any threads; clients with the same one resume each other's sessions.
typedef struct pwu_tls pwu_tls;

// A worker in a loop of the program: it serves connections in pwu_worker_turn, and never waits. One for
// each thread, on which it stays.
typedef struct pwu_worker pwu_worker;

// Settings of connections, of a listening socket or of one client. pwu_options_init sets the defaults;
// then change what is to differ. Times are milliseconds, and 0 is no limit.
typedef struct {
  // sizeof(pwu_options); pwu_options_init sets it.
  size_t size;
  // Largest payload of a frame that is received. Default: 10 MiB.
  uint64_t max_frame;
  // Time for the handshake. Default: 5000.
  uint32_t handshake_ms;
  // Time for the close handshake; more than 0. Default: 5000.
  uint32_t close_ms;
  // Time without received data, or between pings, after which a ping is sent. Default: 0, no pings.
  uint32_t ping_idle_ms;
  // Time for its answer, at most ping_idle_ms. 0: as long as that. Default: 0.
  uint32_t ping_reply_ms;
  // Time without received data after which the connection ends. Default: 0.
  uint32_t idle_ms;
  // Time that a slow message may take. Default: 60,000.
  uint32_t message_ms;
  // Time for which the peer may take nothing of what is queued. Default: 60,000.
  uint32_t write_stall_ms;
  // Lifetime of a connection of a server, after which it is asked to reconnect. Default: 0.
  uint32_t lifetime_ms;
  // 1: pings come every ping_idle_ms, whatever is received. Default: 0.
  uint8_t ping_periodic;
  // 1: PING is answered and not delivered. Default: 1.
  uint8_t auto_pong;
  // 1: CLOSE is answered after on_frame saw it. Default: 1.
  uint8_t auto_close;
  // 1: TEXT that is no UTF-8 ends the connection. Default: 0.
  uint8_t validate_text;
  // RSV bits that may be received: 4, 2, 1 or a sum. Default: 0.
  uint8_t allow_rsv;
  // 1: fragments may come and be sent in any order. Default: 0.
  uint8_t any_order;
  // 1: a failure of on_frame ends the connection. Default: 1.
  uint8_t disconnect_on_error;
  // One of pwu_queue_policy. Default: PWU_QUEUE_CLOSE.
  uint8_t queue_policy;
  // Buffered bytes above which pause_writing is called. Default: 64 KiB.
  size_t high_watermark;
  // Buffered bytes at or below which resume_writing is called. Default: 16 KiB.
  size_t low_watermark;
  // Bytes that may be queued. Default: 64 MiB.
  size_t max_queue;
  // Server: largest request head. Default: 16 KiB.
  size_t max_head;
  // Server: most headers of a request. Default: 128.
  size_t max_headers;
  // Server: open connections; 0 for no limit. Default: 0.
  size_t max_connections;
  // Server: open connections of one address; 0 for no limit. Default: 0.
  size_t max_per_address;
  // Server: handshakes in progress; 0 for no limit. Default: 4096.
  size_t max_handshakes;
  // Server: connections that the kernel holds before they are accepted. Default: 4096.
  uint32_t backlog;
  // Server: 1: other processes may listen on the port as well. Default: 0.
  uint8_t share_port;
  // 1: pwu_get_request can be used. Default: 1.
  uint8_t keep_request;
  // Settings of TLS, made by pwu_tls_server or pwu_tls_client; may be freed after the call. Default:
  // NULL: a server without TLS; a client that trusts the roots of the system where its URL is wss.
  const pwu_tls *tls;
  // Client: name that the certificate of the server has. Default: NULL, the host of the URL.
  const char *tls_server_name;
  // 1: messages may be compressed (permessage-deflate), if the peer can do it. Default: 0.
  uint8_t deflate;
  // How hard messages are compressed, 1 to 9. Default: 4.
  uint8_t deflate_level;
  // Window of what is sent: 8 to 15, the bits of its bytes. Default: 12.
  uint8_t deflate_window;
  // 1: messages refer to earlier ones; 0: each is compressed by itself, and the peer is asked to do the
  // same. Default: 1.
  uint8_t deflate_context;
  // Bytes of a message below which it is sent as it is. 0: 64, or 1024 without deflate_context.
  // Default: 0.
  uint32_t deflate_threshold;
  // Bytes that a received byte may expand to, in messages of more than 64 KiB; 0 for no limit.
  // Default: 0.
  uint32_t deflate_ratio_max;
  // Server: 1: `trusted_proxies` name the client in `Forwarded` instead of `X-Forwarded-For`. Default: 0.
  uint8_t trusted_by_forwarded;
  // Server: networks of proxies that begin each connection with a header of the PROXY protocol, which
  // names the client, such as `10.0.0.0/8, 192.0.2.7`; of other peers such a header is an error. On a
  // Unix socket, every peer is a proxy. Default: NULL, none.
  const char *proxy_protocol;
  // Server: networks of proxies that name the client in a header of its request. The client named by a
  // proxy is the peer of the request, and that of limits and logs. Default: NULL, none.
  const char *trusted_proxies;
  // Server: sites whose scripts may open connections, such as `https://example.com, https://*.example.org`,
  // or `same-host`; others are answered with 403, and the route is not asked. Default: NULL, any.
  const char *origins;
} pwu_options;

// A text or bytes of `size`, without a zero at its end.
typedef struct {
  // NULL for none.
  const char *data;
  // Bytes.
  size_t size;
} pwu_str;

// Settings of a worker; zero is the default of each.
typedef struct {
  // sizeof(pwu_worker_options).
  size_t size;
  // One of pwu_driver.
  uint8_t driver;
  // Turns that pwu_worker_turn takes at most, unless it is given a number. 0: 16.
  uint32_t turns_max;
  // Bytes that its connections may hold together. 0: one limit for the whole process.
  uint64_t memory_limit;
  // Milliseconds after which the log names a callback that blocks the thread. 0: 100.
  uint32_t slow_callback_ms;
  // Milliseconds for which memory is kept that is not needed. 0: 10,000.
  uint32_t release_memory_ms;
} pwu_worker_options;

// A header of a request or response.
typedef struct {
  // In any case of letters.
  pwu_str name;
  // Without white space at its ends.
  pwu_str value;
} pwu_header;

// A request to upgrade, or a plain one.
typedef struct {
  // sizeof(pwu_request), set by the caller of pwu_get_request.
  size_t size;
  // GET or HEAD.
  pwu_str method;
  // Path and query, as sent.
  pwu_str target;
  // HTTP/1.1 or HTTP/1.0.
  pwu_str version;
  // The whole head, as it was received.
  pwu_str raw_head;
  // Address and port of the peer; empty on a Unix socket.
  pwu_str peer;
  // The headers, in the order received.
  const pwu_header *headers;
  // How many.
  size_t count;
} pwu_request;

// A frame that was received, lent for the time of the callback: copy what has to outlive it. Fragments
// come as they are on the wire, unmasked.
typedef struct {
  // The application data; not NULL, also if there is none.
  const uint8_t *payload;
  // Bytes of payload.
  size_t size;
  // Bytes that were received behind this frame.
  size_t tail_size;
  // One of pwu_type.
  uint8_t type;
  // 1 if it is the last fragment of its message.
  uint8_t fin;
  // RSV bits: 4 is RSV1, 2 is RSV2, 1 is RSV3.
  uint8_t rsv;
  // 1 if no complete frame that counts follows in what was received.
  uint8_t last_in_buffer;
  // The library's, for pwu_forward.
  uint64_t ours;
} pwu_frame;

// The callbacks of a connection; any may be NULL. All get `user`. Those that return a number end the
// connection if it is not 0: with that close code if it is one that may be sent (1000 to 1003, 1007 to
// 1014, 3000 to 4999; pwu_set_close_reason adds the reason), else with 1011.
typedef struct {
  // sizeof(pwu_callbacks).
  size_t size;
  // The handshake is done.
  int (*on_connected)(void *user, pwu_conn *conn);
  // A frame was received.
  int (*on_frame)(void *user, pwu_conn *conn, const pwu_frame *frame);
  // The connection has ended: exactly once, after on_connected.
  void (*on_disconnected)(void *user, pwu_conn *conn);
  // A ping is due. NULL: a PING that carries a number.
  int (*send_ping)(void *user, pwu_conn *conn);
  // Whether a frame answers the last ping: 1 yes, 0 no, below 0 failed. Called before on_frame while
  // an answer is awaited. NULL: a PONG with the number of the ping.
  int (*is_pong)(void *user, pwu_conn *conn, const pwu_frame *frame);
  // More is buffered than the high watermark: stop sending until resume_writing.
  void (*pause_writing)(void *user, pwu_conn *conn);
  // No more is buffered than the low watermark.
  void (*resume_writing)(void *user, pwu_conn *conn);
  // Frees `user`: the last call, exactly once, also if the connection never opened.
  void (*free_user)(void *user);
} pwu_callbacks;

// The answer of a route. It comes filled with zeros.
typedef struct {
  // The library's; leave it as it is.
  size_t size;
  // 0: upgrade to WebSocket, with `callbacks` and `user`; else the status of an HTTP answer.
  uint16_t status;
  // The subprotocol, one of those that the request offers; empty for none.
  pwu_str subprotocol;
  // Headers of the answer.
  const pwu_header *headers;
  // How many.
  size_t count;
  // The body of an HTTP answer.
  pwu_str body;
  // The callbacks of the connection. They are copied.
  const pwu_callbacks *callbacks;
  // Their argument. It is the library's from here on: free_user is called whatever happens.
  void *user;
  // Called with release_user once the answer was read, which is when what it points to may go. May be
  // NULL: then that has to stay until the route is called again.
  void (*release)(void *user);
  // The argument of release.
  void *release_user;
} pwu_answer;

// Answers a request: fills `answer` and returns 0. Another number is answered with 500.
typedef int (*pwu_route)(void *user, const pwu_request *request, pwu_answer *answer);

// The outcome of an attempt, called once in a turn, behind on_connected: exactly one of `conn` and
// `error` is not NULL, and both are lent.
typedef void (*pwu_outcome)(void *user, pwu_conn *conn, const pwu_error *error);

// Functions that carry the bytes of a stream to its peer. They are called in a turn of the worker, and
// never inside of a callback of a connection.
typedef struct {
  // sizeof(pwu_outside_ops).
  size_t size;
  // Reads from the peer if `on` is 1, or stops. A stream reads from the beginning. What is received
  // in spite of it is kept. May be NULL.
  void (*set_reading)(void *user, int on);
  // Takes `size` bytes. Returns 1 if all that it was given so far has been passed on; 0 if not: then
  // pwu_outside_drained has to be called when it has, and nothing more is written before.
  int (*write)(void *user, const void *data, size_t size);
  // Ends this side of the stream behind what was written; where that cannot be done without the other
  // side, closes the stream, and pwu_outside_ended follows.
  void (*shut_down)(void *user);
  // Closes the stream, and drops what was not passed on.
  void (*close)(void *user);
  // The last call, whatever happened. May be NULL.
  void (*free_user)(void *user);
} pwu_outside_ops;

// The end of a connection, which has come or is about to. The texts are valid until the next
// pwu_get_close_info on the connection and its last pwu_conn_unref.
typedef struct {
  // sizeof(pwu_close_info), set by the caller.
  size_t size;
  // 1 if we have sent CLOSE.
  uint8_t is_sent;
  // 1 if CLOSE was received.
  uint8_t is_received;
  // 1 if it was received before ours was sent.
  uint8_t received_first;
  // Code of the CLOSE that was sent; 0 for none.
  uint16_t sent_code;
  // Code of the CLOSE that was received; 0 for none.
  uint16_t received_code;
  // Its reason.
  pwu_str sent_reason;
  // Its reason.
  pwu_str received_reason;
  // One of pwu_cause.
  int cause;
  // The cause as a sentence; empty while there is none.
  pwu_str cause_text;
} pwu_close_info;

// The answer of a server that agreed to upgrade.
typedef struct {
  // sizeof(pwu_response), set by the caller of pwu_get_response.
  size_t size;
  // 101.
  uint16_t status;
  // The whole head, as it was received.
  pwu_str raw_head;
  // The subprotocol that the server chose; empty for none.
  pwu_str subprotocol;
  // The headers, in the order received.
  const pwu_header *headers;
  // How many.
  size_t count;
} pwu_response;

// Certificate of a name.
typedef struct {
  // Name that clients ask for, such as `api.example.com`; or `*.example.com`, for all names one label
  // below it. An exact name goes before a wildcard.
  const char *name;
  // File of the certificate and, behind it, the intermediate ones (PEM).
  const char *certificate;
  // File of its key.
  const char *key;
} pwu_tls_named;

// Files and switches of TLS, all as PEM; zero is the default of each.
typedef struct {
  // sizeof(pwu_tls_options).
  size_t size;
  // File of the certificate and, behind it, the intermediate ones. A server needs it; a client has it
  // for servers that ask for one.
  const char *certificate;
  // File of its key.
  const char *key;
  // Server: file of the issuers that certificates of clients come from; NULL: clients are not asked.
  // Client: file of the roots that are trusted; NULL: those of the system.
  const char *roots;
  // Server: 1: clients without a certificate are accepted as well.
  uint8_t client_optional;
  // Client: 1: the roots of the system are trusted beside `roots`.
  uint8_t native_roots;
  // Client: 1: any certificate is accepted, so that anyone on the way can read and change everything.
  // For tests; the log warns of each connection.
  uint8_t insecure;
  // 1: TLS 1.3 and later only. 0: TLS 1.2, too.
  uint8_t tls13_only;
  // Client: sessions that are kept to be resumed. 0: 256.
  uint32_t sessions;
  // Server: certificates by name. Clients that ask for another name get `certificate`; without one, their
  // handshake is refused.
  const pwu_tls_named *named;
  // How many.
  size_t named_count;
} pwu_tls_options;

// Version, cipher and names that TLS has agreed on.
typedef struct {
  // sizeof(pwu_tls_info), set by the caller.
  size_t size;
  // 12 or 13 for TLS 1.2 or 1.3; 0 on a connection without TLS.
  uint16_t version;
  // 1 if a session was resumed, and no certificate asked for therefore.
  uint8_t resumed;
  // Name of the cipher suite, such as AES_128_GCM_SHA256.
  pwu_str cipher;
  // Server: name that the client asked for; empty for none.
  pwu_str server_name;
  // Certificate of the peer (DER); empty if it has sent none.
  pwu_str peer_certificate;
} pwu_tls_info;

// Gets a line of the log, which is lent for the call. It may be called on any thread, also on several
// at once.
typedef void (*pwu_log)(void *user, int level, pwu_str line);

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// Returns the version of the library, such as "0.2.0". Any thread.
const char *pwu_version(void);

// Returns PWU_ABI_VERSION of the library, for programs that load it at run time. Any thread.
uint32_t pwu_abi_version(void);

// Returns the sentence of the last call on this thread that failed, with the cure, and "" if there was
// none. Valid until the next call that fails here. Any thread.
const char *pwu_last_error(void);

// Sets all fields of `options`, a structure of `size` bytes, to their defaults: those of a server if
// is_server is 1, else those of a client.
pwu_status pwu_options_init(pwu_options *options,
                            size_t size,
                            int is_server);

// Returns the kind of an error, one of pwu_kind. Any thread.
int pwu_error_kind(const pwu_error *error);

// Returns the errno behind an error, or 0. Any thread.
int pwu_error_errno(const pwu_error *error);

// Returns the sentence of an error, with the cause and the cure. Valid as long as the error is; "" for
// NULL. Any thread.
const char *pwu_error_text(const pwu_error *error);

// Returns the HTTP status of the answer that opened no WebSocket, or 0 if there was none, and its head
// as it was received with the first part of its body (at most 4 KiB). They are valid as long as the
// error is. raw_head and body may be NULL. Any thread.
int pwu_error_response(const pwu_error *error,
                       pwu_str *raw_head,
                       pwu_str *body);

// Frees an error that a function gave out; not one that a pwu_outcome is lent. NULL is nothing. Any
// thread.
void pwu_error_free(pwu_error *error);

// Makes a worker on this thread, with default settings if options is NULL. NULL with an error, whose
// text names the cure, if that fails; error may be NULL.
pwu_worker *pwu_worker_new(const pwu_worker_options *options,
                           pwu_error **error);

// Ends the connections of a worker, with CLOSE 1001 as far as their sockets take it at once, calls
// on_disconnected for each, and frees it. Connections that were kept stay valid, and closed. In a
// callback it is PWU_INSIDE_TURN; on another thread it frees nothing, is PWU_WRONG_THREAD and says so in
// the log. In a child of fork it closes the descriptors that were inherited and calls nothing; then the
// child can make a worker of its own.
pwu_status pwu_worker_free(pwu_worker *worker);

// Returns the descriptor that is readable when a turn is due, to be watched for reading, by level or by
// edge. Do not read or close it. It stays the same.
int pwu_worker_fd(const pwu_worker *worker);

// Serves the connections: receives, calls callbacks, sends. Never blocks, and takes at most `turns_max`
// turns (0: the default of the worker). Returns one of pwu_turned, or a pwu_status below 0.
int pwu_worker_turn(pwu_worker *worker,
                    unsigned int turns_max);

// Takes turns and waits in between, until the worker was stopped and its last connection has ended:
// PWU_OK. For programs without a loop of their own.
pwu_status pwu_worker_run(pwu_worker *worker);

// Has `hook` called when work is queued outside of a turn: it schedules a call of pwu_worker_turn, and
// does not call that itself. At most once between two turns. free_user frees `user` when another hook
// takes its place or the worker goes; it may be NULL.
pwu_status pwu_worker_on_work(pwu_worker *worker,
                              void (*hook)(void *user),
                              void *user,
                              void (*free_user)(void *user));

// Sends what is queued, as far as the sockets take it, without waiting for the next turn, and calls
// pause_writing of those connections that remain above their high watermark after a PWU_CONGESTED. No
// other callback is called. Does nothing in a callback.
pwu_status pwu_worker_flush(pwu_worker *worker);

// Ends all connections with CLOSE 1001, and then pwu_worker_turn with PWU_DONE and pwu_worker_run, after
// drain_ms milliseconds at the latest. Returns at once. Any thread.
pwu_status pwu_worker_stop(pwu_worker *worker,
                           uint32_t drain_ms);

// Listens on `address` (`127.0.0.1:9001`, `[::]:0`, `unix:/run/picows.sock`), or, if fd is not -1, on
// that socket, which listens already and is the library's from here on, whatever happens. `route`
// answers each request; free_user, which may be NULL, frees `user` when it is not needed any more,
// whatever happens. NULL options are the defaults. NULL with an error if it fails.
pwu_server *pwu_listen(pwu_worker *worker,
                       const char *address,
                       int fd,
                       const pwu_options *options,
                       pwu_route route,
                       void *user,
                       void (*free_user)(void *user),
                       pwu_error **error);

// Returns the descriptor of the listening socket, for asking its options and for dup: do not accept on
// it or close it. PWU_CLOSED once the worker was freed.
int pwu_server_fd(const pwu_server *server);

// Returns the URL that clients connect to, such as ws://127.0.0.1:9001, with the port that was found for
// port 0; of a Unix socket, ws+unix: and its path. Valid as long as the
// server is. NULL if the server cannot be used.
const char *pwu_server_url(const pwu_server *server);

// Closes the listening socket in the next turn and frees the server. Connections stay. To be called once
// for each server, also after its worker was freed.
pwu_status pwu_server_close(pwu_server *server);

// Makes a WebSocket connection of `fd`, a socket that is connected, which is the library's from here on,
// whatever happens. `url` gives Host, path and query; `headers` go with the request (of them
// Sec-WebSocket-Protocol offers subprotocols). `outcome`, which may be NULL, gets `user` as callbacks
// do; `user` is the library's from here on: free_user is called whatever happens, also if this returns
// NULL. A redirect is an error, for the caller to follow. Free the attempt by pwu_attempt_free or
// pwu_attempt_abandon.
pwu_attempt *pwu_connect(pwu_worker *worker,
                         const char *url,
                         int fd,
                         const pwu_header *headers,
                         size_t count,
                         const pwu_options *options,
                         const pwu_callbacks *callbacks,
                         void *user,
                         pwu_outcome outcome,
                         pwu_error **error);

// Gives an attempt up and frees it: its socket is closed in the next turn, and the outcome is not
// called. If that was called before, this frees it only.
pwu_status pwu_attempt_abandon(pwu_attempt *attempt);

// Frees an attempt, which goes on.
pwu_status pwu_attempt_free(pwu_attempt *attempt);

// Makes a WebSocket connection over a stream that `ops` carry with the argument `carrier`, which is the
// library's from here on: free_user of ops is called whatever happens. `*outside` becomes the handle of the
// stream, to be freed by pwu_outside_free. For the others see pwu_connect; url begins with ws://, whatever
// the stream is.
pwu_attempt *pwu_connect_outside(pwu_worker *worker,
                                 const char *url,
                                 const pwu_outside_ops *ops,
                                 void *carrier,
                                 pwu_outside **outside,
                                 const pwu_header *headers,
                                 size_t count,
                                 const pwu_options *options,
                                 const pwu_callbacks *callbacks,
                                 void *user,
                                 pwu_outcome outcome,
                                 pwu_error **error);

// Takes options and a route for streams that pwu_accept_outside brings, as pwu_listen does for a listening
// socket; those about listening mean nothing. To be closed by pwu_server_close.
pwu_server *pwu_serve_outside(pwu_worker *worker,
                              const pwu_options *options,
                              pwu_route route,
                              void *user,
                              void (*free_user)(void *user),
                              pwu_error **error);

// Serves a stream whose peer has connected, which `ops` carry with the argument `carrier`: it is the
// library's from here on, as for pwu_connect_outside. `peer` is the peer's address for limits and logs, such
// as `192.0.2.7:4711`, or empty. Not inside of a callback. NULL with an error if it fails.
pwu_outside *pwu_accept_outside(pwu_worker *worker,
                                const pwu_server *server,
                                const pwu_outside_ops *ops,
                                void *carrier,
                                pwu_str peer,
                                pwu_error **error);

// Returns memory for the next bytes of the peer and sets `*size` to how many fit: fill it from its
// beginning, and call pwu_outside_filled before any other function of the worker. NULL if the stream cannot
// be used.
void *pwu_outside_buffer(const pwu_outside *outside,
                         size_t *size);

// The first `size` bytes of pwu_outside_buffer are the peer's. The connection sees them in the next turn.
pwu_status pwu_outside_filled(const pwu_outside *outside,
                              size_t size);

// The peer sends no more, if `number` is 0; else the stream has failed with that errno.
pwu_status pwu_outside_ended(const pwu_outside *outside, int number);

// Everything that was written has been passed on.
pwu_status pwu_outside_drained(const pwu_outside *outside);

// Frees the handle of a stream, which stays open, and gets nothing more from the program.
pwu_status pwu_outside_free(pwu_outside *outside);

// Returns the argument of the functions that carry the stream of a connection; NULL if it has a socket, or
// its stream is closed.
void *pwu_outside_of(const pwu_conn *conn);

// Keeps a connection: each call is undone by one of pwu_conn_unref.
pwu_status pwu_conn_ref(pwu_conn *conn);

// Lets a connection go that was kept. The pointer must not be used after the last one.
pwu_status pwu_conn_unref(pwu_conn *conn);

// Sends CLOSE with a code, or an empty one if it is 0; nothing can be sent after it. A reason of more
// than 123 bytes is cut. The connection ends when the peer has answered, or after close_ms.
pwu_status pwu_send_close(pwu_conn *conn,
                          uint16_t code,
                          const char *reason,
                          size_t size);

// Ends the connection once everything queued is sent, without a CLOSE of its own.
pwu_status pwu_disconnect(pwu_conn *conn);

// Ends the connection at once; what is queued is dropped. on_disconnected follows in a turn.
pwu_status pwu_abort(pwu_conn *conn);

// Sets the reason that goes with the close code which the callback that runs will return.
pwu_status pwu_set_close_reason(pwu_conn *conn, const char *reason, size_t size);

// Sends the PING that is_pong looks for by default.
pwu_status pwu_send_auto_ping(pwu_conn *conn);

// Returns 1 if `frame` is the PONG that answers the last PING of pwu_send_auto_ping, else 0.
int pwu_is_auto_pong(const pwu_conn *conn, const pwu_frame *frame);

// Says that the frame being handled answers the last ping, for callbacks that know only then.
pwu_status pwu_pong_received(pwu_conn *conn);

// Stops reading if `pause` is 1, or reads on if it is 0. Frames that were received by then still come.
pwu_status pwu_pause_reading(pwu_conn *conn,
                             int pause);

// Sets the watermarks of this connection: buffered bytes above which pause_writing is called, and at or
// below which resume_writing is.
pwu_status pwu_set_watermarks(pwu_conn *conn,
                              size_t high,
                              size_t low);

// Returns 1 if a send was PWU_CONGESTED and the caller has to stop sending, else 0. After a 1,
// pause_writing is not called for it, and resume_writing follows. For code that sends in a loop and
// has to know at once.
int pwu_take_pause(pwu_conn *conn);

// Returns the bytes that were queued, headers included, and that the kernel has not taken; or a
// pwu_status below 0.
int64_t pwu_buffered(const pwu_conn *conn);

// Returns the descriptor of the socket, for setting its options: do not read, write or close it.
// PWU_CLOSED when it is closed.
int pwu_socket(const pwu_conn *conn);

// Returns 1 if the connection is over: on_disconnected was called or is about to be; else 0.
int pwu_is_disconnected(const pwu_conn *conn);

// Fills `info` with what is known of the end of a connection. Also after the end of its worker.
pwu_status pwu_get_close_info(const pwu_conn *conn, pwu_close_info *info);

// Fills `request` with the request that opened the connection. Valid as long as the connection is.
// PWU_INVALID if it was not kept (keep_request).
pwu_status pwu_get_request(const pwu_conn *conn, pwu_request *request);

// Fills `response` with the answer of the server that a client has connected to. Valid as long as the
// connection is. PWU_INVALID on the server's side.
pwu_status pwu_get_response(const pwu_conn *conn,
                            pwu_response *response);

// Makes settings of TLS for servers, to be given to pwu_listen in pwu_options.tls. Reads and checks the
// files. NULL with an error if it fails. Any thread.
pwu_tls *pwu_tls_server(const pwu_tls_options *options,
                        pwu_error **error);

// Makes settings of TLS for clients, to be given to pwu_connect in pwu_options.tls. Reads and checks the
// files, or the roots of the system, which takes up to hundreds of milliseconds the first time. NULL
// options are the defaults. NULL with an error if it fails. Any thread.
pwu_tls *pwu_tls_client(const pwu_tls_options *options,
                        pwu_error **error);

// Reads the files of a server's settings again: later connections get what they have now, open ones
// keep what they began with. If it fails, the old ones stay. PWU_INVALID for those of clients. Any
// thread.
pwu_status pwu_tls_reload(const pwu_tls *tls);

// Frees settings of TLS. Servers and connections that were given them keep what they need. NULL is
// nothing. Any thread.
void pwu_tls_free(pwu_tls *tls);

// Fills `info` with what TLS has agreed on. Valid as long as the connection is. PWU_INVALID where it was
// not kept (keep_request).
pwu_status pwu_get_tls_info(const pwu_conn *conn,
                            pwu_tls_info *info);

// Sends a message of one frame; `data` is copied. CLOSE is sent with pwu_send_close.
pwu_status pwu_send(pwu_conn *conn, int type, const void *data, size_t size);

// Sends a frame with FIN (0 or 1) and RSV bits (4, 2, 1 or a sum); `data` is copied.
pwu_status pwu_send_frame(pwu_conn *conn,
                          int type,
                          int fin,
                          unsigned int rsv,
                          const void *data,
                          size_t size);

// Sends a frame whose payload has PWU_HEADROOM bytes in front of it, which the header is written to; a
// client masks the payload where it lies. The buffer stays the caller's and can be used again after the
// call; its bytes are garbage then. Of 16 KiB and more, the socket is given the frame in this call, after
// what is queued, and only what it does not take is copied. Smaller payloads leave with the turn and are
// copied, as are those that are encrypted, compressed or have to wait for others.
pwu_status pwu_send_headroom(pwu_conn *conn,
                             int type,
                             int fin,
                             unsigned int rsv,
                             uint8_t *payload,
                             size_t size);

// Sends a frame whose payload is kept by reference, as far as that is cheaper than a copy: `data` has
// to stay as it is until done(user) is called. That is exactly once, whatever becomes of the frame: in
// this call, or later in a turn, on the thread that called.
pwu_status pwu_send_owned(pwu_conn *conn,
                          int type,
                          int fin,
                          unsigned int rsv,
                          const void *data,
                          size_t size,
                          void (*done)(void *user),
                          void *user);

// Sends a message that a later one with the same key may replace while the peer does not keep up.
pwu_status pwu_send_latest(pwu_conn *conn, uint64_t key, int type, const void *data, size_t size);

// Sends the frame of the callback that runs on another connection of the thread, or back: its type, its
// bits and its payload, which a server does not copy if it is large.
pwu_status pwu_forward(pwu_conn *conn,
                       const pwu_frame *frame);

// Keeps the payload of the frame of the callback that runs, without a copy: what `payload` of the frame
// points to stays as it is until pwu_kept_free. NULL where its memory is used again after the callback,
// as that of a frame is which was received in one piece: copy such a payload.
pwu_kept *pwu_frame_keep(const pwu_frame *frame);

// Lets a payload go that was kept. To be called on the thread of its connection: elsewhere it is
// PWU_WRONG_THREAD, and the payload stays.
pwu_status pwu_kept_free(pwu_kept *kept);

// Makes a handle of a connection for other threads. NULL if the connection cannot be used; see
// pwu_last_error.
pwu_remote *pwu_remote_new(pwu_conn *conn);

// Frees a handle. Any thread.
pwu_status pwu_remote_free(pwu_remote *remote);

// Sends a message of one frame; `data` is copied. Any thread.
pwu_status pwu_remote_send(pwu_remote *remote, int type, const void *data, size_t size);

// Sends a message that a later one with the same key may replace. Any thread.
pwu_status pwu_remote_send_latest(pwu_remote *remote,
                                  uint64_t key,
                                  int type,
                                  const void *data,
                                  size_t size);

// Sends CLOSE, as pwu_send_close. Any thread.
pwu_status pwu_remote_send_close(pwu_remote *remote,
                                 uint16_t code,
                                 const char *reason,
                                 size_t size);

// Ends the connection, as pwu_disconnect. Any thread.
pwu_status pwu_remote_disconnect(pwu_remote *remote);

// Ends the connection, as pwu_abort. Any thread.
pwu_status pwu_remote_abort(pwu_remote *remote);

// Has `log` called with `user` for each line of the library's log of `level` (one of pwu_level) and
// graver ones. Once in a process, before the first worker: the log is the process's. `user` is not
// freed. Any thread.
pwu_status pwu_set_log(int level, pwu_log log, void *user);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* PICOWS_URING_H */
