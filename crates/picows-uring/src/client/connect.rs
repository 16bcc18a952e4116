//! Everything that can be set about a client connection, and the way to it.

use super::connecting::{ConnectOutcome, Connecting, MakeListener};
use super::dial::{DialOptions, dial, dial_unix, resolve};
use super::error::{ConnectError, ConnectFault, ConnectStage};
use super::intake::{NewSocket, NewStream, hand_over};
use super::proxy::Way;
use super::redirect::RedirectKeeps;
#[cfg(feature = "_tls")]
use super::secure::{NewTls, TlsOptions};
use super::target::{Endpoint, Target};
use crate::config::{Config, connection_settings};
use crate::foreign::Foreign;
use crate::listener::Listener;
use crate::local::{self, Local};
use crate::ring::Socket;
use crate::stream::{StreamListener, StreamOptions, WsStream};
use crate::transport::Transport;
use picows_uring_proto::internal::basic_authorization;
use picows_uring_proto::{
    ClientHandshake, HeadReceiver, ResponseError, ResponseHead, UpgradeRequest,
};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::net::sockopt::set_tcp_nodelay;
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::net::IpAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::task::yield_now;
use tokio::time::timeout;

/// A connection to be made, with its settings. Those of the connection itself are the same as a
/// server's, and the last of the methods here.
///
/// Each method takes and returns it. What makes no sense is reported by [`connect`](Self::connect)
/// and its kin before anything is done, as a fault that names it: [`ConnectFault::Setting`],
/// [`ConnectFault::Option`] or [`ConnectFault::Url`].
///
/// ```
/// use picows_uring::{Connect, EchoListener, Frame, Listener, ListenerResult, Server, Transport, Upgrade};
///
/// struct Greeter;
///
/// impl Listener for Greeter {
///     fn on_connected(&mut self, transport: &Transport) -> ListenerResult {
///         transport.send_text("hello");
///         Ok(())
///     }
///
///     fn on_frame(&mut self, transport: &Transport, frame: &Frame<'_>) -> ListenerResult {
///         assert_eq!(frame.text()?, "hello");
///         transport.disconnect();
///         Ok(())
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let builder = Server::builder().listen("127.0.0.1:0").workers(1);
/// # let server = builder.start(|_| Upgrade::accept(EchoListener))?;
/// # let url = server.addresses()[0].to_string();
/// picows_uring::run(async move {
///     let transport = Connect::new(url).connect(Greeter).await?;
///     transport.wait_disconnected().await?;
///     Ok::<(), Box<dyn std::error::Error>>(())
/// })??;
/// # Ok(())
/// # }
/// ```
///
/// A clone makes a connection of its own, with the same settings.
#[derive(Clone)]
#[must_use = "nothing happens before `connect`"]
pub struct Connect {
    pub(super) url: String,
    pub(super) headers: Vec<(String, Vec<u8>)>,
    pub(super) subprotocols: Vec<String>,
    query: Vec<(String, String)>,
    /// A setting that makes no sense by itself, and why.
    misuse: Option<(&'static str, &'static str)>,
    max_redirects: u32,
    pub(super) redirect_keeps: Option<RedirectKeeps>,
    pub(super) dial: DialOptions,
    #[cfg(feature = "_tls")]
    pub(super) tls: TlsOptions,
    pub(super) socket: Option<GivenSocket>,
    /// A stream of a carrier instead of a socket.
    pub(super) carried: Option<Socket>,
    pub(super) config: Config,
}

/// A connected socket of the caller's, which clones share until one of them connects.
#[derive(Clone)]
pub(super) struct GivenSocket(Rc<Cell<Option<OwnedFd>>>);

impl GivenSocket {
    pub(super) fn take(self) -> Result<OwnedFd, ConnectFault> {
        self.0.take().ok_or_else(|| {
            let fault = "a clone has connected with it: give each connection a socket of its own";
            ConnectFault::Setting { setting: "socket", fault: fault.to_owned() }
        })
    }
}

impl Connect {
    /// A connection to `url`: `ws://host[:port][/path][?query]`. Host names may be
    /// internationalised; IPv6 addresses go in brackets, without a zone. A user name or password is
    /// an error, as URLs end in logs: give an `Authorization` header instead.
    ///
    /// Or to a Unix socket: `ws+unix:/run/picows.sock`, as a [`ListenAddress`](crate::ListenAddress)
    /// is printed, with the path and query of the request behind another colon if it is not `/`:
    /// `ws+unix:/run/picows.sock:/path?query`. In the socket's path, `%`, `?`, `#` and `:/` are
    /// percent-encoded. The `Host` is `localhost`, unless a header gives one.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            headers: Vec::new(),
            subprotocols: Vec::new(),
            query: Vec::new(),
            misuse: None,
            max_redirects: REDIRECTS_MAX,
            redirect_keeps: None,
            dial: DialOptions::default(),
            #[cfg(feature = "_tls")]
            tls: TlsOptions::default(),
            socket: None,
            carried: None,
            config: Config::default(),
        }
    }

    /// Adds a header to the request; a `Host` replaces ours. The headers of the handshake itself
    /// cannot be given.
    pub fn header(mut self, name: impl AsRef<str>, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.as_ref().to_owned(), value.as_ref().to_vec()));
        self
    }

    /// Adds a pair to the query of the URL, each part percent-encoded as in a form; may be called several
    /// times. It goes to the server of the URL, and no redirect gets it.
    ///
    /// ```
    /// use picows_uring::Connect;
    ///
    /// // GET /feed?stream=btc%2Fusd
    /// let connect = Connect::new("ws://example.com/feed").query("stream", "btc/usd");
    /// ```
    pub fn query(mut self, name: impl AsRef<str>, value: impl AsRef<str>) -> Self {
        self.query.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Sends user name and password in an `Authorization` header (RFC 7617), which is treated like any
    /// other header where a redirect leads to another origin. Without TLS, all machines on the way can
    /// read them. A colon in the name, which would end it, is an error ([`ConnectFault::Setting`]).
    pub fn basic_auth(self, user: impl AsRef<str>, password: impl AsRef<str>) -> Self {
        let (user, password) = (user.as_ref(), password.as_ref());
        if user.contains(':') {
            let fault = "a user name has no colon, which would end it: leave it out";
            return Self { misuse: Some(("basic_auth", fault)), ..self };
        }
        self.header("Authorization", basic_authorization(user, password))
    }

    /// Offers a subprotocol (RFC 6455 §1.9); may be called several times, the first choice first.
    /// [`Transport::subprotocol`] returns the one that the server chose.
    pub fn subprotocol(mut self, name: impl Into<String>) -> Self {
        self.subprotocols.push(name.into());
        self
    }

    /// How long it may take from here to the open connection, redirects included: more than zero,
    /// `None` for ever. It is the caller's time, so it passes as well while this process is held up
    /// before the request leaves; an answer that is there when it has passed still counts. Default:
    /// 5 s.
    pub fn handshake_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.config.conversation.handshake_timeout = timeout.into();
        self
    }

    /// How many redirects are followed (301, 302, 303, 307, 308; never from `wss` to `ws`).
    /// Default: 5.
    ///
    /// To another origin, headers and subprotocol offers do not follow; if there are any, the
    /// redirect is an error, unless [`redirect_keeps`](Self::redirect_keeps) says what to do. No
    /// redirect leads to a Unix socket.
    pub fn max_redirects(mut self, count: u32) -> Self {
        self.max_redirects = count;
        self
    }

    /// What of the headers and subprotocol offers that were given follows redirects to another
    /// origin. Default: nothing, and a redirect to another origin is an error
    /// ([`ConnectFault::Redirect`]) if there are any.
    pub fn redirect_keeps(mut self, keeps: RedirectKeeps) -> Self {
        self.redirect_keeps = Some(keeps);
        self
    }

    /// Our own address. Default: what the system chooses.
    pub fn local_address(mut self, address: IpAddr) -> Self {
        self.dial.local = Some(address);
        self
    }

    /// Sets options of the socket before it connects.
    ///
    /// ```
    /// use picows_uring::Connect;
    /// use rustix::net::sockopt;
    ///
    /// let connect = Connect::new("ws://127.0.0.1:9001/").socket_hook(|socket| {
    ///     sockopt::set_socket_recv_buffer_size(socket, 1 << 20)?;
    ///     Ok(())
    /// });
    /// ```
    pub fn socket_hook(
        mut self,
        hook: impl Fn(BorrowedFd<'_>) -> io::Result<()> + 'static,
    ) -> Self {
        self.dial.hook = Some(Rc::new(hook));
        self
    }

    /// Uses a socket that is connected already; the URL then gives path and Host only. Redirects
    /// are not followed. Of several clones, the first that connects has it; for the others it is an error
    /// ([`ConnectFault::Setting`]).
    pub fn socket(mut self, socket: impl Into<OwnedFd>) -> Self {
        self.socket = Some(GivenSocket(Rc::new(Cell::new(Some(socket.into())))));
        self
    }

    /// Uses a stream of a carrier instead of a socket.
    pub(crate) fn carry(&mut self, stream: Option<Socket>) {
        self.carried = stream;
    }

    /// Connects, and serves the connection with `listener` on the loop of this thread. When this
    /// returns, `on_connected` has been called, and frames may have arrived.
    ///
    /// To reach into the listener from outside, give an `Rc<RefCell<…>>` of it and keep a clone.
    ///
    /// Dropping the future gives the connection up.
    ///
    /// # Errors
    ///
    /// When a setting makes no sense, or there is no connection; see [`ConnectFault`].
    pub async fn connect(
        self,
        listener: impl Listener + 'static,
    ) -> Result<Transport, ConnectError> {
        self.connect_with(|_, _| listener).await
    }

    /// [`connect`](Self::connect), with a listener that is made when request and response are
    /// known.
    ///
    /// # Errors
    ///
    /// When a setting makes no sense, or there is no connection; see [`ConnectFault`].
    pub async fn connect_with<L: Listener + 'static>(
        self,
        make: impl FnOnce(&UpgradeRequest, &ResponseHead) -> L + 'static,
    ) -> Result<Transport, ConnectError> {
        let url = self.url.clone();
        let make: MakeListener =
            Box::new(move |request, response| Box::new(make(request, response)));
        self.establish(make).await.map_err(|fault| ConnectError::new(&url, fault))
    }

    /// Connects, and turns the connection into a stream of messages and a sink.
    ///
    /// # Errors
    ///
    /// When a setting makes no sense, or there is no connection; see [`ConnectFault`].
    pub async fn stream(self) -> Result<WsStream, ConnectError> {
        self.stream_with(StreamOptions::default()).await
    }

    /// [`stream`](Self::stream), with a queue of the caller's choice.
    ///
    /// # Errors
    ///
    /// When a setting makes no sense, or there is no connection; see [`ConnectFault`].
    pub async fn stream_with(self, options: StreamOptions) -> Result<WsStream, ConnectError> {
        let (listener, inbox) = StreamListener::new(options);
        let transport = self.connect(listener).await?;
        Ok(WsStream::new(transport, inbox))
    }

    #[cfg(test)]
    pub(super) fn resolver(mut self, resolver: super::resolve::Resolver) -> Self {
        self.dial.resolver = resolver;
        self
    }

    async fn establish(self, make: MakeListener) -> Result<Transport, ConnectFault> {
        let local = local::current().ok_or(ConnectFault::NoRuntime)?;
        self.check()?;
        let progress =
            ConnectProgress { stage: Cell::new(ConnectStage::Resolve), outcome: Cell::default() };
        let limit = self.config.conversation.handshake_timeout;
        let mut attempt = pin!(self.follow(&local, make, &progress));
        let Some(limit) = limit else { return attempt.await };
        if let Ok(outcome) = timeout(limit, attempt.as_mut()).await {
            return outcome;
        }
        let stage = progress.shown_stage();
        match last_look(attempt, &progress).await {
            None => {
                // An answer of which only the end is missing says more than that it is.
                let rejected = progress.outcome.take().and_then(|outcome| outcome.take_rejected());
                let late = ConnectFault::Timeout { stage, limit };
                Err(rejected.map_or(late, ConnectFault::Response))
            }
            Some(outcome) => outcome,
        }
    }

    /// Checks the settings, but for the URL.
    pub(super) fn check(&self) -> Result<(), ConnectFault> {
        if let Some((setting, fault)) = self.misuse {
            return Err(ConnectFault::Setting { setting, fault: fault.to_owned() });
        }
        self.config.check()?;
        self.check_proxy()
    }

    /// The target of the URL, with what was added to its query.
    pub(super) fn target(&self) -> Result<Target, ConnectFault> {
        let mut target = Target::parse(&self.url)?;
        target.add_query(&self.query);
        Ok(target)
    }

    /// What the worker is to know of the connection.
    fn take_config(&mut self) -> Arc<Config> {
        let mut config = std::mem::take(&mut self.config);
        // The handshake offers it.
        #[cfg(feature = "deflate")]
        self.config.deflate.clone_from(&config.deflate);
        // The time is counted here, from before there is a worker to count it.
        config.conversation.handshake_timeout = None;
        Arc::new(config)
    }

    /// Connects to the URL, and to wherever it leads.
    async fn follow(
        mut self,
        local: &Rc<Local>,
        make: MakeListener,
        progress: &ConnectProgress,
    ) -> Result<Transport, ConnectFault> {
        let make = Rc::new(Cell::new(Some(Foreign::new(make))));
        let mut target = self.target()?;
        let config = self.take_config();
        let mut given = self.socket.take().map(GivenSocket::take).transpose()?;
        let redirects_max = if given.is_some() { 0 } else { self.max_redirects };
        for redirects in 0.. {
            #[cfg(not(feature = "_tls"))]
            if target.is_secure {
                return Err(ConnectFault::TlsUnsupported);
            }
            #[cfg(feature = "_tls")]
            let tls = self.begin_tls(local, &target).await?;
            // Before there is a socket: a header that cannot be sent costs no connection.
            let handshake = self.handshake(local, &target)?;
            let request = Box::new(handshake.request()?);
            let way = match given.take() {
                Some(socket) => Way::plain(socket),
                None => self.dial(&target, progress).await?,
            };
            progress.stage.set(ConnectStage::Handshake);
            let outcome = Rc::new(ConnectOutcome::default());
            #[cfg(feature = "_tls")]
            if tls.is_some() {
                outcome.begin_tls();
            }
            progress.outcome.set(Some(Rc::clone(&outcome)));
            let connecting = Connecting {
                handshake,
                head: HeadReceiver::of_response(),
                request,
                make: Rc::clone(&make),
                outcome: Rc::clone(&outcome),
                follows_redirects: redirects_max > 0,
                #[cfg(feature = "_tls")]
                tls,
                #[cfg(feature = "_tls")]
                proxy: way.tls,
            };
            hand_over(prepare(way.socket, &config, connecting)?)?;
            match outcome.wait().await {
                Err(ConnectFault::Response(ResponseError::Redirect { location, response })) => {
                    if redirects_max == 0 {
                        let error = ResponseError::InvalidStatus(response);
                        return Err(ConnectFault::Response(error));
                    }
                    let followed = if redirects < redirects_max {
                        self.redirect(&target, &location)
                    } else {
                        Err(format!("{redirects_max} redirects were followed already"))
                    };
                    let next = followed.map_err(|fault| ConnectFault::Redirect {
                        location,
                        fault,
                        response,
                    })?;
                    target = next;
                }
                outcome => return outcome,
            }
        }
        Err(ConnectFault::NoRuntime)
    }

    /// Begins the handshake of TLS, where the target wants it.
    #[cfg(feature = "_tls")]
    async fn begin_tls(
        &self,
        local: &Local,
        target: &Target,
    ) -> Result<Option<Box<NewTls>>, ConnectFault> {
        if !target.is_secure {
            return Ok(None);
        }
        let tls = self.tls.settings().await?;
        self.tls.begin(local, &tls, target).map(|tls| Some(Box::new(tls)))
    }

    /// A connected socket.
    async fn dial(&self, target: &Target, progress: &ConnectProgress) -> Result<Way, ConnectFault> {
        if let Some(way) = self.dial.dial_proxied(target, &progress.stage).await? {
            return Ok(way);
        }
        let socket = match &target.endpoint {
            Endpoint::Host { host, port } => {
                progress.stage.set(ConnectStage::Resolve);
                let addresses = resolve(host, *port, &self.dial.resolver).await?;
                progress.stage.set(ConnectStage::Connect);
                dial(addresses, &self.dial).await
            }
            Endpoint::Unix(path) => {
                progress.stage.set(ConnectStage::Connect);
                dial_unix(path, &self.dial).await
            }
        };
        socket.map(Way::plain)
    }

    /// Where a redirect leads, with what may not follow left out of the request.
    fn redirect(&mut self, from: &Target, location: &str) -> Result<Target, String> {
        let next = from.redirect(location)?;
        if !next.is_same_origin(from) {
            #[cfg(feature = "_tls")]
            self.tls.leave_origin();
            self.leave_origin()?;
        }
        Ok(next)
    }

    pub(super) fn handshake(
        &self,
        local: &Local,
        target: &Target,
    ) -> Result<ClientHandshake, ConnectFault> {
        let nonce = local.keys.borrow_mut().nonce();
        let (host, path) = (target.host_header(), target.request_target());
        let mut handshake = ClientHandshake::new(&host, &path, nonce)?;
        if !self.subprotocols.is_empty() {
            handshake = handshake.with_subprotocols(&self.subprotocols)?;
        }
        if let Some(settings) = self.config.deflate() {
            handshake = handshake.with_deflate(settings)?;
        }
        for (name, value) in &self.headers {
            handshake = handshake.with_header(name, value)?;
        }
        Ok(handshake)
    }
}

connection_settings! {
    Connect, import: "Connect", make: "Connect::new(\"ws://127.0.0.1:9001/\")", pings: "10 s"
}

/// Lets bytes take effect that came before the time was over: this thread may have been held up for
/// longer, and have a turn of this task before those that look at the sockets. `None` when that
/// settles nothing.
async fn last_look(
    mut attempt: Pin<&mut impl Future<Output = Result<Transport, ConnectFault>>>,
    progress: &ConnectProgress,
) -> Option<Result<Transport, ConnectFault>> {
    // A socket that has connected wakes a task of its own, which hands it to this one.
    for _ in 0..LATE_LOOKS {
        if progress.stage.get() == ConnectStage::Handshake {
            break;
        }
        let looked = poll_fn(|context| Poll::Ready(attempt.as_mut().poll(context))).await;
        if let Poll::Ready(outcome) = looked {
            return Some(outcome);
        }
        yield_now().await;
    }
    let outcome = progress.outcome.take()?;
    progress.outcome.set(Some(Rc::clone(&outcome)));
    let session = outcome.expire()?;
    // The worker ends the handshake as soon as it has handled what had arrived.
    poll_fn(|context| match attempt.as_mut().poll(context) {
        Poll::Ready(Err(ConnectFault::Disconnected(None))) if session.has_timed_out() => {
            Poll::Ready(None)
        }
        Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
        // A redirect would be another handshake, for which there is no time.
        Poll::Pending if progress.stage.get() != ConnectStage::Handshake => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
    })
    .await
}

/// The state of an attempt to connect, for the caller that gives it up.
struct ConnectProgress {
    stage: Cell<ConnectStage>,
    outcome: Cell<Option<Rc<ConnectOutcome>>>,
}

impl ConnectProgress {
    /// The stage, of which the handshake of TLS is a part that the worker takes.
    fn shown_stage(&self) -> ConnectStage {
        let outcome = self.outcome.take();
        let is_in_tls = outcome.as_ref().is_some_and(|outcome| outcome.is_in_tls());
        self.outcome.set(outcome);
        match self.stage.get() {
            ConnectStage::Handshake if is_in_tls => ConnectStage::Tls,
            stage => stage,
        }
    }
}

/// Prepares a connected socket for the ring.
pub(super) fn prepare(
    socket: OwnedFd,
    config: &Arc<Config>,
    connecting: Connecting,
) -> Result<NewSocket, ConnectFault> {
    let failed = |errno: rustix::io::Errno| ConnectFault::Socket(errno.into());
    // io_uring does not wait on a socket that is marked not to: it would answer EAGAIN.
    let flags = fcntl_getfl(&socket).map_err(failed)?;
    fcntl_setfl(&socket, flags - OFlags::NONBLOCK).map_err(failed)?;
    // Not yet on one that was given; fails on a Unix socket, which has no delay anyway.
    let _ = set_tcp_nodelay(&socket, true);
    let peer = rustix::net::getpeername(&socket).ok().flatten();
    let peer = peer.and_then(|address| address.try_into().ok());
    let socket = NewStream::Descriptor(socket);
    Ok(NewSocket { socket, peer, config: Arc::clone(config), connecting })
}

impl std::fmt::Debug for Connect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connect").field("url", &self.url).finish_non_exhaustive()
    }
}

/// As in picows.
const REDIRECTS_MAX: u32 = 5;
/// Turns that the tasks of the loop have after the time is over: more than one task wakes another.
const LATE_LOOKS: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worker_counts_no_time_of_its_own() {
        for timeout in [None, Some(Duration::from_secs(60))] {
            let config = Connect::new("ws://a/").handshake_timeout(timeout).take_config();
            assert_eq!(config.conversation.handshake_timeout, None);
        }
    }
}
