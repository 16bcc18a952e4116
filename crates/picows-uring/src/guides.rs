//! Guides, as in the book: each a page of its own. Made by scripts/crate-guides.

#![allow(rustdoc::invalid_rust_codeblocks, reason = "pieces of programs need not be whole")]

/// Getting started.
#[doc = ""]
#[doc = include_str!("../guides/getting-started.md")]
pub mod getting_started {}

/// Async iteration.
#[doc = ""]
#[doc = include_str!("../guides/async-iteration.md")]
pub mod async_iteration {}

/// Threads.
#[doc = ""]
#[doc = include_str!("../guides/threads.md")]
pub mod threads {}

/// Busy polling and dedicated threads.
#[doc = ""]
#[doc = include_str!("../guides/busy-polling.md")]
pub mod busy_polling {}

/// In another loop.
#[doc = ""]
#[doc = include_str!("../guides/embedding.md")]
pub mod embedding {}

/// Auto ping-pong.
#[doc = ""]
#[doc = include_str!("../guides/auto-ping.md")]
pub mod auto_ping {}

/// Measuring round trips.
#[doc = ""]
#[doc = include_str!("../guides/roundtrip.md")]
pub mod roundtrip {}

/// Proxies.
#[doc = ""]
#[doc = include_str!("../guides/proxies.md")]
pub mod proxies {}

/// Dealing with slow peers.
#[doc = ""]
#[doc = include_str!("../guides/slow-peers.md")]
pub mod slow_peers {}

/// Message fragmentation.
#[doc = ""]
#[doc = include_str!("../guides/fragmentation.md")]
pub mod fragmentation {}

/// Compression.
#[doc = ""]
#[doc = include_str!("../guides/compression.md")]
pub mod compression {}

/// Operating a server.
#[doc = ""]
#[doc = include_str!("../guides/operating.md")]
pub mod operating {}

/// Restarting.
#[doc = ""]
#[doc = include_str!("../guides/restarting.md")]
pub mod restarting {}

/// Authentication and Origin.
#[doc = ""]
#[doc = include_str!("../guides/authentication.md")]
pub mod authentication {}

/// Behind nginx or HAProxy.
#[doc = ""]
#[doc = include_str!("../guides/behind-a-proxy.md")]
pub mod behind_a_proxy {}

/// Metrics and health.
#[doc = ""]
#[doc = include_str!("../guides/metrics.md")]
pub mod metrics {}

/// TLS.
#[doc = ""]
#[doc = include_str!("../guides/tls.md")]
pub mod tls {}

/// Drivers.
#[doc = ""]
#[doc = include_str!("../guides/drivers.md")]
pub mod drivers {}

/// Containers and services.
#[doc = ""]
#[doc = include_str!("../guides/containers.md")]
pub mod containers {}

/// Memory.
#[doc = ""]
#[doc = include_str!("../guides/memory.md")]
pub mod memory {}

/// Errors.
#[doc = ""]
#[doc = include_str!("../guides/errors.md")]
pub mod errors {}

/// Testing an application.
#[doc = ""]
#[doc = include_str!("../guides/testing.md")]
pub mod testing {}

/// Topics and rooms.
#[doc = ""]
#[doc = include_str!("../guides/topics.md")]
pub mod topics {}

/// Socket options.
#[doc = ""]
#[doc = include_str!("../guides/socket-options.md")]
pub mod socket_options {}

/// With tokio and axum.
#[doc = ""]
#[doc = include_str!("../guides/tokio.md")]
pub mod tokio {}

/// From picows.
#[doc = ""]
#[doc = include_str!("../guides/from-picows.md")]
pub mod from_picows {}

/// From tokio-tungstenite.
#[doc = ""]
#[doc = include_str!("../guides/from-tokio-tungstenite.md")]
pub mod from_tokio_tungstenite {}

/// From uWebSockets.
#[doc = ""]
#[doc = include_str!("../guides/from-uwebsockets.md")]
pub mod from_uwebsockets {}

/// From ws.
#[doc = ""]
#[doc = include_str!("../guides/from-ws.md")]
pub mod from_ws {}
