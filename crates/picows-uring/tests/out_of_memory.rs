//! An address space that is used up: connections end, the process does not.
//!
//! A binary with one test, as the limit holds for the whole process.

#![allow(clippy::unwrap_used, reason = "a test that fails is to stop there")]

mod common;

use common::{Client, address, eventually, masked, workers};
use picows_uring::{EchoListener, FrameHead, MsgType, Upgrade};
use rustix::process::{Resource, getrlimit, setrlimit};

const MIB: usize = 1024 * 1024;

/// Bytes of address space that this process has.
fn address_space() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').next().unwrap().parse::<usize>().unwrap() * 4096
}

#[test]
fn frames_for_which_there_is_no_memory_end_their_connections_and_no_other() {
    let server = workers(1).memory_limit(None).start(|_| Upgrade::accept(EchoListener)).unwrap();
    let mut witness = Client::upgrade(address(&server));
    witness.echo(&[1; 1000]);
    let frame = masked(FrameHead::new(MsgType::Binary), &vec![1; 10 * MIB]);
    let mut limits = getrlimit(Resource::As);
    let before = limits.current;
    limits.current = Some((address_space() + 100 * MIB) as u64);
    setrlimit(Resource::As, limits).unwrap();
    let mut greedy: Vec<_> = (0..30).map(|_| Client::upgrade(address(&server))).collect();
    for client in &mut greedy {
        // It may be over before all of it was taken.
        let _ = client.try_write(&frame[..frame.len() - 1]);
    }
    eventually(&server, "some are refused", |stats| stats.allocation_failures > 0);
    witness.echo(b"still there?");
    let stats = server.stats();
    assert!(stats.stash_bytes as usize >= 20 * MIB && stats.protocol_errors == 0, "{stats:?}");
    drop(greedy);
    eventually(&server, "all is free again", |stats| stats.stash_bytes == 0);
    Client::upgrade(address(&server)).echo(&[1; 1000]);
    limits.current = before;
    setrlimit(Resource::As, limits).unwrap();
    drop(witness);
    server.stop().unwrap();
}
