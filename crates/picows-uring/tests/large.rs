//! Large frames on the real kernel, which are taken straight from the socket into their memory.

#![allow(clippy::unwrap_used, reason = "a test that fails is to stop there")]

mod common;
mod rounds;

use common::{Client, Got, address, eventually, masked, next, noise, on_frame, run, workers};
use picows_uring::{
    Connect, DisconnectCause, EchoListener, Frame, FrameHead, Listener, ListenerResult, MsgType,
    Transport, Upgrade,
};
use rounds::Rounds;
use std::sync::mpsc::{self, Sender};

const MIB: usize = 1 << 20;

#[test]
fn large_frames_of_any_size_come_back_whole_with_small_ones_between_them() {
    for builder in [workers(1), workers(1).dedicated(true)] {
        let server = builder.start(|_| Upgrade::accept(EchoListener)).unwrap();
        let mut client = Client::upgrade(address(&server));
        for (seed, len) in [MIB, 5, 10 * MIB, 65_536, 100, 3 * MIB + 1, 200_000].iter().enumerate()
        {
            // Two of each, so that the second begins in what the first leaves behind.
            let payload = noise(seed as u64, *len);
            let frame = masked(FrameHead::new(MsgType::Binary), &payload);
            let got = client.exchange(&frame.repeat(2), 2);
            let wanted = Got::new(MsgType::Binary, payload);
            assert!(got.iter().all(|got| *got == wanted), "{len}");
        }
        eventually(&server, "nothing is held", |stats| stats.stash_bytes == 0);
        assert_eq!(server.stop().unwrap().protocol_errors, 0);
    }
}

#[test]
fn many_connections_send_large_frames_at_once() {
    let server = workers(1).start(|_| Upgrade::accept(EchoListener)).unwrap();
    let address = address(&server);
    std::thread::scope(|scope| {
        for seed in 0..16 {
            scope.spawn(move || {
                let mut client = Client::upgrade(address);
                for round in 0..4 {
                    let payload = noise(seed * 10 + round, MIB + 1000 * seed as usize);
                    let frame = masked(FrameHead::new(MsgType::Binary), &payload);
                    let got = client.exchange(&frame, 1);
                    assert!(got == [Got::new(MsgType::Binary, payload)], "{seed} {round}");
                }
            });
        }
    });
    eventually(&server, "nothing is held", |stats| stats.stash_bytes == 0);
}

/// Of each size so many that it is received in its way, behind one that is received in another.
#[test]
fn frames_of_all_sizes_come_back_whole_however_they_are_received() {
    const SIZES: [usize; 6] = [100_000, 100, 40_000, 65_536, 5, 300_000];
    for builder in [workers(1), workers(1).dedicated(true)] {
        let server = builder.start(|_| Upgrade::accept(EchoListener)).unwrap();
        let address = address(&server);
        std::thread::scope(|scope| {
            for seed in 0..4 {
                scope.spawn(move || {
                    let mut client = Client::upgrade(address);
                    for (round, len) in SIZES.into_iter().cycle().skip(seed).take(12).enumerate() {
                        let payload = noise((seed * 100 + round) as u64, len + seed);
                        let frame = masked(FrameHead::new(MsgType::Binary), &payload);
                        let wanted = Got::new(MsgType::Binary, payload);
                        for count in [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 3] {
                            let got = client.exchange(&frame.repeat(count), count);
                            assert!(got.iter().all(|got| *got == wanted), "{seed}, {len}");
                        }
                    }
                });
            }
        });
        eventually(&server, "nothing is held", |stats| stats.stash_bytes == 0);
        eventually(&server, "all have gone", |stats| stats.connections == 0);
        assert_eq!(server.stop().unwrap().protocol_errors, 0);
    }
}

#[test]
fn a_client_gets_large_frames_as_a_server_does() {
    if common::is_over_tls() {
        return;
    }
    let server = workers(1).start(|_| Upgrade::accept(EchoListener)).unwrap();
    let url = server.addresses()[0].to_string();
    for (seed, len) in [MIB, 10 * MIB].into_iter().enumerate() {
        let url = url.clone();
        run(async move {
            let listener = Rounds { payload: noise(seed as u64, len), left: 5 };
            let transport = Connect::new(url).connect(listener).await.unwrap();
            transport.wait_disconnected().await.unwrap();
            let cause = transport.disconnect_cause();
            assert!(matches!(cause, Some(DisconnectCause::Closed)), "{cause:?}");
        })
        .unwrap();
    }
    drop(server);
}

#[test]
fn a_pause_between_large_frames_holds_the_second_back() {
    let server = workers(1)
        .start(|_| {
            Upgrade::accept(on_frame(|transport, frame| {
                transport.pause_reading();
                transport.send(MsgType::Text, "paused");
                let (transport, echo) = (transport.clone(), frame.payload().to_vec());
                picows_uring::spawn(async move {
                    transport.send(MsgType::Binary, &echo);
                    transport.resume_reading();
                })?;
                Ok(())
            }))
        })
        .unwrap();
    let mut client = Client::upgrade(address(&server));
    let payload = noise(1, 2 * MIB);
    let frame = masked(FrameHead::new(MsgType::Binary), &payload);
    let got = client.exchange(&frame.repeat(3), 6);
    for pair in got.chunks(2) {
        assert_eq!(pair[0], Got::new(MsgType::Text, "paused"));
        assert!(pair[1] == Got::new(MsgType::Binary, &payload[..]));
    }
}

/// Reports how its connection ended.
struct Ends(Sender<Option<DisconnectCause>>);

impl Listener for Ends {
    fn on_frame(&mut self, transport: &Transport, _: &Frame<'_>) -> ListenerResult {
        transport.send_text("go on");
        Ok(())
    }

    fn on_disconnected(&mut self, transport: &Transport) {
        let _ = self.0.send(transport.disconnect_cause());
    }
}

#[test]
fn a_peer_that_goes_in_the_middle_leaves_nothing_behind() {
    let (ended, ends) = mpsc::channel();
    let server = workers(1).start(move |_| Upgrade::accept(Ends(ended.clone()))).unwrap();
    let frame = masked(FrameHead::new(MsgType::Binary), &noise(3, 4 * MIB));
    for is_reset in [false, true, false, true] {
        let mut client = Client::upgrade(address(&server));
        client.write(&frame);
        client.expect_text("go on");
        client.write(&frame[..3 * MIB]);
        eventually(&server, "it is in the middle", |stats| stats.stash_bytes >= 3 << 20);
        if is_reset {
            client.reset();
        } else {
            drop(client);
        }
        assert!(next(&ends).is_some());
        eventually(&server, "nothing is held", |stats| stats.stash_bytes == 0);
    }
    assert_eq!(server.stop().unwrap().connections, 0);
}

#[test]
fn stopping_in_the_middle_ends_in_time() {
    let (ended, ends) = mpsc::channel();
    let server = workers(1).start(move |_| Upgrade::accept(Ends(ended.clone()))).unwrap();
    let mut client = Client::upgrade(address(&server));
    client.write(&masked(FrameHead::new(MsgType::Binary), &noise(3, 4 * MIB))[..3 * MIB]);
    eventually(&server, "it is in the middle", |stats| stats.stash_bytes >= 3 << 20);
    let stats = server.stop_within(std::time::Duration::ZERO).unwrap();
    assert_eq!((stats.connections, stats.stash_bytes), (0, 0));
    assert!(next(&ends).is_some());
}
