//! The callbacks of a connection as a table of C, and the listener that calls them.

use crate::connection::pwu_conn;
use crate::status::{Failure, pwu_status};
use crate::types::{ShownFrame, Sized0, pwu_frame, read_sized};
use crate::worker::Shared;
use picows_uring::{CloseCode, Frame, Listener, ListenerError, ListenerResult, Transport};
use std::cell::RefCell;
use std::ffi::{c_int, c_void};
use std::rc::Rc;

/// The callbacks of a connection; any may be NULL. All get `user`. Those that return a number end the
/// connection if it is not 0: with that close code if it is one that may be sent (1000 to 1003, 1007 to
/// 1014, 3000 to 4999; pwu_set_close_reason adds the reason), else with 1011.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct pwu_callbacks {
    /// sizeof(pwu_callbacks).
    pub size: usize,
    /// The handshake is done.
    pub on_connected: Option<unsafe extern "C" fn(user: *mut c_void, conn: *mut pwu_conn) -> c_int>,
    /// A frame was received.
    pub on_frame: Option<
        unsafe extern "C" fn(
            user: *mut c_void,
            conn: *mut pwu_conn,
            frame: *const pwu_frame,
        ) -> c_int,
    >,
    /// The connection has ended: exactly once, after on_connected.
    pub on_disconnected: Option<unsafe extern "C" fn(user: *mut c_void, conn: *mut pwu_conn)>,
    /// A ping is due. NULL: a PING that carries a number.
    pub send_ping: Option<unsafe extern "C" fn(user: *mut c_void, conn: *mut pwu_conn) -> c_int>,
    /// Whether a frame answers the last ping: 1 yes, 0 no, below 0 failed. Called before on_frame while
    /// an answer is awaited. NULL: a PONG with the number of the ping.
    pub is_pong: Option<
        unsafe extern "C" fn(
            user: *mut c_void,
            conn: *mut pwu_conn,
            frame: *const pwu_frame,
        ) -> c_int,
    >,
    /// More is buffered than the high watermark: stop sending until resume_writing.
    pub pause_writing: Option<unsafe extern "C" fn(user: *mut c_void, conn: *mut pwu_conn)>,
    /// No more is buffered than the low watermark.
    pub resume_writing: Option<unsafe extern "C" fn(user: *mut c_void, conn: *mut pwu_conn)>,
    /// Frees `user`: the last call, exactly once, also if the connection never opened.
    pub free_user: Option<unsafe extern "C" fn(user: *mut c_void)>,
}

// SAFETY: the size is first, and the rest are options of functions, for which zero is none.
unsafe impl Sized0 for pwu_callbacks {
    const DEFAULT: Self = Self {
        size: 0,
        on_connected: None,
        on_frame: None,
        on_disconnected: None,
        send_ping: None,
        is_pong: None,
        pause_writing: None,
        resume_writing: None,
        free_user: None,
    };
}

/// Pointer of the application for a connection or a listening socket; freed with its last owner.
#[derive(Debug)]
pub(crate) struct User {
    pub(crate) pointer: *mut c_void,
    free: Option<unsafe extern "C" fn(*mut c_void)>,
}

impl User {
    pub(crate) fn new(
        pointer: *mut c_void,
        free: Option<unsafe extern "C" fn(*mut c_void)>,
    ) -> Rc<Self> {
        Rc::new(Self { pointer, free })
    }
}

impl Drop for User {
    fn drop(&mut self) {
        if let Some(free) = self.free {
            // SAFETY: the application gave both for this, and it is called once.
            unsafe { free(self.pointer) };
        }
    }
}

/// Callbacks together with what they get.
#[derive(Clone, Debug)]
pub(crate) struct Hooks {
    pub(crate) table: pwu_callbacks,
    pub(crate) user: Rc<User>,
}

impl Hooks {
    /// Takes `user` over, whatever else fails from here on.
    ///
    /// # Safety
    ///
    /// `table` is NULL or points to a table, and its functions may be called with `user`.
    pub(crate) unsafe fn take(
        table: *const pwu_callbacks,
        user: *mut c_void,
    ) -> Result<Self, Failure> {
        // SAFETY: the caller's promise.
        let table = unsafe { read_sized(table) }?.ok_or_else(|| Failure::null("callbacks"))?;
        Ok(Self { table, user: User::new(user, table.free_user) })
    }

    pub(crate) fn user(&self) -> *mut c_void {
        self.user.pointer
    }
}

/// The place where the listener leaves its connection for the outcome of a connection attempt.
pub(crate) type Opened = Rc<RefCell<Option<Rc<pwu_conn>>>>;

/// Calls the callbacks of one connection.
pub(crate) struct TableListener {
    hooks: Hooks,
    shared: Rc<Shared>,
    opened: Option<Opened>,
    conn: Option<Rc<pwu_conn>>,
}

impl TableListener {
    pub(crate) fn new(hooks: Hooks, shared: Rc<Shared>, opened: Option<Opened>) -> Self {
        Self { hooks, shared, opened, conn: None }
    }

    /// The connection, which is made when it is first needed.
    fn conn(&mut self, transport: &Transport) -> *mut pwu_conn {
        let conn = self.conn.get_or_insert_with(|| {
            pwu_conn::new(transport.clone(), Rc::clone(&self.shared), self.hooks.clone())
        });
        conn.as_pointer()
    }

    /// The meaning of a number that a callback returned.
    fn judge(&self, callback: &str, number: c_int) -> ListenerResult {
        if number == 0 {
            return Ok(());
        }
        let reason = self.conn.as_ref().and_then(|conn| conn.take_close_reason());
        match u16::try_from(number).ok().and_then(CloseCode::new) {
            Some(code) => Err(ListenerError::close(code, reason.unwrap_or_default())),
            None => Err(format!("{callback} returned {number}").into()),
        }
    }
}

impl Listener for TableListener {
    fn on_connected(&mut self, transport: &Transport) -> ListenerResult {
        let conn = self.conn(transport);
        if let Some(opened) = self.opened.take() {
            opened.replace(self.conn.clone());
        }
        let Some(call) = self.hooks.table.on_connected else { return Ok(()) };
        // SAFETY: the application gave the function for this, and the connection lives.
        let number = unsafe { call(self.hooks.user(), conn) };
        self.judge("on_connected", number)
    }

    fn on_frame(&mut self, transport: &Transport, frame: &Frame<'_>) -> ListenerResult {
        let Some(call) = self.hooks.table.on_frame else { return Ok(()) };
        let conn = self.conn(transport);
        let shown = ShownFrame::new(frame);
        // SAFETY: the application gave the function for this; connection and frame live.
        let number = unsafe { call(self.hooks.user(), conn, &raw const shown.shown) };
        self.judge("on_frame", number)
    }

    fn on_disconnected(&mut self, transport: &Transport) {
        let conn = self.conn(transport);
        if let Some(call) = self.hooks.table.on_disconnected {
            // SAFETY: the application gave the function for this, and the connection lives.
            unsafe { call(self.hooks.user(), conn) };
        }
    }

    fn send_user_specific_ping(&mut self, transport: &Transport) -> ListenerResult {
        let Some(call) = self.hooks.table.send_ping else {
            transport.send_auto_ping();
            return Ok(());
        };
        let conn = self.conn(transport);
        // SAFETY: the application gave the function for this, and the connection lives.
        let number = unsafe { call(self.hooks.user(), conn) };
        self.judge("send_ping", number)
    }

    fn is_user_specific_pong(
        &mut self,
        transport: &Transport,
        frame: &Frame<'_>,
    ) -> Result<bool, ListenerError> {
        let Some(call) = self.hooks.table.is_pong else { return Ok(transport.is_auto_pong(frame)) };
        let conn = self.conn(transport);
        let shown = ShownFrame::new(frame);
        // SAFETY: the application gave the function for this; connection and frame live.
        let number = unsafe { call(self.hooks.user(), conn, &raw const shown.shown) };
        if number < 0 {
            self.judge("is_pong", number)?;
        }
        Ok(number > 0)
    }

    fn pause_writing(&mut self, transport: &Transport) {
        self.conn(transport);
        if let Some(conn) = &self.conn {
            conn.pause_writing();
        }
    }

    fn resume_writing(&mut self, transport: &Transport) {
        let conn = self.conn(transport);
        if let Some(call) = self.hooks.table.resume_writing {
            // SAFETY: the application gave the function for this, and the connection lives.
            unsafe { call(self.hooks.user(), conn) };
        }
    }
}

impl Drop for TableListener {
    fn drop(&mut self) {
        if let Some(conn) = &self.conn {
            conn.forget_callbacks();
        }
    }
}

/// The failure that a call is which comes while a callback or hook runs.
pub(crate) fn inside_turn() -> Failure {
    Failure::fixed(pwu_status::PWU_INSIDE_TURN)
}
