//! Answers to operators over HTTP: `/metrics`, `/healthz` and `/readyz`.
//!
//! Says what is answered, and the settings for it; the figures are those of `Monitor`.

use super::builder::{Server, ServerBuilder};
use super::monitor::Monitor;
use crate::config::Probe;
use crate::driver::Driver;
use crate::upgrade::{MakeFactory, Upgrade, shared_factory};
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use picows_uring_proto::{UpgradeRequest, UpgradeResponse};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// The server that is asked about.
#[derive(Debug, Default)]
pub(super) struct Probes {
    /// Set when it has started.
    monitor: OnceLock<Monitor>,
}

/// What is answered on the addresses of the server itself.
#[derive(Clone, Debug, Default)]
pub(super) struct OnMain {
    pub(super) health: bool,
    pub(super) metrics: bool,
    /// The server that is asked about, if it is not this one.
    of: Option<Arc<Probes>>,
}

impl Probes {
    /// The server has started.
    pub(super) fn watch(&self, monitor: Monitor) {
        let _ = self.monitor.set(monitor);
    }

    fn health(&self) -> UpgradeResponse {
        let Some(monitor) = self.monitor.get() else { return starting() };
        if let Some(reason) = monitor.unhealthy() {
            return unavailable(&reason);
        }
        let driver = monitor.workers().next().map_or(Driver::Auto, |worker| worker.driver);
        UpgradeResponse::ok().with_body(format!("ok\ndriver: {}\n", driver.name()))
    }

    fn readiness(&self) -> UpgradeResponse {
        let Some(monitor) = self.monitor.get() else { return starting() };
        match monitor.not_ready() {
            Some(reason) => unavailable(&reason),
            None => UpgradeResponse::ok().with_body("ready\n"),
        }
    }

    fn metrics(&self) -> UpgradeResponse {
        let Some(monitor) = self.monitor.get() else { return starting() };
        let mut response = UpgradeResponse::ok().with_body(monitor.open_metrics());
        response.headers.insert(CONTENT_TYPE, OPEN_METRICS);
        response
    }
}

impl ServerBuilder {
    /// Answers `/metrics`, `/healthz` and `/readyz` on an address of its own, by a thread of its own:
    /// also while all workers are busy or blocked, at every limit, and to the end of a graceful shutdown.
    /// Takes what [`listen`](Self::listen) takes. There is neither TLS nor a password: give an address that
    /// only operators reach. A connection serves up to 100 requests. Guide "Metrics and health". Default: none.
    ///
    /// ```
    /// use picows_uring::{EchoListener, Server, Upgrade};
    ///
    /// let builder = Server::builder().listen("127.0.0.1:0").admin("127.0.0.1:0").workers(1);
    /// let server = builder.start(|_| Upgrade::accept(EchoListener))?;
    /// println!("metrics on {}", server.admin_address().unwrap());
    /// # Ok::<(), picows_uring::Error>(())
    /// ```
    pub fn admin(mut self, address: impl Into<String>) -> Self {
        self.admin = Some(address.into());
        self
    }

    /// Whether plain requests of `/healthz` and `/readyz` on the addresses of the server are answered
    /// before the factory sees them, also beyond [`max_connections`](Self::max_connections). Default: off.
    pub fn health_on_main(mut self, answer: bool) -> Self {
        self.on_main.health = answer;
        self
    }

    /// The same for `/metrics`, which any client can read then. Default: off.
    pub fn metrics_on_main(mut self, answer: bool) -> Self {
        self.on_main.metrics = answer;
        self
    }

    /// Sets the name of the threads, without their numbers.
    pub(super) fn thread_name(mut self, name: &'static str) -> Self {
        self.thread_name = name;
        self
    }
}

impl OnMain {
    /// What answers on the addresses of the server itself, before the factory; `None` if that is asked for
    /// nothing.
    pub(super) fn probe(self, probes: &Arc<Probes>) -> Option<Probe> {
        if !self.health && !self.metrics {
            return None;
        }
        let probes = self.of.unwrap_or_else(|| Arc::clone(probes));
        Some(Probe::new(move |request| {
            let response = match request.path() {
                "/healthz" if self.health => probes.health(),
                "/readyz" if self.health => probes.readiness(),
                "/metrics" if self.metrics => probes.metrics(),
                _ => return None,
            };
            Some(not_cached(response))
        }))
    }
}

/// The server of the admin address, and its factory.
///
/// A worker that sleeps in epoll: a thread and a few descriptors, and no locked memory.
pub(super) fn admin_server(
    address: &str,
    probes: &Arc<Probes>,
) -> (ServerBuilder, Arc<MakeFactory>) {
    let mut builder = Server::builder()
        .listen(address)
        .workers(1)
        .thread_name("picows-admin")
        .driver(Driver::Epoll)
        .dedicated(true)
        .max_connections(CONNECTIONS_MAX)
        .memory_limit(MEMORY_BYTES_MAX)
        .handshake_timeout(IDLE_MAX)
        .keep_request(false)
        .health_on_main(true)
        .metrics_on_main(true);
    builder.on_main.of = Some(Arc::clone(probes));
    let make = shared_factory(|request: &UpgradeRequest| {
        Upgrade::respond(match request.path() {
            "/" => UpgradeResponse::ok().with_body(PATHS),
            _ => UpgradeResponse::text(StatusCode::NOT_FOUND, PATHS),
        })
    });
    (builder, make)
}

fn unavailable(reason: &str) -> UpgradeResponse {
    UpgradeResponse::text(StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n"))
}

fn starting() -> UpgradeResponse {
    unavailable("the server is starting")
}

/// What was so a moment ago is of no use.
fn not_cached(mut response: UpgradeResponse) -> UpgradeResponse {
    response.headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

const PATHS: &str = "/metrics\n/healthz\n/readyz\n";
const OPEN_METRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
/// How long a scraper may stay away and find its connection: longer than the usual interval of a minute.
const IDLE_MAX: Duration = Duration::from_secs(75);
/// Those of a few scrapers and probes; more are answered as long as they send their request at once.
const CONNECTIONS_MAX: usize = 64;
/// More than so many answers take.
const MEMORY_BYTES_MAX: usize = 16 * 1024 * 1024;
