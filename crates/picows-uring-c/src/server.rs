//! Listening sockets of a worker, and the route that answers requests.

use crate::callbacks::{Hooks, TableListener, User, pwu_callbacks};
use crate::error::{made, pwu_error};
use crate::head::{pwu_request, with_request};
use crate::options::{pwu_options, read_options};
use crate::status::{Failure, entry, number, pwu_status};
use crate::types::{Sized0, headers_of, pwu_header, pwu_str};
use crate::worker::{OfWorker, Shared, object_at, pwu_worker, take_object, worker_at};
use http::{HeaderName, HeaderValue, StatusCode};
use picows_uring::internal::outside::CarriedServer;
use picows_uring::{ListenerError, Listening, Server, Upgrade, UpgradeRequest, UpgradeResponse};
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::os::fd::{FromRawFd, OwnedFd};
use std::ptr;
use std::rc::Rc;

/// Listening sockets of one pwu_listen.
pub struct pwu_server {
    shared: Rc<Shared>,
    pub(crate) origin: Origin,
    urls: Vec<CString>,
}

/// The source of a server's connections.
pub(crate) enum Origin {
    Sockets(Listening),
    Carried(CarriedServer),
}

impl OfWorker for pwu_server {
    const NAME: &'static str = "the server";

    fn shared(&self) -> &Shared {
        &self.shared
    }
}

impl pwu_server {
    /// A server on the heap.
    pub(crate) fn made(shared: &Rc<Shared>, origin: Origin) -> *mut Self {
        let shown =
            |address: &picows_uring::ListenAddress| crate::status::c_text(&address.to_string());
        let urls = match &origin {
            Origin::Sockets(listening) => listening.addresses().iter().map(shown).collect(),
            Origin::Carried(_) => Vec::new(),
        };
        Box::into_raw(Box::new(Self { shared: Rc::clone(shared), origin, urls }))
    }
}

/// The route as a factory of the library.
pub(crate) fn route_of(
    route: pwu_route,
    user: Rc<User>,
    shared: &Rc<Shared>,
) -> Result<impl Fn(&UpgradeRequest) -> Result<Upgrade, ListenerError> + 'static, Failure> {
    let route = route.ok_or_else(|| Failure::null("the route"))?;
    let shared = Rc::clone(shared);
    Ok(move |request: &UpgradeRequest| ask(route, &user, request, &shared))
}

/// The answer of a route. It comes filled with zeros.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct pwu_answer {
    /// The library's; leave it as it is.
    pub size: usize,
    /// 0: upgrade to WebSocket, with `callbacks` and `user`; else the status of an HTTP answer.
    pub status: u16,
    /// The subprotocol, one of those that the request offers; empty for none.
    pub subprotocol: pwu_str,
    /// Headers of the answer.
    pub headers: *const pwu_header,
    /// How many.
    pub count: usize,
    /// The body of an HTTP answer.
    pub body: pwu_str,
    /// The callbacks of the connection. They are copied.
    pub callbacks: *const pwu_callbacks,
    /// Their argument. It is the library's from here on: free_user is called whatever happens.
    pub user: *mut c_void,
    /// Called with release_user once the answer was read, which is when what it points to may go. May be
    /// NULL: then that has to stay until the route is called again.
    pub release: Option<unsafe extern "C" fn(user: *mut c_void)>,
    /// The argument of release.
    pub release_user: *mut c_void,
}

// SAFETY: the size is first, and all fields are integers, pointers and an option of a function.
unsafe impl Sized0 for pwu_answer {
    const DEFAULT: Self = Self {
        size: size_of::<Self>(),
        status: 0,
        subprotocol: pwu_str::EMPTY,
        headers: ptr::null(),
        count: 0,
        body: pwu_str::EMPTY,
        callbacks: ptr::null(),
        user: ptr::null_mut(),
        release: None,
        release_user: ptr::null_mut(),
    };
}

/// Answers a request: fills `answer` and returns 0. Another number is answered with 500.
pub type pwu_route = Option<
    unsafe extern "C" fn(
        user: *mut c_void,
        request: *const pwu_request,
        answer: *mut pwu_answer,
    ) -> c_int,
>;

/// Listens on `address` (`127.0.0.1:9001`, `[::]:0`, `unix:/run/picows.sock`), or, if fd is not -1, on
/// that socket, which listens already and is the library's from here on, whatever happens. `route`
/// answers each request; free_user, which may be NULL, frees `user` when it is not needed any more,
/// whatever happens. NULL options are the defaults. NULL with an error if it fails.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwu_listen(
    worker: *mut pwu_worker,
    address: *const c_char,
    fd: c_int,
    options: *const pwu_options,
    route: pwu_route,
    user: *mut c_void,
    free_user: Option<unsafe extern "C" fn(user: *mut c_void)>,
    error: *mut *mut pwu_error,
) -> *mut pwu_server {
    let user = User::new(user, free_user);
    // SAFETY: the caller gives it away.
    let socket = (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd) });
    let body = move || {
        // SAFETY: NULL, or made and not freed, by the caller's word.
        let worker = unsafe { worker_at(worker) }?;
        let embedded = worker.embedded()?;
        let factory = route_of(route, user, &worker.shared)?;
        // SAFETY: NULL, or a structure with its size, by the caller's word.
        let options = unsafe { read_options(options) }?;
        // SAFETY: the same: what it points to was made and not freed.
        let builder = unsafe { options.of_server(Server::builder()) }?;
        let builder = match socket {
            Some(socket) => builder.listen_socket(socket),
            None => {
                // SAFETY: NULL, or a text with a zero at its end, by the caller's word.
                let address =
                    unsafe { text_at(address) }.ok_or_else(|| Failure::null("address"))?;
                builder.listen(address)
            }
        };
        let listening = embedded.listen(builder, factory)?;
        Ok(pwu_server::made(&worker.shared, Origin::Sockets(listening)))
    };
    // SAFETY: NULL or to be written to, by the caller's word.
    unsafe { made(error, body) }
}

/// The text at `text`, as far as it is UTF-8; `None` for NULL.
///
/// # Safety
///
/// `text` is NULL or has a zero at its end.
pub(crate) unsafe fn text_at(text: *const c_char) -> Option<String> {
    // SAFETY: the caller's promise.
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
}

/// Has the route answer `request`.
fn ask(
    route: unsafe extern "C" fn(*mut c_void, *const pwu_request, *mut pwu_answer) -> c_int,
    user: &Rc<User>,
    request: &UpgradeRequest,
    shared: &Rc<Shared>,
) -> Result<Upgrade, ListenerError> {
    let mut answer = pwu_answer::DEFAULT;
    let number = with_request(request, |request| {
        // SAFETY: the application gave both for this, and what is pointed to lives.
        unsafe { route(user.pointer, request, &raw mut answer) }
    });
    // SAFETY: the route filled it, by its rules.
    let upgrade = unsafe { upgrade_of(&answer, shared) };
    if let Some(release) = answer.release {
        // SAFETY: the application gave both for this.
        unsafe { release(answer.release_user) };
    }
    if number != 0 {
        return Err(format!("the route returned {number}").into());
    }
    upgrade
}

/// The answer that the library is to send.
///
/// # Safety
///
/// `answer` was filled by the rules in its comments.
unsafe fn upgrade_of(answer: &pwu_answer, shared: &Rc<Shared>) -> Result<Upgrade, ListenerError> {
    let fault = |failure: Failure| ListenerError::from(failure.text.into_owned());
    let hooks = if answer.callbacks.is_null() {
        None
    } else {
        // SAFETY: the caller's promise.
        Some(unsafe { Hooks::take(answer.callbacks, answer.user) }.map_err(fault)?)
    };
    // SAFETY: the caller's promise.
    let headers = unsafe { headers_of(answer.headers, answer.count) };
    let mut upgrade = if answer.status == 0 {
        let hooks = hooks.ok_or("the route has set neither a status nor callbacks")?;
        Upgrade::accept(TableListener::new(hooks, Rc::clone(shared), None))
    } else {
        // SAFETY: the caller's promise.
        let body = unsafe { answer.body.bytes() }.to_vec();
        Upgrade::respond(UpgradeResponse::new(StatusCode::from_u16(answer.status)?).with_body(body))
    };
    for header in headers {
        // SAFETY: the caller's promise.
        let (name, value) = unsafe { (header.name.bytes(), header.value.bytes()) };
        let (name, value) = (HeaderName::from_bytes(name)?, HeaderValue::from_bytes(value)?);
        upgrade = upgrade.with_header(name, value);
    }
    // SAFETY: the caller's promise.
    let subprotocol = unsafe { answer.subprotocol.bytes() };
    if !subprotocol.is_empty() {
        upgrade = upgrade.with_subprotocol(std::str::from_utf8(subprotocol)?);
    }
    Ok(upgrade)
}

/// Returns the descriptor of the listening socket, for asking its options and for dup: do not accept on
/// it or close it. PWU_CLOSED once the worker was freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwu_server_fd(server: *const pwu_server) -> c_int {
    number(|| {
        // SAFETY: NULL, or made and not closed, by the caller's word.
        let server = unsafe { object_at(server) }?;
        server.shared.check_alive()?;
        let descriptor = match &server.origin {
            Origin::Sockets(listening) => listening.descriptors().first().copied(),
            Origin::Carried(_) => None,
        };
        descriptor.ok_or_else(|| Failure::fixed(pwu_status::PWU_CLOSED))
    })
}

/// Returns the URL that clients connect to, such as ws://127.0.0.1:9001, with the port that was found for
/// port 0; of a Unix socket, ws+unix: and its path. Valid as long as the
/// server is. NULL if the server cannot be used.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwu_server_url(server: *const pwu_server) -> *const c_char {
    let url = crate::status::guarded(|| {
        // SAFETY: NULL, or made and not closed, by the caller's word.
        let server = unsafe { object_at(server) }?;
        Ok(server.urls.first().map_or(c"".as_ptr(), |url| url.as_ptr()))
    });
    url.unwrap_or(ptr::null())
}

/// Closes the listening socket in the next turn and frees the server. Connections stay. To be called once
/// for each server, also after its worker was freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwu_server_close(server: *mut pwu_server) -> pwu_status {
    entry(|| {
        // SAFETY: NULL, or made and not closed, by the caller's word.
        drop(unsafe { take_object(server) }?);
        Ok(pwu_status::PWU_OK)
    })
}
