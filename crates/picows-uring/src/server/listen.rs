//! Listen addresses of a server, each with what is different about its connections.

use super::builder::ServerBuilder;
use crate::config::{Config, WrongSetting};
use crate::socket::{GroupName, ListenOn, Wanted};
use crate::tls::ServerTls;
use crate::upgrade::{IntoUpgrade, MakeFactory, WorkerInfo, local_factory, shared_factory};
use picows_uring_proto::UpgradeRequest;
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// One thing that a server listens on. What is not said here is as the server has it.
///
/// ```
/// use picows_uring::{EchoListener, Listen, Server, Upgrade, UpgradeResponse};
///
/// let inside = Listen::on("127.0.0.1:0")
///     .factory(|_| Upgrade::respond(UpgradeResponse::ok().with_body("inside\n")))
///     .settings(|it| it.max_frame_size(1 << 20).handshake_timeout(None));
/// let builder = Server::builder().listen("127.0.0.1:0").listen(inside).workers(1);
/// let server = builder.start(|_| Upgrade::accept(EchoListener))?;
/// assert_eq!(server.addresses().len(), 2);
/// # server.stop()?;
/// # Ok::<(), picows_uring::Error>(())
/// ```
#[derive(Clone)]
#[must_use = "nothing listens before it is given to a server"]
pub struct Listen {
    on: ListenOn,
    tls: Option<Option<ServerTls>>,
    make: Option<Arc<MakeFactory>>,
    settings: Vec<Arc<Change>>,
}

type Change = dyn Fn(ServerBuilder) -> ServerBuilder + Send + Sync;

/// How the connections of one address are served.
#[derive(Clone)]
pub(crate) struct Served {
    pub(crate) config: Arc<Config>,
    /// Its own factory; `None` for that of the server.
    pub(crate) make: Option<Arc<MakeFactory>>,
}

impl Listen {
    /// An address, as [`ServerBuilder::listen`] has it.
    pub fn on(address: impl Into<String>) -> Self {
        Self::of(ListenOn::Text(address.into()))
    }

    /// A socket that listens already, as [`ServerBuilder::listen_socket`] has it.
    pub fn socket(socket: impl Into<OwnedFd>) -> Self {
        Self::of(ListenOn::Inherited(Arc::new(socket.into())))
    }

    /// What a predecessor had inherited.
    pub(super) fn taken(name: GroupName) -> Self {
        Self::of(ListenOn::Taken(name))
    }

    fn of(on: ListenOn) -> Self {
        Self { on, tls: None, make: None, settings: Vec::new() }
    }

    /// Speaks TLS here, or with other settings than elsewhere.
    #[cfg(feature = "_tls")]
    pub fn tls(mut self, tls: ServerTls) -> Self {
        self.tls = Some(Some(tls));
        self
    }

    /// Speaks no TLS here.
    #[cfg(feature = "_tls")]
    pub fn without_tls(mut self) -> Self {
        self.tls = Some(None);
        self
    }

    /// Requests that come this way are answered by a factory of their own.
    pub fn factory<F, U>(mut self, factory: F) -> Self
    where
        F: Fn(&UpgradeRequest) -> U + Send + Sync + 'static,
        U: IntoUpgrade,
    {
        self.make = Some(shared_factory(factory));
        self
    }

    /// [`factory`](Self::factory), with one for each worker, which may hold what stays on its thread;
    /// see [`ServerBuilder::start_local`].
    pub fn factory_local<M, F, U>(mut self, make: M) -> Self
    where
        M: Fn(WorkerInfo) -> F + Send + Sync + 'static,
        F: Fn(&UpgradeRequest) -> U + 'static,
        U: IntoUpgrade,
    {
        self.make = Some(local_factory(make));
        self
    }

    /// Changes settings of the connections that come this way, from those of the server. Limits that
    /// are changed ([`max_connections`](ServerBuilder::max_connections),
    /// [`max_per_address`](ServerBuilder::max_per_address),
    /// [`max_handshakes`](ServerBuilder::max_handshakes)) count these connections alone, and they do not
    /// count in those of the server. Settings of threads and workers cannot be changed here.
    pub fn settings(
        mut self,
        change: impl Fn(ServerBuilder) -> ServerBuilder + Send + Sync + 'static,
    ) -> Self {
        self.settings.push(Arc::new(change));
        self
    }

    /// Whether it makes its own listening socket.
    pub(super) fn is_own(&self) -> bool {
        matches!(self.on, ListenOn::Text(_))
    }

    /// What to listen on, and how it is served beside others with the settings `base`.
    pub(super) fn resolve(self, base: &Arc<Config>) -> Result<(Wanted, Served), WrongSetting> {
        let Self { on, tls, make, settings } = self;
        let mut config = Arc::clone(base);
        if !settings.is_empty() {
            let builder = ServerBuilder::of_config(Config::clone(base));
            let builder = settings.iter().fold(builder, |builder, change| change(builder));
            let mut changed = builder.config_of_address(base)?;
            if changed.admission_limits() != base.admission_limits() {
                changed.admission = Some(Arc::default());
            }
            config = Arc::new(changed);
        }
        if let Some(tls) = tls {
            config = Arc::new(Config { tls, ..Config::clone(&config) });
        }
        Ok((Wanted { on, is_secure: config.tls.is_some() }, Served { config, make }))
    }
}

impl From<&str> for Listen {
    fn from(address: &str) -> Self {
        Self::on(address)
    }
}

impl From<&String> for Listen {
    fn from(address: &String) -> Self {
        Self::on(address)
    }
}

impl From<String> for Listen {
    fn from(address: String) -> Self {
        Self::on(address)
    }
}

impl From<OwnedFd> for Listen {
    fn from(socket: OwnedFd) -> Self {
        Self::socket(socket)
    }
}

impl fmt::Debug for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listen").field("on", &self.on).finish_non_exhaustive()
    }
}
