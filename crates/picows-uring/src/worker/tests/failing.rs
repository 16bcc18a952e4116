//! A worker whose ring is lost, or that is dropped: who learns of it, and what is given back.

use super::*;

#[test]
fn a_lost_ring_is_reported_to_the_listeners_and_gives_everything_back() {
    let mut fixture = Fixture::new(Manner::default(), |config| {
        config.connections_max = Some(1);
        config.handshakes_max = Some(1);
    });
    fixture.worker.ring.is_stuck = true;
    transport().send(MsgType::Binary, vec![0; 1 << 20]);
    fixture.turn();
    // One more is being refused.
    fixture.worker.ring.connect(8);
    fixture.turn();
    let (admission, counters) =
        (Arc::clone(fixture.admission()), Arc::clone(&fixture.worker.local.counters));
    assert!(!admission.is_empty());
    let abandoned = Rc::clone(&fixture.worker.ring.abandoned);
    fixture.worker.ring.is_lost = true;
    let error = fixture.worker.turn().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EBADFD));
    assert!(seen().is_empty());
    drop(fixture);
    assert_eq!(seen(), ["disconnected WorkerFailed"]);
    assert!(admission.is_empty(), "{admission:?}");
    let stats = counters.read();
    assert_eq!((stats.connections, stats.slots, stats.disconnected), (0, 0, 2), "{stats:?}");
    assert!(!transport().send_text("nobody is there").is_queued());
    assert_eq!(abandoned.take(), [Socket(7), Socket(8), Socket(3)]);
}
