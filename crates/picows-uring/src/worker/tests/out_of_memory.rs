//! Memory that cannot be had: the end of one connection, and of no other.

use super::*;
use crate::pool::RESERVE_MAX;

#[test]
fn a_copy_for_which_there_is_no_memory_ends_its_connection_with_1013() {
    let mut stage = Stage::new(Manner::default(), |config| config.liveness.auto_ping = None);
    stage.join(8);
    RESERVE_MAX.set(100_000);
    assert!(transport().send(MsgType::Binary, vec![0; 99_000]).is_queued());
    assert!(!transport().send(MsgType::Binary, vec![0; 101_000]).is_queued());
    RESERVE_MAX.set(usize::MAX);
    stage.turn();
    let sent = std::mem::take(&mut stage.worker.ring.sent);
    assert_eq!(sent.len(), 99_000 + 10 + 2 + 32);
    assert!(sent.ends_with(b"\x03\xf5out of memory: try again later"));
    assert_eq!(transport().disconnect_cause(), Some(DisconnectCause::OutOfMemory));
    let stats = stage.stats();
    assert_eq!((stats.allocation_failures, stats.connections), (1, 2));
}
