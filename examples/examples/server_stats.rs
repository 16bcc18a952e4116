//! A server that can be watched: its counters at `/metrics`, as Prometheus reads them, and its
//! health at `/healthz`, as a load balancer asks for it.
//!
//! `cargo run --release -p examples --example server_stats`, then `curl http://127.0.0.1:9001/metrics`.

#![allow(clippy::print_stdout, reason = "a program for people")]

use http::StatusCode;
use picows_uring::{EchoListener, Error, Monitor, Server, Upgrade, UpgradeResponse, WorkerState};
use std::fmt::Write;
use std::sync::{Arc, OnceLock};

/// Every counter of every worker, and its driver.
fn metrics(monitor: &Monitor) -> String {
    let mut text = String::new();
    for worker in monitor.workers() {
        for (name, count) in worker.stats.iter() {
            let _ = writeln!(text, "picows_{name}{{worker=\"{}\"}} {count}", worker.number);
        }
        let (number, driver) = (worker.number, worker.driver);
        let _ = writeln!(text, "picows_worker_info{{worker=\"{number}\",driver=\"{driver}\"}} 1");
        let is_up = u8::from(worker.state == WorkerState::Running);
        let _ = writeln!(text, "picows_up{{worker=\"{}\"}} {is_up}", worker.number);
    }
    text
}

fn main() -> Result<(), Error> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:9001".into());
    // The server has to be there before it can be watched, and the factory before the server.
    let watched = Arc::new(OnceLock::<Monitor>::new());
    let monitor = Arc::clone(&watched);
    let server = Server::builder()
        .listen(address)
        .max_connections(100_000)
        .max_per_address(1_000)
        .max_handshakes(10_000)
        .start(move |request| match (request.path(), monitor.get()) {
            ("/metrics", Some(monitor)) => {
                Upgrade::respond(UpgradeResponse::ok().with_body(metrics(monitor)))
            }
            ("/healthz", Some(monitor)) if monitor.failed().is_none() => {
                let driver = monitor.workers().next().map(|worker| worker.driver.name());
                let body = format!("ok\ndriver: {}\n", driver.unwrap_or("none"));
                Upgrade::respond(UpgradeResponse::ok().with_body(body))
            }
            ("/metrics" | "/healthz", _) => {
                Upgrade::respond(UpgradeResponse::new(StatusCode::SERVICE_UNAVAILABLE))
            }
            _ => Upgrade::accept(EchoListener),
        })?;
    let _ = watched.set(server.monitor());
    println!("listening on {}", server.addresses()[0]);
    server.join()?; // Until the process ends.
    Ok(())
}
