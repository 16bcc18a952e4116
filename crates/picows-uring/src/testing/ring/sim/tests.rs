//! Breaches of the contract, each of which the simulated kernel notices.

use super::*;
use crate::ring::Segment;

const TOKEN: Token = Token { slot: 3, generation: 5 };

/// A ring with one connection accepted, and its descriptor.
fn connected() -> (SimRing, Socket, PeerId) {
    let mut ring = SimRing::new(1, Faults::none());
    let listener = ring.listen();
    ring.accept(listener, ListenerId { index: 0, generation: 0 });
    let peer = ring.connect(listener, 1000, false);
    let (socket, more) = match poll(&mut ring).pop() {
        Some(Completion::Accepted { result: Ok(socket), more, .. }) => (socket, more),
        other => panic!("{other:?}"),
    };
    assert!(more);
    (ring, socket, peer)
}

fn poll(ring: &mut SimRing) -> Vec<Completion> {
    ring.submit();
    ring.advance(Duration::from_micros(1));
    let mut out = Vec::new();
    ring.poll(usize::MAX, &mut out).unwrap();
    out
}

fn batch(bytes: &[u8]) -> Box<SendBatch> {
    let mut batch = Box::<SendBatch>::default();
    batch.push(Segment::Owned { bytes: bytes.to_vec(), start: 0 });
    batch
}

#[test]
fn bytes_pass_both_ways_and_descriptors_are_used_again() {
    let (mut ring, socket, peer) = connected();
    ring.receive(socket, TOKEN);
    ring.send(socket, TOKEN, batch(b"to the peer"));
    assert_eq!(ring.peer(peer).write(b"to the server"), Some(13));
    let mut completions = poll(&mut ring);
    completions.sort_by_key(|it| matches!(it, Completion::Sent { .. }));
    let Some(Completion::Sent { result: Ok(11), .. }) = completions.pop() else { panic!() };
    let Some(Completion::Received { result: ReceiveResult::Data(buffer), .. }) = completions.pop()
    else {
        panic!()
    };
    assert_eq!(ring.bytes(&buffer), b"to the server");
    ring.release(buffer);
    assert_eq!(ring.peer(peer).read(100), PeerRead::Bytes(b"to the peer".to_vec()));
    ring.cancel(socket);
    assert!(matches!(
        poll(&mut ring).pop(),
        Some(Completion::Received { result: ReceiveResult::Cancelled, more: false, .. })
    ));
    ring.close(socket);
    poll(&mut ring);
    assert_eq!(ring.peer(peer).read(100), PeerRead::End);
    assert_eq!(ring.open(Kind::Stream(peer)), socket);
}

#[test]
fn closing_with_unread_bytes_resets() {
    let (mut ring, socket, peer) = connected();
    ring.peer(peer).write(b"unread");
    ring.close(socket);
    poll(&mut ring);
    assert_eq!(ring.peer(peer).read(100), PeerRead::Reset);
    assert_eq!(ring.peer(peer).broken_by(), Some(BrokenBy::Server));
}

#[test]
#[should_panic(expected = "a second receive")]
fn notices_a_second_receive() {
    let (mut ring, socket, _) = connected();
    ring.receive(socket, TOKEN);
    ring.receive(socket, TOKEN);
}

#[test]
#[should_panic(expected = "a second send")]
fn notices_a_second_send() {
    let (mut ring, socket, _) = connected();
    ring.send(socket, TOKEN, batch(b"one"));
    ring.send(socket, TOKEN, batch(b"two"));
}

#[test]
#[should_panic(expected = "an empty batch")]
fn notices_an_empty_batch() {
    let (mut ring, socket, _) = connected();
    ring.send(socket, TOKEN, batch(b""));
}

#[test]
#[should_panic(expected = "with operations in flight")]
fn notices_a_close_with_operations_in_flight() {
    let (mut ring, socket, _) = connected();
    ring.receive(socket, TOKEN);
    poll(&mut ring);
    ring.close(socket);
}

#[test]
#[should_panic(expected = "which is not open")]
fn notices_a_closed_socket() {
    let (mut ring, socket, _) = connected();
    ring.close(socket);
    ring.receive(socket, TOKEN);
}

#[test]
#[should_panic(expected = "for PeerId(1)")]
fn notices_a_token_of_another_owner() {
    let (mut ring, socket, peer) = connected();
    ring.send(socket, TOKEN, batch(b"first owner"));
    poll(&mut ring);
    ring.close(socket);
    ring.peer(peer).close();
    let listener = Socket(DESCRIPTOR_MIN);
    ring.connect(listener, 1000, false);
    let Some(Completion::Accepted { result: Ok(again), .. }) = poll(&mut ring).pop() else {
        panic!()
    };
    assert_eq!(again, socket);
    ring.receive(again, TOKEN);
}

#[test]
#[should_panic(expected = "1 receive buffers are neither released nor kept")]
fn notices_a_buffer_that_is_kept() {
    let (mut ring, socket, peer) = connected();
    ring.receive(socket, TOKEN);
    ring.peer(peer).write(b"kept");
    poll(&mut ring);
    poll(&mut ring);
}

#[test]
#[should_panic(expected = "is released twice")]
fn notices_a_buffer_that_is_released_twice() {
    let (mut ring, socket, peer) = connected();
    ring.receive(socket, TOKEN);
    ring.peer(peer).write(b"twice");
    let Some(Completion::Received { result: ReceiveResult::Data(buffer), .. }) =
        poll(&mut ring).pop()
    else {
        panic!()
    };
    let again = RecvBuffer::new(buffer.id(), buffer.offset(), buffer.len() as u32);
    ring.release(buffer);
    ring.release(again);
}

#[test]
#[should_panic(expected = "sockets are left open: [1000000, 1000001]")]
fn notices_what_is_left() {
    let (mut ring, ..) = connected();
    ring.assert_nothing_is_left();
}
