//! The simulated kernel: bytes both ways, descriptors, resets, and what is left at the end.

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
#[should_panic(expected = "sockets are left open")]
fn notices_what_is_left() {
    let (mut ring, ..) = connected();
    ring.assert_nothing_is_left();
}
