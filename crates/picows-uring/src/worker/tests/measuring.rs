//! Round trips that are measured beside automatic pings.

use super::*;
use picows_uring_proto::{AutoPingStrategy, FrameHead};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

#[test]
fn a_measurement_waits_for_the_ping_that_is_under_way_and_holds_back_the_next() {
    let mut fixture = Fixture::new(Manner { pings_as_text: true, ..Manner::default() }, |_| {});
    fixture.go(10 * SECOND + GRANULE);
    assert_eq!(fixture.heard().len(), 1);
    let transport = transport();
    let mut context = Context::from_waker(Waker::noop());
    let mut measuring = pin!(transport.measure_roundtrip_time(2));
    assert!(measuring.as_mut().poll(&mut context).is_pending());
    fixture.turn();
    assert!(fixture.heard().is_empty(), "that pong could be taken for ours");
    fixture.worker.ring.now = 12 * SECOND;
    fixture.say(TEXT, b"pong");
    for round in 1..=2 {
        assert_eq!(fixture.heard().len(), 1, "round {round}");
        fixture.worker.ring.now += SECOND * round;
        fixture.say(TEXT, b"pong");
        let polled = measuring.as_mut().poll(&mut context);
        fixture.turn();
        if let Poll::Ready(durations) = polled {
            assert_eq!(durations.unwrap(), [SECOND, 2 * SECOND]);
        }
    }
    assert!(fixture.heard().is_empty());
}

#[test]
fn a_measurement_does_not_keep_a_dead_peer() {
    let mut fixture = Fixture::new(Manner::default(), |_| {});
    let transport = transport();
    let mut context = Context::from_waker(Waker::noop());
    let mut measuring = pin!(transport.measure_roundtrip_time(3));
    assert!(measuring.as_mut().poll(&mut context).is_pending());
    fixture.go(SECOND);
    assert_eq!(fixture.heard().len(), 1);
    fixture.go(7 * SECOND);
    assert_eq!(seen(), ["disconnected PingTimedOut"]);
    assert!(matches!(measuring.as_mut().poll(&mut context), Poll::Ready(Err(_))));
}

#[test]
fn a_measurement_that_is_dropped_gives_automatic_pings_back() {
    let mut fixture = Fixture::new(Manner::default(), |config| {
        let ping = AutoPing::new(10 * SECOND, 5 * SECOND);
        config.liveness.auto_ping = Some(ping.with_strategy(AutoPingStrategy::Periodic));
    });
    let transport = transport();
    let mut context = Context::from_waker(Waker::noop());
    {
        let mut measuring = pin!(transport.measure_roundtrip_time(usize::MAX));
        for second in 1..=25 {
            assert!(measuring.as_mut().poll(&mut context).is_pending());
            fixture.go(SECOND * second);
            let heard = fixture.heard();
            let [(PING, nonce)] = &heard[..] else { panic!("{heard:?} at {second}") };
            fixture.say(PONG, nonce);
        }
    }
    fixture.go(26 * SECOND);
    fixture.go(26 * SECOND + GRANULE);
    assert_eq!(fixture.heard().len(), 1, "one was due long ago");
}

#[test]
fn a_round_trip_is_measured_between_the_fragments_of_a_message_too() {
    let mut fixture = Fixture::new(Manner { pings_as_text: true, ..Manner::default() }, |config| {
        config.liveness.auto_ping = None;
    });
    let transport = transport();
    transport.send_frame(FrameHead::new(MsgType::Text).with_fin(false), b"first part");
    fixture.turn();
    fixture.heard();
    let mut context = Context::from_waker(Waker::noop());
    let mut measuring = pin!(transport.measure_roundtrip_time(1));
    assert!(measuring.as_mut().poll(&mut context).is_pending());
    let number = fixture.ping_at(SECOND);
    fixture.worker.ring.now = 3 * SECOND;
    fixture.say(PONG, &number);
    let Poll::Ready(durations) = measuring.as_mut().poll(&mut context) else { panic!("no answer") };
    assert_eq!(durations.unwrap(), [2 * SECOND]);
}
