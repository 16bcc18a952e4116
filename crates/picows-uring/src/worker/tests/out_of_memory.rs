//! Memory that cannot be had: the end of one connection, and of no other.

use super::*;
use crate::ring::RESERVE_MAX;

const KIB: usize = 1024;

impl Fixture {
    /// The connection has ended with 1013 for lack of memory.
    fn assert_out_of_memory(&mut self) {
        assert!(self.worker.ring.sent.ends_with(b"\x03\xf5out of memory: try again later"));
        assert_eq!(transport().disconnect_cause(), Some(DisconnectCause::OutOfMemory));
        assert_eq!(self.stats().allocation_failures, 1);
    }
}

#[test]
fn a_copy_for_which_there_is_no_memory_ends_its_connection_with_1013() {
    let mut fixture = Fixture::new(Manner::default(), |config| config.liveness.auto_ping = None);
    fixture.join(8);
    RESERVE_MAX.set(100_000);
    assert!(transport().send(MsgType::Binary, vec![0; 99_000]).is_queued());
    assert!(!transport().send(MsgType::Binary, vec![0; 101_000]).is_queued());
    RESERVE_MAX.set(usize::MAX);
    fixture.turn();
    let sent = std::mem::take(&mut fixture.worker.ring.sent);
    assert_eq!(sent.len(), 99_000 + 10 + 2 + 32);
    assert!(sent.ends_with(b"\x03\xf5out of memory: try again later"));
    assert_eq!(transport().disconnect_cause(), Some(DisconnectCause::OutOfMemory));
    let stats = fixture.stats();
    assert_eq!((stats.allocation_failures, stats.connections), (1, 2));
}

#[test]
fn neither_is_a_message_that_others_may_replace_copied() {
    let mut fixture = Fixture::new(Manner::default(), |config| config.liveness.auto_ping = None);
    RESERVE_MAX.set(100 * KIB);
    assert!(!transport().send_latest(1, MsgType::Binary, vec![0; 101 * KIB]).is_queued());
    RESERVE_MAX.set(usize::MAX);
    fixture.turn();
    fixture.assert_out_of_memory();
}

#[test]
fn a_large_frame_for_whose_rest_there_is_no_memory_ends_its_connection_with_1013() {
    let mut fixture = Fixture::new(Manner::default(), |config| {
        config.liveness.auto_ping = None;
        config.frames.payload_bytes_max = 16 << 20;
    });
    let mut frame = b"\x82\xff\0\0\0\0\0\x90\0\0\0\0\0\0".to_vec();
    frame.resize(300 * KIB, 0);
    RESERVE_MAX.set(0);
    fixture.worker.ring.waiting.push_back(Ok(vec![0; 100 * KIB]));
    fixture.deliver(&frame);
    RESERVE_MAX.set(usize::MAX);
    fixture.assert_out_of_memory();
    assert_eq!((fixture.stats().stash_bytes, fixture.worker.ring.waiting.len()), (0, 1));
}

#[test]
fn a_connection_that_has_fallen_behind_goes_on_without_memory() {
    let mut fixture = Fixture::new(Manner::default(), |config| config.liveness.auto_ping = None);
    let flood = b"\x82\x80\0\0\0\0".repeat(3000);
    fixture.worker.ring.keeps = Some(0);
    fixture.worker.ring.waiting.push_back(Ok(flood.clone()));
    RESERVE_MAX.set(0);
    fixture.deliver(&flood);
    // Nothing was copied, and nothing taken straight from the socket.
    let stats = fixture.stats();
    assert_eq!((stats.frames_received, stats.stash_bytes, stats.allocation_failures), (3000, 0, 0));
    assert!(fixture.worker.ring.is_receiving(7) && fixture.worker.ring.waiting.len() == 1);
    RESERVE_MAX.set(usize::MAX);
}
