//! A worker whose ring is lost, or that is dropped: who is told, and what is given back.

use super::*;

#[test]
fn a_lost_ring_is_told_to_the_listeners_and_gives_everything_back() {
    let mut stage = Stage::new(Manner::default(), |config| {
        config.connections_max = Some(1);
        config.handshakes_max = Some(1);
    });
    stage.worker.ring.is_stuck = true;
    transport().send(MsgType::Binary, vec![0; 1 << 20]);
    stage.turn();
    // One more is being refused.
    stage.worker.ring.connect(8);
    stage.turn();
    let (gauge, counters) =
        (Arc::clone(&stage.accept().gauge), Arc::clone(&stage.worker.shared.counters));
    assert!(!gauge.is_empty());
    let abandoned = Rc::clone(&stage.worker.ring.abandoned);
    stage.worker.ring.is_lost = true;
    let error = stage.worker.turn().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EBADFD));
    assert!(seen().is_empty());
    drop(stage);
    assert_eq!(seen(), ["disconnected WorkerFailed"]);
    assert!(gauge.is_empty(), "{gauge:?}");
    let stats = counters.read();
    assert_eq!((stats.connections, stats.slots, stats.disconnected), (0, 0, 2), "{stats:?}");
    assert!(!transport().send_text("nobody is there").is_queued());
    assert_eq!(abandoned.take(), [Socket(7), Socket(8), Socket(3)]);
}
