//! A connection: its counted handle, what can be asked of it and how it is ended.

use crate::callbacks::Hooks;
use crate::head::{Heads, pwu_request, pwu_response};
use crate::status::{Failure, entry, guarded, number, pwu_status};
use crate::types::{Sized0, bytes_of, pwu_frame, pwu_str, with_frame, write_sized};
use crate::worker::Shared;
use picows_uring::{CloseCode, CloseFrame, DisconnectCause, Transport};
use std::cell::{Cell, OnceCell, RefCell};
use std::ffi::{c_char, c_int};
use std::os::fd::AsRawFd;
use std::rc::Rc;

/// A connection. Counted: a callback is lent it, and pwu_conn_ref keeps it, also beyond its end. It
/// belongs to the thread of its worker.
pub struct pwu_conn {
    pub(crate) transport: Transport,
    pub(crate) shared: Rc<Shared>,
    /// Empty once the listener has gone.
    hooks: RefCell<Option<Hooks>>,
    close_reason: RefCell<Option<String>>,
    close_texts: RefCell<CloseTexts>,
    heads: OnceCell<Heads>,
    /// It is on the list of connections that a flush looks at.
    pub(crate) is_congested: Cell<bool>,
}

/// Texts that [`pwu_get_close_info`] lends.
#[derive(Default)]
struct CloseTexts {
    sent: String,
    received: String,
    cause: String,
}

impl pwu_conn {
    pub(crate) fn new(transport: Transport, shared: Rc<Shared>, hooks: Hooks) -> Rc<Self> {
        Rc::new(Self {
            transport,
            shared,
            hooks: RefCell::new(Some(hooks)),
            close_reason: RefCell::default(),
            close_texts: RefCell::default(),
            heads: OnceCell::new(),
            is_congested: Cell::new(false),
        })
    }

    /// As C sees it: lent.
    pub(crate) fn as_pointer(self: &Rc<Self>) -> *mut Self {
        Rc::as_ptr(self).cast_mut()
    }

    pub(crate) fn take_close_reason(&self) -> Option<String> {
        self.close_reason.take()
    }

    /// Calls pause_writing, if there are still callbacks.
    pub(crate) fn pause_writing(self: &Rc<Self>) {
        let hooks = self.hooks.borrow().clone();
        let Some((hooks, call)) =
            hooks.and_then(|it| it.table.pause_writing.map(|call| (it, call)))
        else {
            return;
        };
        // SAFETY: the application gave the function for this, and the connection lives.
        unsafe { call(hooks.user(), self.as_pointer()) };
    }

    /// The listener goes: nothing is called any more.
    pub(crate) fn forget_callbacks(&self) {
        drop(self.hooks.take());
    }
}

/// The connection at `conn`, if this thread may use it.
///
/// # Safety
///
/// `conn` is NULL, or lent to a callback that runs, or was kept by pwu_conn_ref.
#[inline]
pub(crate) unsafe fn conn_at<'a>(conn: *const pwu_conn) -> Result<&'a pwu_conn, Failure> {
    // SAFETY: the caller's promise.
    let conn = unsafe { conn.as_ref() }.ok_or_else(|| Failure::null("the connection"))?;
    conn.shared.check()?;
    Ok(conn)
}

/// The same, if its worker was not freed.
///
/// # Safety
///
/// As [`conn_at`].
#[inline]
pub(crate) unsafe fn live_conn_at<'a>(conn: *const pwu_conn) -> Result<&'a pwu_conn, Failure> {
    // SAFETY: the caller's promise.
    let conn = unsafe { conn_at(conn) }?;
    conn.shared.check_alive()?;
    Ok(conn)
}

/// Keeps a connection: each call is undone by one of pwu_conn_unref.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwu_conn_ref(conn: *mut pwu_conn) -> pwu_status {
    entry(|| {
        // SAFETY: NULL, lent or kept.
        unsafe { conn_at(conn) }?;
        // SAFETY: all connections are in an `Rc`.
        unsafe { Rc::increment_strong_count(conn.cast_const()) };
        Ok(pwu_status::PWU_OK)
    })
}

/// Lets a connection go that was kept. The pointer must not be used after the last one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwu_conn_unref(conn: *mut pwu_conn) -> pwu_status {
    entry(|| {
        // SAFETY: NULL or kept.
        unsafe { conn_at(conn) }?;
        // SAFETY: all connections are in an `Rc`, and one of its references is the caller's.
        unsafe { Rc::decrement_strong_count(conn.cast_const()) };
        Ok(pwu_status::PWU_OK)
    })
}

/// Sends CLOSE with a code, or an empty one if it is 0; nothing can be sent after it. A reason of more
/// than 123 bytes is cut. The connection ends when the peer has answered, or after close_ms.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwu_send_close(
    conn: *mut pwu_conn,
    code: u16,
    reason: *const c_char,
    size: usize,
) -> pwu_status {
    crate::send::send_close(conn, code, reason, size)
}

/// Ends the connection once everything queued is sent, without a CLOSE of its own.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwu_disconnect(conn: *mut pwu_conn) -> pwu_status {
    entry(|| {
        // SAFETY: NULL, lent or kept.
        unsafe { live_conn_at(conn) }?.transport.disconnect();
        Ok(pwu_status::PWU_OK)
    })
}

/// Ends the connection at once; what is queued is dropped. on_disconnected follows in a turn.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwu_abort(conn: *mut pwu_conn) -> pwu_status {
    entry(|| {
        // SAFETY: NULL, lent or kept.
        unsafe { live_conn_at(conn) }?.transport.abort();
        Ok(pwu_status::PWU_OK)
    })
}

/// Sets the reason that goes with the close code which the callback that runs will return.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwu_set_close_reason(
    conn: *mut pwu_conn,
    reason: *const c_char,
    size: usize,
) -> pwu_status {
    entry(|| {
        // SAFETY: NULL, lent or kept.
        let conn = unsafe { conn_at(conn) }?;
        // SAFETY: there are `size` bytes, by the caller's word.
        let reason = unsafe { bytes_of(reason.cast(), size) };
        conn.close_reason.replace(Some(String::from_utf8_lossy(reason).into_owned()));
        Ok(pwu_status::PWU_OK)
    })
}

/// Sends the PING that is_pong looks for by default.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwu_send_auto_ping(conn: *mut pwu_conn) -> pwu_status {
    crate::send::send_auto_ping(conn)
}

/// Returns 1 if `frame` is the PONG that answers the last PING of pwu_send_auto_ping, else 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwu_is_auto_pong(conn: *const pwu_conn, frame: *const pwu_frame) -> c_int {
    number(|| {
        // SAFETY: NULL, lent or kept.
        let conn = unsafe { conn_at(conn) }?;
        // SAFETY: NULL, or what a callback was given.
        let frame = unsafe { frame.as_ref() }.ok_or_else(|| Failure::null("the frame"))?;
        with_frame(frame, |frame| conn.transport.is_auto_pong(frame).into())
    })
}

/// Says that the frame being handled answers the last ping, for callbacks that know only then.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwu_pong_received(conn: *mut pwu_conn) -> pwu_status {
    entry(|| {
        // SAFETY: NULL, lent or kept.
        unsafe { live_conn_at(conn) }?.transport.notify_user_specific_pong_received();
        Ok(pwu_status::PWU_OK)
    })
}

/// Stops reading if `pause` is 1, or reads on if it is 0. Frames that were received by then still come.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwu_pause_reading(conn: *mut pwu_conn, pause: c_int) -> pwu_status {
    entry(|| {
        // SAFETY: NULL, lent or kept.
        let transport = &unsafe { live_conn_at(conn) }?.transport;
        if pause == 0 {
            transport.resume_reading();
        } else {
            transport.pause_reading();
        }
        Ok(pwu_status::PWU_OK)
    })
}

/// Sets the watermarks of this connection: buffered bytes above which pause_writing is called, and at or
/// below which resume_writing is.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwu_set_watermarks(
    conn: *mut pwu_conn,
    high: usize,
    low: usize,
) -> pwu_status {
    entry(|| {
        // SAFETY: NULL, lent or kept.
        let conn = unsafe { live_conn_at(conn) }?;
        let outcome = conn.transport.set_write_watermarks(high, low);
        outcome.map_err(|error| crate::error::failure_of(&error))?;
        Ok(pwu_status::PWU_OK)
    })
}

/// Returns 1 if a send was PWU_CONGESTED and the caller has to stop sending, else 0. After a 1,
/// pause_writing is not called for it, and resume_writing follows. For code that sends in a loop and
/// has to know at once.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwu_take_pause(conn: *mut pwu_conn) -> c_int {
    number(|| {
        // SAFETY: NULL, lent or kept.
        Ok(unsafe { live_conn_at(conn) }?.transport.take_pause().into())
    })
}

/// Returns the bytes that were queued, headers included, and that the kernel has not taken; or a
/// pwu_status below 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwu_buffered(conn: *const pwu_conn) -> i64 {
    let outcome = guarded(|| {
        // SAFETY: NULL, lent or kept.
        let bytes = unsafe { conn_at(conn) }?.transport.buffered_amount();
        Ok(i64::try_from(bytes).unwrap_or(i64::MAX))
    });
    outcome.unwrap_or_else(|failure| failure.status as i64)
}

/// Returns the descriptor of the socket, for setting its options: do not read, write or close it.
/// PWU_CLOSED when it is closed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwu_socket(conn: *const pwu_conn) -> c_int {
    number(|| {
        // SAFETY: NULL, lent or kept.
        let conn = unsafe { live_conn_at(conn) }?;
        let descriptor = conn.transport.with_socket(|socket| socket.as_raw_fd());
        descriptor.ok_or_else(|| Failure::fixed(pwu_status::PWU_CLOSED))
    })
}

/// Returns 1 if the connection is over: on_disconnected was called or is about to be; else 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwu_is_disconnected(conn: *const pwu_conn) -> c_int {
    // SAFETY: NULL, lent or kept.
    number(|| Ok(unsafe { conn_at(conn) }?.transport.is_disconnected().into()))
}

/// Why a connection ended. More may be added.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub enum pwu_cause {
    /// It has not.
    PWU_CAUSE_NONE = 0,
    /// A close handshake.
    PWU_CAUSE_CLOSED = 1,
    /// pwu_disconnect or pwu_abort.
    PWU_CAUSE_APPLICATION = 2,
    /// The peer ended the stream without CLOSE.
    PWU_CAUSE_END_OF_STREAM = 3,
    /// The peer broke RFC 6455 or passed a limit.
    PWU_CAUSE_PROTOCOL = 4,
    /// The kernel reported an error, such as a reset.
    PWU_CAUSE_IO = 5,
    /// The peer did not do its part in time.
    PWU_CAUSE_TIMEOUT = 6,
    /// The peer did not answer a ping in time.
    PWU_CAUSE_PING_TIMEOUT = 7,
    /// A callback failed.
    PWU_CAUSE_CALLBACK = 8,
    /// More was queued than max_queue.
    PWU_CAUSE_QUEUE_FULL = 9,
    /// All connections together held too much memory, or there was none.
    PWU_CAUSE_MEMORY = 10,
    /// A message of the peer was under way for too long.
    PWU_CAUSE_MESSAGE_SLOW = 11,
    /// The peer took nothing of what was queued for too long.
    PWU_CAUSE_WRITE_STALLED = 12,
    /// The worker was stopped or freed.
    PWU_CAUSE_STOPPED = 13,
    /// The worker could not go on.
    PWU_CAUSE_WORKER_LOST = 14,
    /// Another cause: see the text.
    PWU_CAUSE_OTHER = 99,
}

/// The end of a connection, which has come or is about to. The texts are valid until the next
/// pwu_get_close_info on the connection and its last pwu_conn_unref.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct pwu_close_info {
    /// sizeof(pwu_close_info), set by the caller.
    pub size: usize,
    /// 1 if we have sent CLOSE.
    pub is_sent: u8,
    /// 1 if CLOSE was received.
    pub is_received: u8,
    /// 1 if it was received before ours was sent.
    pub received_first: u8,
    /// Code of the CLOSE that was sent; 0 for none.
    pub sent_code: u16,
    /// Code of the CLOSE that was received; 0 for none.
    pub received_code: u16,
    /// Its reason.
    pub sent_reason: pwu_str,
    /// Its reason.
    pub received_reason: pwu_str,
    /// One of pwu_cause.
    pub cause: c_int,
    /// The cause as a sentence; empty while there is none.
    pub cause_text: pwu_str,
}

// SAFETY: the size is first, and all fields are integers and pointers.
unsafe impl Sized0 for pwu_close_info {
    const DEFAULT: Self = Self {
        size: 0,
        is_sent: 0,
        is_received: 0,
        received_first: 0,
        sent_code: 0,
        received_code: 0,
        sent_reason: pwu_str::EMPTY,
        received_reason: pwu_str::EMPTY,
        cause: 0,
        cause_text: pwu_str::EMPTY,
    };
}

/// Fills `info` with what is known of the end of a connection. Also after the end of its worker.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwu_get_close_info(
    conn: *const pwu_conn,
    info: *mut pwu_close_info,
) -> pwu_status {
    entry(|| {
        // SAFETY: NULL, lent or kept.
        let conn = unsafe { conn_at(conn) }?;
        let handshake = conn.transport.close_handshake();
        let cause = conn.transport.disconnect_cause();
        let reason = |frame: &Option<CloseFrame>| {
            frame.as_ref().map_or_else(String::new, |frame| frame.reason().to_owned())
        };
        let code = |frame: &Option<CloseFrame>| {
            frame.as_ref().and_then(CloseFrame::code).map_or(0, CloseCode::get)
        };
        conn.close_texts.replace(CloseTexts {
            sent: reason(&handshake.sent),
            received: reason(&handshake.received),
            cause: cause.as_ref().map_or_else(String::new, ToString::to_string),
        });
        let texts = conn.close_texts.borrow();
        let filled = pwu_close_info {
            size: 0,
            is_sent: handshake.sent.is_some().into(),
            is_received: handshake.received.is_some().into(),
            received_first: handshake.received_first.into(),
            sent_code: code(&handshake.sent),
            received_code: code(&handshake.received),
            sent_reason: pwu_str::of(texts.sent.as_bytes()),
            received_reason: pwu_str::of(texts.received.as_bytes()),
            cause: cause.as_ref().map_or(pwu_cause::PWU_CAUSE_NONE, cause_of) as c_int,
            cause_text: pwu_str::of(texts.cause.as_bytes()),
        };
        // SAFETY: NULL, or a structure with its size, by the caller's word.
        unsafe { write_sized(info, &filled) }?;
        Ok(pwu_status::PWU_OK)
    })
}

fn cause_of(cause: &DisconnectCause) -> pwu_cause {
    match cause {
        DisconnectCause::Closed => pwu_cause::PWU_CAUSE_CLOSED,
        DisconnectCause::Application => pwu_cause::PWU_CAUSE_APPLICATION,
        DisconnectCause::EndOfStream => pwu_cause::PWU_CAUSE_END_OF_STREAM,
        DisconnectCause::PeerMisbehaved(_) => pwu_cause::PWU_CAUSE_PROTOCOL,
        DisconnectCause::Io(_) => pwu_cause::PWU_CAUSE_IO,
        DisconnectCause::TimedOut => pwu_cause::PWU_CAUSE_TIMEOUT,
        DisconnectCause::PingTimedOut => pwu_cause::PWU_CAUSE_PING_TIMEOUT,
        DisconnectCause::Listener(_) => pwu_cause::PWU_CAUSE_CALLBACK,
        DisconnectCause::QueueFull => pwu_cause::PWU_CAUSE_QUEUE_FULL,
        DisconnectCause::MemoryLimit | DisconnectCause::OutOfMemory => pwu_cause::PWU_CAUSE_MEMORY,
        DisconnectCause::MessageTooSlow => pwu_cause::PWU_CAUSE_MESSAGE_SLOW,
        DisconnectCause::WriteStalled => pwu_cause::PWU_CAUSE_WRITE_STALLED,
        DisconnectCause::Stopped => pwu_cause::PWU_CAUSE_STOPPED,
        DisconnectCause::WorkerFailed => pwu_cause::PWU_CAUSE_WORKER_LOST,
        _ => pwu_cause::PWU_CAUSE_OTHER,
    }
}

/// Fills `request` with the request that opened the connection. Valid as long as the connection is.
/// PWU_INVALID if it was not kept (keep_request).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwu_get_request(
    conn: *const pwu_conn,
    request: *mut pwu_request,
) -> pwu_status {
    entry(|| {
        // SAFETY: NULL, lent or kept.
        let conn = unsafe { conn_at(conn) }?;
        let filled =
            conn.heads.get_or_init(|| Heads::of(&conn.transport)).request(&conn.transport)?;
        // SAFETY: NULL, or a structure with its size, by the caller's word.
        unsafe { write_sized(request, &filled) }?;
        Ok(pwu_status::PWU_OK)
    })
}

/// Fills `response` with the answer of the server that a client has connected to. Valid as long as the
/// connection is. PWU_INVALID on the server's side.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwu_get_response(
    conn: *const pwu_conn,
    response: *mut pwu_response,
) -> pwu_status {
    entry(|| {
        // SAFETY: NULL, lent or kept.
        let conn = unsafe { conn_at(conn) }?;
        let heads = conn.heads.get_or_init(|| Heads::of(&conn.transport));
        let filled = heads.response(&conn.transport)?;
        // SAFETY: NULL, or a structure with its size, by the caller's word.
        unsafe { write_sized(response, &filled) }?;
        Ok(pwu_status::PWU_OK)
    })
}
