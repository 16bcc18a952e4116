//! Settings that make no sense: both sides name them, with cause and cure, before anything is done.

#![allow(clippy::unwrap_used, reason = "a test that fails is to stop there")]

mod common;

use common::workers;
use picows_uring::{
    AutoPing, Connect, ConnectFault, EchoListener, Error, EventLoop, QueuePolicy, Runtime,
    ServerBuilder, Upgrade, run,
};
use std::time::Duration;

/// A setting, its fault, and how to make it on either side.
type Case =
    (&'static str, &'static str, fn(ServerBuilder) -> ServerBuilder, fn(Connect) -> Connect);

macro_rules! on_both_sides {
    ($setting:literal, $fault:literal, $builder:ident => $change:expr) => {
        ($setting, $fault, |$builder| $change, |$builder| $change)
    };
}

const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

const CASES: &[Case] = &[
    on_both_sides!(
        "allow_rsv",
        "8 is more than 7: use a sum of 4 (RSV1), 2 (RSV2), 1 (RSV3)",
        it => it.allow_rsv(8)
    ),
    on_both_sides!(
        "handshake_timeout",
        "0 leaves no time at all: use None for no limit",
        it => it.handshake_timeout(Duration::ZERO)
    ),
    on_both_sides!(
        "auto_ping",
        "the reply timeout 2s is longer than the idle timeout 1s: a ping would be sent before the \
         one before it is given up; make it at most as long",
        it => it.auto_ping(AutoPing::new(seconds(1), seconds(2)))
    ),
    on_both_sides!(
        "auto_ping",
        "idle timeout 1s and reply timeout 0ns have to be more than zero",
        it => it.auto_ping(AutoPing::new(seconds(1), seconds(0)))
    ),
    on_both_sides!(
        "idle_timeout",
        "0 ends every connection at once: use None for ever",
        it => it.idle_timeout(Duration::ZERO)
    ),
    on_both_sides!(
        "message_timeout",
        "0 leaves no time at all: use None for no limit",
        it => it.message_timeout(Duration::ZERO)
    ),
    on_both_sides!(
        "write_stall_timeout",
        "0 leaves no time at all: use None for no limit",
        it => it.write_stall_timeout(Duration::ZERO)
    ),
    on_both_sides!(
        "write_watermarks",
        "low 2 is above high 1: give the high one first",
        it => it.write_watermarks(1, 2)
    ),
    on_both_sides!(
        "max_queue_size",
        "0 lets nothing be sent: use 1 or more",
        it => it.write_watermarks(0, 0).max_queue_size(0, QueuePolicy::DropOldest)
    ),
    on_both_sides!(
        "max_queue_size",
        "1000 is below the high watermark 65536: use that or more, or lower it with \
         write_watermarks",
        it => it.max_queue_size(1000, QueuePolicy::Close)
    ),
];

#[test]
fn what_makes_no_sense_is_named_on_both_sides() {
    for &(setting, fault, of_server, of_client) in CASES {
        assert_eq!(refused_by_server(of_server(workers(1))), (setting, fault.to_owned()));
        assert_eq!(refused_by_client(of_client(nowhere())), (setting, fault.to_owned()));
    }
}

#[test]
fn what_makes_no_sense_for_a_server_is_named() {
    for (setting, fault, builder) in [
        ("workers", "0 workers serve no client: use 1 or more", workers(0)),
        ("workers", "5000 are more than 1024: use fewer", workers(5000)),
        ("backlog", "0 lets no client in: use 1 or more", workers(1).backlog(0)),
        (
            "min_wait",
            "only dedicated workers sleep in their rings: use it with dedicated",
            workers(1).min_wait(Duration::from_micros(20)),
        ),
        (
            "napi_busy_poll",
            "20ms is more than 10ms: use less",
            workers(1).dedicated(true).napi_busy_poll(Duration::from_millis(20)),
        ),
        (
            "event_loop",
            "tokio with dedicated workers, which have no loop: leave one of the two out",
            workers(1).dedicated(true).event_loop(EventLoop::Tokio),
        ),
        (
            "max_connections",
            "0 lets no client in: use 1 or more, or None",
            workers(1).max_connections(0),
        ),
        (
            "max_per_address",
            "0 lets no client in: use 1 or more, or None",
            workers(1).max_per_address(0),
        ),
        (
            "max_handshakes",
            "0 lets no client in: use 1 or more, or None",
            workers(1).max_handshakes(0),
        ),
        (
            "memory_limit",
            "0 lets nothing be held: use some MiB, or None",
            workers(1).memory_limit(0),
        ),
        (
            "drain_spread",
            "3s is more than half of the drain timeout of 5s: the last would have no time to \
             answer; use 2.5s or less",
            workers(1).drain_spread(seconds(3)),
        ),
        (
            "max_lifetime",
            "0 ends every connection at once: use None for ever",
            workers(1).max_lifetime(Duration::ZERO, 0.2),
        ),
        ("max_lifetime", "jitter 1.5: use 0.0 to 1.0", workers(1).max_lifetime(seconds(3600), 1.5)),
        (
            "max_lifetime",
            "jitter NaN: use 0.0 to 1.0",
            workers(1).max_lifetime(seconds(3600), f64::NAN),
        ),
        (
            "max_header_size",
            "1048576 is more than 65535: use that or less",
            workers(1).max_header_size(1 << 20),
        ),
        ("max_header_size", "0 lets no client in: use a few KiB", workers(1).max_header_size(0)),
        ("max_headers", "0 lets no client in: use a few dozen", workers(1).max_headers(0)),
    ] {
        assert_eq!(refused_by_server(builder), (setting, fault.to_owned()));
    }
}

#[test]
fn the_text_says_who_and_where() {
    let error = workers(1).allow_rsv(8).start(|_| Upgrade::not_found()).unwrap_err().to_string();
    assert!(error.starts_with("allow_rsv: 8 is more than 7: "), "{error}");
    let connect = nowhere().allow_rsv(8).connect(EchoListener);
    let error = run(connect).unwrap().unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with(&format!("cannot connect to {NOWHERE}: allow_rsv: 8 ")), "{text}");
    assert!(!error.is_transient(), "trying again does not help");
}

#[test]
fn a_loop_is_checked_as_well() {
    let error = Runtime::builder().memory_limit(0).build().unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("memory_limit: 0 lets nothing be held"), "{text}");
}

#[test]
fn a_stream_is_checked_as_well() {
    let error = run(nowhere().allow_rsv(8).stream()).unwrap().map(drop).unwrap_err();
    assert!(matches!(error.fault(), ConnectFault::Setting { setting: "allow_rsv", .. }), "{error}");
}

/// An address without a server: a setting is refused before.
const NOWHERE: &str = "ws://127.0.0.1:1/";

fn nowhere() -> Connect {
    Connect::new(NOWHERE).socket_hook(|_| panic!("no socket is made"))
}

fn refused_by_server(builder: ServerBuilder) -> (&'static str, String) {
    match builder.start(|_| Upgrade::accept(EchoListener)) {
        Err(Error::Config { setting, fault }) => (setting, fault),
        other => panic!("{other:?}"),
    }
}

fn refused_by_client(connect: Connect) -> (&'static str, String) {
    let error = run(connect.connect(EchoListener)).unwrap().map(drop).unwrap_err();
    match error.fault() {
        ConnectFault::Setting { setting, fault } => (setting, fault.clone()),
        other => panic!("{other:?}"),
    }
}
