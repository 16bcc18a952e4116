//! Answer of a server's factory to a request.
//!
//! The factory is the router: it sees the request and decides. Whether the request is a valid
//! upgrade is checked after it, so that it can answer a plain GET.

mod later;

use crate::foreign::{self, Foreign, Panicked};
use crate::listener::{Listener, ListenerError, ListenerResult};
use crate::stream::{StreamOptions, WsStream, handled_by};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use picows_uring_proto::{UpgradeRequest, UpgradeResponse};
use std::fmt;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;

pub(crate) use later::{Decision, Later, Made};

/// The answer to an HTTP request.
///
/// ```
/// use picows_uring::{EchoListener, Upgrade, UpgradeRequest, UpgradeResponse};
///
/// fn route(request: &UpgradeRequest) -> Upgrade {
///     match request.path() {
///         "/echo" => Upgrade::accept(EchoListener),
///         "/healthz" => Upgrade::respond(UpgradeResponse::ok()),
///         _ => Upgrade::not_found(),
///     }
/// }
/// ```
pub struct Upgrade {
    pub(crate) answer: Answer,
}

pub(crate) enum Answer {
    Accept {
        listener: Box<dyn Listener>,
        headers: HeaderMap,
        subprotocol: Option<String>,
        /// Messages are not compressed, whatever the settings say.
        declines_deflate: bool,
    },
    Respond(UpgradeResponse),
    /// It is not known yet.
    Later(Later),
    /// It cannot be done.
    Fail(ListenerError),
}

impl Upgrade {
    /// Upgrades to WebSocket; `listener` gets the events of the connection. If the request is no
    /// valid upgrade, it is answered with 400 or 426, and the listener is dropped unused.
    #[must_use]
    pub fn accept(listener: impl Listener + 'static) -> Self {
        Self::accept_boxed(Box::new(listener))
    }

    /// [`accept`](Self::accept), for a listener that is boxed already.
    #[must_use]
    pub fn accept_boxed(listener: Box<dyn Listener>) -> Self {
        Self {
            answer: Answer::Accept {
                listener,
                headers: HeaderMap::new(),
                subprotocol: None,
                declines_deflate: false,
            },
        }
    }

    /// Upgrades to WebSocket, and starts `handler` as a task that is given the connection as a
    /// stream of messages and a sink.
    ///
    /// When the handler returns and drops the stream, the connection is closed with 1000. An error
    /// of it ends the connection as one of a callback does ([`ListenerError`]); a panic with 1011.
    ///
    /// Tasks run on the worker's thread, beside its connections. Where there are none, because the
    /// worker is dedicated, the request is answered with 500, and the log says why.
    ///
    /// ```
    /// use picows_uring::{Upgrade, UpgradeRequest};
    ///
    /// fn route(_: &UpgradeRequest) -> Upgrade {
    ///     Upgrade::accept_stream(async |mut stream| {
    ///         while let Some(message) = stream.next().await {
    ///             stream.send(message).await?;
    ///         }
    ///         Ok(())
    ///     })
    /// }
    /// ```
    #[must_use]
    pub fn accept_stream<F>(handler: F) -> Self
    where
        F: AsyncFnOnce(WsStream) -> ListenerResult + 'static,
    {
        Self::accept_stream_with(StreamOptions::default(), handler)
    }

    /// [`accept_stream`](Self::accept_stream), with a queue of the caller's choice.
    #[must_use]
    pub fn accept_stream_with<F>(options: StreamOptions, handler: F) -> Self
    where
        F: AsyncFnOnce(WsStream) -> ListenerResult + 'static,
    {
        match handled_by(options, handler) {
            Ok(listener) => Self::accept(listener),
            Err(error) => Self { answer: Answer::Fail(error.into()) },
        }
    }

    /// Answers with any HTTP response but 101, and closes the connection after it.
    #[must_use]
    pub fn respond(response: UpgradeResponse) -> Self {
        Self { answer: Answer::Respond(response) }
    }

    /// Decides later, as `decision` comes to an answer: an [`Upgrade`], or a `Result` of one.
    ///
    /// The future runs as a task of the worker's thread, beside its connections, and may use anything
    /// that runs on tokio. It has the time of
    /// [`handshake_timeout`](crate::ServerBuilder::handshake_timeout) that is left, and is then dropped
    /// and the client answered with 503; meanwhile the connection counts as a handshake in progress
    /// ([`max_handshakes`](crate::ServerBuilder::max_handshakes)). It is dropped as well when the client
    /// leaves; one that has sent frames already, which it should not, is noticed to have left only when
    /// the time is over. Such frames wait, most of them in the socket, and are delivered after
    /// `on_connected`. A panic costs the request, which is answered with 500, as an error is.
    ///
    /// A dedicated or embedded worker has no tasks: there the request is answered with 500, and the log
    /// says why.
    ///
    /// ```
    /// use http::StatusCode;
    /// use picows_uring::{EchoListener, Upgrade, UpgradeRequest, UpgradeResponse};
    ///
    /// async fn is_known(token: &str) -> Result<bool, std::io::Error> {
    ///     Ok(token == "secret") // A database would be asked.
    /// }
    ///
    /// fn route(request: &UpgradeRequest) -> Upgrade {
    ///     // The future outlives the call, so it has what it needs of the request.
    ///     let token = request.query().unwrap_or_default().to_owned();
    ///     Upgrade::later(async move {
    ///         if is_known(&token).await? {
    ///             return Ok(Upgrade::accept(EchoListener));
    ///         }
    ///         let response = UpgradeResponse::text(StatusCode::UNAUTHORIZED, "who are you?\n");
    ///         Ok::<_, std::io::Error>(Upgrade::respond(response))
    ///     })
    /// }
    /// ```
    #[must_use]
    pub fn later<F>(decision: F) -> Self
    where
        F: Future<Output: IntoUpgrade> + 'static,
    {
        Self { answer: Answer::Later(Box::pin(async { decision.await.into_upgrade() })) }
    }

    /// Changes an answer that comes [`later`](Self::later).
    fn when_made(self, change: impl FnOnce(Self) -> Self + 'static) -> Self {
        match self.answer {
            Answer::Later(later) => Self::later(async { later.await.map(change) }),
            answer => change(Self { answer }),
        }
    }

    /// Answers with 404.
    #[must_use]
    pub fn not_found() -> Self {
        Self::respond(UpgradeResponse::text(StatusCode::NOT_FOUND, "not found\n"))
    }

    /// Adds a header to the 101 response, or to the one given to [`respond`](Self::respond). Those
    /// of the handshake itself (`Upgrade`, `Connection`, `Sec-WebSocket-*`) are not overridden.
    ///
    /// ```
    /// use http::{HeaderValue, header};
    /// use picows_uring::{EchoListener, Upgrade};
    ///
    /// let cookie = HeaderValue::from_static("session=1");
    /// let upgrade = Upgrade::accept(EchoListener).with_header(header::SET_COOKIE, cookie);
    /// ```
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        match &mut self.answer {
            Answer::Accept { headers, .. } => headers.append(name, value),
            Answer::Respond(response) => response.headers.append(name, value),
            Answer::Fail(_) => return self,
            Answer::Later(_) => return self.when_made(|it| it.with_header(name, value)),
        };
        self
    }

    /// Declines to compress messages of this connection, whatever the settings of the server say: for
    /// clients that are known to get it wrong, by their `User-Agent`.
    #[cfg(feature = "deflate")]
    #[must_use]
    pub fn without_deflate(mut self) -> Self {
        match &mut self.answer {
            Answer::Accept { declines_deflate, .. } => *declines_deflate = true,
            Answer::Later(_) => return self.when_made(Self::without_deflate),
            Answer::Respond(_) | Answer::Fail(_) => {}
        }
        self
    }

    /// Chooses the subprotocol (RFC 6455 §1.9). It has to be one that the request offers, or the
    /// request is answered with 500: [`select_subprotocol`](crate::select_subprotocol) picks one.
    #[must_use]
    pub fn with_subprotocol(mut self, name: impl Into<String>) -> Self {
        let name = name.into();
        match &mut self.answer {
            Answer::Accept { subprotocol, .. } => *subprotocol = Some(name),
            Answer::Later(_) => return self.when_made(|it| it.with_subprotocol(name)),
            Answer::Respond(_) | Answer::Fail(_) => {}
        }
        self
    }
}

impl fmt::Debug for Upgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.answer {
            Answer::Accept { headers, subprotocol, .. } => f
                .debug_struct("Accept")
                .field("headers", headers)
                .field("subprotocol", subprotocol)
                .finish_non_exhaustive(),
            Answer::Respond(response) => response.fmt(f),
            Answer::Later(_) => f.write_str("Later"),
            Answer::Fail(error) => f.debug_tuple("Fail").field(error).finish(),
        }
    }
}

/// The types that a factory may return: an [`Upgrade`], or a `Result` of one.
///
/// An error is logged, and the request is answered with 500 without its text. A future is none of
/// them: [`Upgrade::later`] makes an `Upgrade` of it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no answer to a request",
    label = "not an `Upgrade`, nor a `Result` of one",
    note = "a factory that has to wait returns `Upgrade::later(async move {{ … }})`, and is no async \
            closure itself"
)]
pub trait IntoUpgrade: sealed::Sealed {
    /// Converts it.
    ///
    /// # Errors
    ///
    /// When the factory failed.
    fn into_upgrade(self) -> Result<Upgrade, ListenerError>;
}

mod sealed {
    use super::{ListenerError, Upgrade};

    /// Implemented here only, so that a type can be added without a breaking change.
    pub trait Sealed {}

    impl Sealed for Upgrade {}
    impl<E: Into<ListenerError>> Sealed for Result<Upgrade, E> {}
}

impl IntoUpgrade for Upgrade {
    fn into_upgrade(self) -> Result<Upgrade, ListenerError> {
        Ok(self)
    }
}

impl<E: Into<ListenerError>> IntoUpgrade for Result<Upgrade, E> {
    fn into_upgrade(self) -> Result<Upgrade, ListenerError> {
        self.map_err(Into::into)
    }
}

/// The worker that a factory is made for, by [`ServerBuilder::start_local`](crate::ServerBuilder::start_local).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerInfo {
    number: usize,
}

impl WorkerInfo {
    pub(crate) fn new(number: usize) -> Self {
        Self { number }
    }

    /// Which of the workers it is: from 0 up, as
    /// [`ServerHandle::worker_stats`](crate::ServerHandle::worker_stats) has them.
    #[must_use]
    pub fn number(self) -> usize {
        self.number
    }
}

/// Makes the factory of a worker, on its thread.
pub(crate) type MakeFactory = dyn Fn(WorkerInfo) -> Box<LocalFactory> + Send + Sync;
/// A factory that several workers share.
#[cfg(any(test, feature = "_fuzzing"))]
pub(crate) type Factory = dyn Fn(&UpgradeRequest) -> Made + Send + Sync;
/// The factory of a worker.
pub(crate) type LocalFactory = dyn Fn(&UpgradeRequest) -> Made;
/// The same for the connections of the worker, which count their references without a lock.
pub(crate) type SharedFactory = Rc<Foreign<Box<LocalFactory>>>;

/// One factory for all workers.
pub(crate) fn shared_factory<F, U>(factory: F) -> Arc<MakeFactory>
where
    F: Fn(&UpgradeRequest) -> U + Send + Sync + 'static,
    U: IntoUpgrade,
{
    let factory = Arc::new(factory);
    Arc::new(move |_| {
        let factory = Arc::clone(&factory);
        Box::new(move |request: &UpgradeRequest| factory(request).into_upgrade())
    })
}

/// A factory for each worker.
pub(crate) fn local_factory<M, F, U>(make: M) -> Arc<MakeFactory>
where
    M: Fn(WorkerInfo) -> F + Send + Sync + 'static,
    F: Fn(&UpgradeRequest) -> U + 'static,
    U: IntoUpgrade,
{
    Arc::new(move |worker| {
        let factory = make(worker);
        Box::new(move |request: &UpgradeRequest| factory(request).into_upgrade())
    })
}

/// Makes the factory of a worker, in the guard.
pub(crate) fn make_factory(
    make: &MakeFactory,
    worker: WorkerInfo,
) -> Result<SharedFactory, Panicked> {
    foreign::call(|| make(worker)).map(|factory| Rc::new(Foreign::new(factory)))
}
