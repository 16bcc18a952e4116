//! Memory: what is held is counted, and what a burst leaves behind goes.

use super::*;
use crate::pool::releases;
use bytes::Bytes;
use picows_uring_proto::FrameHead;

impl Fixture {
    fn quiet() -> Self {
        let mut fixture = Self::new(Manner::default(), |config| {
            config.liveness.auto_ping = None;
            without_looks(config);
        });
        // The deadline of the handshake still wakes once.
        fixture.go(20 * SECOND);
        fixture
    }
}

#[test]
fn what_a_burst_needed_goes_after_calm_periods_and_then_no_worker_is_woken() {
    let mut fixture = Fixture::quiet();
    let few = fixture.stats();
    assert!(few.connection_bytes > 0 && few.queue_bytes == 0 && few.receive_buffers == 0);
    fixture.worker.ring.is_stuck = true;
    for _ in 0..100 {
        transport().send(MsgType::Binary, [0; 10_000]);
    }
    fixture.turn();
    assert!(fixture.stats().queue_bytes >= 1_000_000, "{:?}", fixture.stats());
    assert_eq!(fixture.go(100 * SECOND), 0, "what is in use is not to be given up");
    fixture.worker.ring.unstick();
    fixture.turn();
    let most = fixture.stats();
    assert_eq!(most.queue_bytes, 0);
    assert!(most.pool_bytes >= 1_000_000, "{most:?}");
    // The first look finds that all of it was needed, the second that none of it was.
    assert_eq!(fixture.go(111 * SECOND), 1);
    assert_eq!(fixture.stats().pool_bytes, most.pool_bytes);
    assert_eq!(fixture.go(121 * SECOND), 1);
    let least = fixture.stats();
    assert!(least.pool_bytes < 150_000, "{least:?}");
    assert_eq!(fixture.go(100_000 * SECOND), 0, "there is nothing left to give up");
}

#[test]
fn free_memory_returns_to_the_system_after_a_calm_period_and_once() {
    let mut fixture = Fixture::quiet();
    let before = releases();
    fixture.worker.ring.is_stuck = true;
    for _ in 0..1000 {
        transport().send(MsgType::Binary, [0; 10_000]);
    }
    fixture.turn();
    assert_eq!(fixture.go(100 * SECOND), 0, "it is in use");
    fixture.worker.ring.unstick();
    fixture.turn();
    fixture.go(111 * SECOND);
    assert_eq!(releases() - before, 0, "it was in use within the last period");
    fixture.go(121 * SECOND);
    assert_eq!(releases() - before, 1);
    fixture.go(100_000 * SECOND);
    assert_eq!(releases() - before, 1, "nothing was used since");
}

#[test]
fn a_frame_or_request_of_which_a_part_has_arrived_is_counted() {
    let mut fixture = Fixture::listening(Manner::default(), Config::default());
    fixture.worker.ring.connect(7);
    fixture.turn();
    let (first, second) =
        b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
            .split_at(30);
    fixture.deliver(first);
    assert!(fixture.stats().stash_bytes >= 30, "{:?}", fixture.stats());
    fixture.deliver(second);
    assert_eq!((fixture.stats().upgraded, fixture.stats().stash_bytes), (1, 0));
    fixture.deliver(b"\x82\xfe\x03\xe8\x00\x00\x00\x00");
    fixture.deliver(&[0; 999]);
    assert!(fixture.stats().stash_bytes >= 999, "{:?}", fixture.stats());
    fixture.deliver(&[0; 1]);
    assert_eq!(fixture.stats().stash_bytes, 0);
    fixture.deliver(b"\x82\xfe\x03\xe8\x00\x00\x00\x00cut");
    transport().abort();
    fixture.turn();
    assert_eq!((fixture.stats().slots, fixture.stats().stash_bytes), (0, 0));
}

/// One message for many who do not read is in memory once, and what each has of it is a header.
#[test]
fn what_is_sent_by_reference_takes_no_buffer_for_its_header() {
    let mut fixture = Fixture::new(Manner::default(), |_| {});
    fixture.worker.ring.is_stuck = true;
    let payload = Bytes::from(vec![7; 2000]);
    for _ in 0..1000 {
        assert!(transport().send_bytes(FrameHead::new(MsgType::Binary), &payload).is_queued());
    }
    fixture.turn();
    let taken = fixture.stats().queue_bytes;
    assert!((2_000_000..2_100_000).contains(&taken), "{taken} bytes");
    fixture.worker.ring.unstick();
    fixture.turn();
    assert_eq!(fixture.stats().queue_bytes, 0);
    let sent = std::mem::take(&mut fixture.worker.ring.sent);
    assert_eq!(sent.len(), 1000 * 2004);
    assert!(sent.chunks(2004).all(|frame| frame.starts_with(&[0x82, 126, 7, 208, 7])));
}

#[test]
fn the_memory_of_a_cut_frame_goes_when_bytes_come_after_the_end() {
    let mut fixture = Fixture::quiet();
    fixture.worker.ring.is_stuck = true;
    transport().send(MsgType::Binary, [0; 10]);
    fixture.deliver(&[0x82, 0xFE, 0x10, 0x00, 0, 0, 0, 0, 7, 7, 7]);
    assert!(fixture.stats().stash_bytes > 0);
    transport().disconnect();
    fixture.turn();
    fixture.deliver(&[7; 10]);
    assert_eq!(fixture.stats().stash_bytes, 0);
    assert!(!fixture.is_gone(), "what is queued has yet to leave");
}
