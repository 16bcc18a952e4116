//! The client: from a URL to an open connection.
//!
//! Connecting is slow by nature, so it is async: names, sockets and redirects are handled here, on
//! the loop beside the worker. The socket then goes to the worker, which sends the request, judges
//! the answer and serves the connection like any other.

mod attempt;
mod connect;
mod connecting;
mod dial;
mod error;
#[cfg(any(test, feature = "testing"))]
mod in_memory;
mod intake;
mod proxy;
mod redirect;
mod resolve;
#[cfg(feature = "_tls")]
mod secure;
mod target;

pub use attempt::Attempt;
pub use connect::Connect;
pub use error::{ConnectError, ConnectFault, ConnectStage};
pub use proxy::{Proxy, ProxyFault};
pub use redirect::RedirectKeeps;

#[cfg(any(test, feature = "_fuzzing"))]
pub(crate) use target::fuzz_url;

#[cfg(any(test, feature = "testing"))]
pub(crate) use connecting::ConnectOutcome;
pub(crate) use connecting::Connecting;
#[cfg(test)]
pub(crate) use connecting::MakeListener;
pub(crate) use intake::{Intake, NewSocket, NewStream, Registration};
#[cfg(all(test, feature = "_tls"))]
pub(crate) use {proxy::ProxyTls, secure::NewTls};
