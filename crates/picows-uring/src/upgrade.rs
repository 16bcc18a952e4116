//! Answer of a server's factory to a request.
//!
//! The factory is the router: it sees the request and decides. Whether the request is a valid
//! upgrade is checked after it, so that it can answer a plain GET.

use crate::foreign::Foreign;
use crate::listener::{Listener, ListenerError, ListenerResult};
use crate::stream::{StreamOptions, WsStream, handled_by};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use picows_uring_proto::{UpgradeRequest, UpgradeResponse};
use std::fmt;
use std::rc::Rc;

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
        };
        self
    }

    /// Declines to compress messages of this connection, whatever the settings of the server say: for
    /// clients that are known to get it wrong, by their `User-Agent`.
    #[cfg(feature = "deflate")]
    #[must_use]
    pub fn without_deflate(mut self) -> Self {
        if let Answer::Accept { declines_deflate, .. } = &mut self.answer {
            *declines_deflate = true;
        }
        self
    }

    /// Chooses the subprotocol (RFC 6455 §1.9). It has to be one that the request offers, or the
    /// request is answered with 500: [`select_subprotocol`](crate::select_subprotocol) picks one.
    #[must_use]
    pub fn with_subprotocol(mut self, name: impl Into<String>) -> Self {
        if let Answer::Accept { subprotocol, .. } = &mut self.answer {
            *subprotocol = Some(name.into());
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
            Answer::Fail(error) => f.debug_tuple("Fail").field(error).finish(),
        }
    }
}

/// The types that a factory may return: an [`Upgrade`], or a `Result` of one.
///
/// An error is logged, and the request is answered with 500 without its text.
pub trait IntoUpgrade {
    /// Converts it.
    ///
    /// # Errors
    ///
    /// When the factory failed.
    fn into_upgrade(self) -> Result<Upgrade, ListenerError>;
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

/// The user's factory, whatever it returns.
pub(crate) type Factory = dyn Fn(&UpgradeRequest) -> Result<Upgrade, ListenerError> + Send + Sync;
/// The same for the connections of one worker, which count their references without a lock.
pub(crate) type SharedFactory = Rc<Foreign<Box<LocalFactory>>>;
/// The same, of one worker.
pub(crate) type LocalFactory = dyn Fn(&UpgradeRequest) -> Result<Upgrade, ListenerError>;
