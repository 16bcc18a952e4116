//! Answers to operators over HTTP: `/metrics`, `/healthz` and `/readyz`.
//!
//! Says what is answered; the figures are those of `Monitor`.

use super::builder::Server;
use super::handle::ServerHandle;
use super::monitor::Monitor;
use crate::config::Probe;
use crate::driver::Driver;
use crate::error::Error;
use crate::upgrade::Upgrade;
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use picows_uring_proto::UpgradeResponse;
use std::sync::{Arc, OnceLock};

/// The server that is asked about.
#[derive(Debug, Default)]
pub(super) struct Probes {
    /// Set when it has started.
    monitor: OnceLock<Monitor>,
}

/// What is answered on the addresses of the server itself.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct OnMain {
    pub(super) health: bool,
    pub(super) metrics: bool,
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

impl OnMain {
    pub(super) fn is_on(self) -> bool {
        self.health || self.metrics
    }
}

/// Answers on the addresses of the server itself, before the factory.
pub(super) fn on_main(probes: &Arc<Probes>, on_main: OnMain) -> Probe {
    let probes = Arc::clone(probes);
    Probe::new(move |request| {
        let response = match request.path() {
            "/healthz" if on_main.health => probes.health(),
            "/readyz" if on_main.health => probes.readiness(),
            "/metrics" if on_main.metrics => probes.metrics(),
            _ => return None,
        };
        Some(not_cached(response))
    })
}

/// Starts the server of the admin address.
///
/// A worker that sleeps in epoll: a thread and a few descriptors, and no locked memory.
pub(super) fn serve(address: &str, probes: &Arc<Probes>) -> Result<ServerHandle, Error> {
    let probes = Arc::clone(probes);
    Server::builder()
        .listen(address)
        .workers(1)
        .thread_name("picows-admin")
        .driver(Driver::Epoll)
        .dedicated(true)
        .max_connections(CONNECTIONS_MAX)
        .memory_limit(MEMORY_BYTES_MAX)
        .keep_request(false)
        .start(move |request| {
            Upgrade::respond(not_cached(match request.path() {
                "/metrics" => probes.metrics(),
                "/healthz" => probes.health(),
                "/readyz" => probes.readiness(),
                "/" => UpgradeResponse::ok().with_body(PATHS),
                _ => UpgradeResponse::text(StatusCode::NOT_FOUND, PATHS),
            }))
        })
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
/// Those of a few scrapers and probes; more are answered as long as they send their request at once.
const CONNECTIONS_MAX: usize = 64;
/// More than so many answers take.
const MEMORY_BYTES_MAX: usize = 16 * 1024 * 1024;
