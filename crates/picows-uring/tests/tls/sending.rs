//! Records: how what is sent is sealed, and how what is received is opened, wherever it is cut.

use super::certificates::Certificates;
use super::common::{Event, address, eventually, masked, next, noise, on_frame, recorder, workers};
use super::raw::Raw;
use super::{connect, echo};
use picows_uring::{
    Connect, DisconnectCause, EchoListener, FrameHead, MsgType, QueuePolicy, Upgrade,
};
use picows_uring_tls::Control;
use std::sync::mpsc;
use std::time::Duration;

#[test]
fn a_message_is_not_held_back_for_a_fuller_record() {
    let certificates = Certificates::new();
    let server = echo(&certificates, workers(1));
    let mut raw = Raw::upgrade(&certificates, address(&server));
    for text in ["first of twenty byte", "2"] {
        raw.send(MsgType::Text, text.as_bytes());
        assert_eq!(raw.receive(), text.as_bytes());
    }
}

#[test]
fn what_a_turn_has_queued_is_one_record() {
    let certificates = Certificates::new();
    let server = echo(&certificates, workers(1));
    let mut raw = Raw::upgrade(&certificates, address(&server));
    let burst: Vec<u8> =
        (0..16).flat_map(|_| masked(FrameHead::new(MsgType::Binary), &[7; 100])).collect();
    raw.write(&burst);
    assert_eq!(raw.take(16 * 102).len(), 16 * 102);
    assert_eq!(raw.records, [16 * 102], "sixteen frames came in one record, and go in one");
}

#[test]
fn long_messages_go_in_full_records() {
    let certificates = Certificates::new();
    let server = echo(&certificates, workers(1));
    let mut raw = Raw::upgrade(&certificates, address(&server));
    let payload = noise(1, 100_000);
    raw.send(MsgType::Binary, &payload);
    let back = raw.take(10 + payload.len());
    assert_eq!(back[10..], payload);
    // The first has what is over: the header is copied to it, and as little of the payload as may be.
    let (first, full) = raw.records.split_first().expect("records");
    assert!(full.iter().all(|len| *len == 16_384), "{:?}", raw.records);
    assert_eq!(full.len() * 16_384 + first, back.len());
}

#[test]
fn a_payload_of_whole_records_is_sealed_without_a_copy_of_it() {
    let certificates = Certificates::new();
    let server = echo(&certificates, workers(1));
    let mut raw = Raw::upgrade(&certificates, address(&server));
    for (size, records) in [(16_384, &[4, 16_384][..]), (32_768, &[4, 16_384, 16_384])] {
        let payload = noise(size as u64, size);
        raw.send(MsgType::Binary, &payload);
        let back = raw.take(4 + size);
        assert_eq!(back[4..], payload);
        assert_eq!(std::mem::take(&mut raw.records), records);
    }
}

#[test]
fn records_are_opened_wherever_they_are_cut() {
    let certificates = Certificates::new();
    let server = echo(&certificates, workers(1));
    let mut raw = Raw::upgrade(&certificates, address(&server));
    let sealed_len = raw.seal(&masked(FrameHead::new(MsgType::Text), b"0")).len();
    // The one that was sealed is the first that arrives; each further one is cut in another place.
    drop(raw);
    let mut raw = Raw::upgrade(&certificates, address(&server));
    for cut in 1..sealed_len {
        let text = format!("{}", cut % 10);
        let mut sealed = raw.seal(&masked(FrameHead::new(MsgType::Text), text.as_bytes()));
        // With it comes the beginning of the next.
        let two = raw.seal(&masked(FrameHead::new(MsgType::Text), b"n"));
        sealed.extend_from_slice(&two);
        raw.write_wire(&sealed[..cut]);
        // Whatever arrived has been handled when this comes back from another connection.
        Raw::upgrade(&certificates, address(&server));
        raw.write_wire(&sealed[cut..]);
        assert_eq!(raw.receive(), text.as_bytes(), "cut={cut}");
        assert_eq!(raw.receive(), b"n", "cut={cut}");
    }
}

#[test]
fn frames_and_records_need_not_have_the_same_borders() {
    let certificates = Certificates::new();
    let server = echo(&certificates, workers(1));
    let mut raw = Raw::upgrade(&certificates, address(&server));
    let texts: Vec<_> = (0..200).map(|number| format!("message {number}")).collect();
    let stream: Vec<u8> = texts
        .iter()
        .flat_map(|text| masked(FrameHead::new(MsgType::Text), text.as_bytes()))
        .collect();
    for len in [1, 2, 3, 7, 50, 1000] {
        let wire: Vec<u8> = stream.chunks(len).flat_map(|part| raw.seal(part)).collect();
        raw.write_wire(&wire);
        for text in &texts {
            assert_eq!(raw.receive(), text.as_bytes(), "records of {len} bytes");
        }
    }
}

#[test]
fn a_flood_of_small_frames_in_full_records_comes_back_in_order() {
    const FRAMES: usize = 30_000;
    let certificates = Certificates::new();
    let server = echo(&certificates, workers(1));
    let mut raw = Raw::upgrade(&certificates, address(&server));
    let burst: Vec<u8> = (0..FRAMES)
        .flat_map(|frame| masked(FrameHead::new(MsgType::Binary), &(frame as u32).to_be_bytes()))
        .collect();
    // More than the budget of several turns, less than the sockets hold.
    let sealed = raw.seal(&burst);
    raw.write_wire(&sealed);
    for frame in 0..FRAMES {
        assert_eq!(raw.receive(), (frame as u32).to_be_bytes());
    }
}

#[test]
fn a_peer_that_wants_a_new_key_gets_one_and_the_data_goes_on() {
    let certificates = Certificates::new();
    let server = echo(&certificates, workers(1));
    let mut raw = Raw::upgrade(&certificates, address(&server));
    for round in 0..5 {
        let mut out = Vec::new();
        raw.secure.seal_key_update(round % 2 == 0, &mut out).expect("TLS 1.3");
        raw.write_wire(&out);
        raw.send(MsgType::Text, b"with another key");
        assert_eq!(raw.receive(), b"with another key", "round {round}");
    }
    let is_update = |it: &&Control| matches!(it, Control::KeyUpdate { requested: false });
    assert_eq!(raw.controls.iter().filter(is_update).count(), 3, "{:?}", raw.controls);
}

#[test]
fn many_requests_for_a_new_key_are_answered_by_one() {
    let certificates = Certificates::new();
    let server = echo(&certificates, workers(1));
    let mut raw = Raw::upgrade(&certificates, address(&server));
    for _ in 0..100 {
        let mut out = Vec::new();
        raw.secure.seal_key_update(true, &mut out).expect("TLS 1.3");
        raw.write_wire(&out);
        // Data between them, so that they are no flood; not answered.
        raw.send(MsgType::Pong, b"");
    }
    raw.send(MsgType::Binary, b"data");
    assert_eq!(raw.receive(), b"data");
    let updates = raw.controls.iter().filter(|it| matches!(it, Control::KeyUpdate { .. })).count();
    assert_eq!(updates, 1);
    server.stop().unwrap();
}

#[test]
fn a_changed_record_ends_its_connection_with_an_alert_and_no_other() {
    let certificates = Certificates::new();
    let server = echo(&certificates, workers(1));
    let mut good = Raw::upgrade(&certificates, address(&server));
    let mut bad = Raw::upgrade(&certificates, address(&server));
    let mut sealed = bad.seal(&masked(FrameHead::new(MsgType::Text), b"changed on its way"));
    *sealed.last_mut().expect("a tag") ^= 1;
    bad.write_wire(&sealed);
    assert_eq!(bad.alert(), Some(picows_uring_tls::Alert::BAD_RECORD_MAC));
    good.send(MsgType::Text, b"still here");
    assert_eq!(good.receive(), b"still here");
    assert_eq!(server.stats().protocol_errors, 1);
}

#[test]
fn the_end_of_tls_says_whether_a_peer_was_cut_off() {
    let certificates = Certificates::new();
    let (events, ended) = mpsc::channel();
    let server = workers(1)
        .tls(certificates.server())
        .start(move |_| Upgrade::accept(recorder(&events, |_, _| Ok(()))))
        .expect("it starts");
    let cause = |end: fn(&mut Raw)| {
        let mut raw = Raw::upgrade(&certificates, address(&server));
        end(&mut raw);
        raw.finish();
        let is_notified = raw.was_notified();
        loop {
            if let Event::Disconnected(cause, _) = next(&ended) {
                return (cause, is_notified);
            }
        }
    };
    let half = |raw: &mut Raw| {
        let sealed = raw.seal(&masked(FrameHead::new(MsgType::Text), b"half of a frame"));
        raw.write_wire(&sealed[..sealed.len() / 2]);
    };
    assert_eq!(cause(|_| {}), (Some(DisconnectCause::CutOff), true));
    assert_eq!(cause(half), (Some(DisconnectCause::CutOff), true));
    assert_eq!(cause(Raw::close_notify), (Some(DisconnectCause::EndOfStream), true));
    let closed = |raw: &mut Raw| raw.send(MsgType::Close, &[3, 232]);
    assert_eq!(cause(closed), (Some(DisconnectCause::Closed), true), "no close_notify, and whole");
}

#[test]
fn a_frame_is_forwarded_between_plain_and_secure_connections() {
    let certificates = Certificates::new();
    for is_secure_behind in [false, true] {
        let behind = workers(1);
        let behind = if is_secure_behind { behind.tls(certificates.server()) } else { behind };
        let behind = behind.start(|_| Upgrade::accept(EchoListener)).expect("it starts");
        let url = behind.addresses()[0].to_string();
        let front = workers(1);
        let front = if is_secure_behind { front } else { front.tls(certificates.server()) };
        let tls = certificates.client();
        let front = front
            .start(move |_| {
                let (url, tls) = (url.clone(), tls.clone());
                Upgrade::accept(on_frame(move |transport, frame| {
                    let (kind, payload) = (frame.msg_type(), frame.payload().to_vec());
                    let (front, connect) = (transport.clone(), Connect::new(url.clone()).tls(&tls));
                    picows_uring::spawn(async move {
                        let back = on_frame(move |behind, frame| {
                            assert!(front.forward(frame).is_queued());
                            behind.disconnect();
                            Ok(())
                        });
                        let behind = connect.connect(back).await.expect("connected");
                        assert!(behind.send(kind, &payload).is_queued());
                    })?;
                    Ok(())
                }))
            })
            .expect("it starts");
        let (back, backs) = mpsc::channel();
        let connect = Connect::new(front.addresses()[0].to_string()).tls(&certificates.client());
        let payload = noise(9, 300_000);
        let expected = payload.clone();
        picows_uring::run(async move {
            let listener = on_frame(move |transport, frame| {
                let _ = back.send(frame.payload() == expected);
                transport.disconnect();
                Ok(())
            });
            let transport = connect.connect(listener).await.expect("connected");
            transport.send(MsgType::Binary, &payload);
            assert!(transport.wait_disconnected().await.is_ok());
        })
        .expect("a loop");
        assert!(next(&backs), "secure behind: {is_secure_behind}");
    }
}

#[test]
fn a_peer_that_does_not_read_pauses_and_is_cut_off_by_the_policy() {
    let certificates = Certificates::new();
    for policy in [QueuePolicy::Close, QueuePolicy::DropOldest, QueuePolicy::DropNewest] {
        let (events, seen) = mpsc::channel();
        let server = workers(1)
            .tls(certificates.server())
            .max_queue_size(4 << 20, policy)
            .start(move |_| {
                Upgrade::accept(recorder(&events, |transport, _| {
                    for _ in 0..200 {
                        transport.send(MsgType::Binary, vec![0; 100_000]);
                    }
                    Ok(())
                }))
            })
            .expect("it starts");
        let mut raw = Raw::upgrade(&certificates, address(&server));
        raw.send(MsgType::Text, b"flood me");
        let paused = loop {
            match next(&seen) {
                Event::Paused => break true,
                Event::Disconnected(cause, _) => break cause == Some(DisconnectCause::QueueFull),
                _ => {}
            }
        };
        assert!(paused, "{policy:?}");
        if policy == QueuePolicy::Close {
            eventually(&server, "it is closed", |stats| stats.frames_dropped == 0);
            raw.read_to_end();
            assert!(raw.plain.ends_with(b"send queue full"));
        } else {
            assert!(server.stats().frames_dropped > 0, "{policy:?}");
            // Whole messages only, and the connection works on.
            raw.take(10 + 100_000);
            drop(raw);
        }
    }
}

#[test]
fn a_record_that_is_not_completed_is_a_message_that_is_too_slow() {
    let certificates = Certificates::new();
    let server = echo(&certificates, workers(1).message_timeout(Duration::from_millis(100)));
    let mut raw = Raw::upgrade(&certificates, address(&server));
    let sealed = raw.seal(&masked(FrameHead::new(MsgType::Text), b"half of a record"));
    raw.write_wire(&sealed[..sealed.len() / 2]);
    assert_eq!(raw.receive()[..2], 1008_u16.to_be_bytes());
    assert_eq!(server.stats().message_timeouts, 1);
}

#[test]
fn a_server_that_stops_says_so_over_tls() {
    let certificates = Certificates::new();
    let server = echo(&certificates, workers(1));
    let mut raw = Raw::upgrade(&certificates, address(&server));
    let stopping = std::thread::spawn(move || server.stop().expect("it stops"));
    assert_eq!(raw.receive()[..2], 1001_u16.to_be_bytes());
    raw.send(MsgType::Close, &1001_u16.to_be_bytes());
    assert!(raw.was_notified());
    stopping.join().expect("it stops");
}

#[test]
fn pings_and_other_threads_reach_a_secure_connection() {
    let certificates = Certificates::new();
    let (remotes, remote) = mpsc::channel();
    let server = workers(1)
        .tls(certificates.server())
        .start(move |_| {
            let remotes = remotes.clone();
            Upgrade::accept(on_frame(move |transport, _| {
                let _ = remotes.send(transport.remote());
                Ok(())
            }))
        })
        .expect("it starts");
    let connect = connect(&certificates, &server);
    picows_uring::run(async move {
        let (back, mut backs) = tokio::sync::mpsc::unbounded_channel();
        let listener = on_frame(move |_, frame| {
            let _ = back.send(frame.payload().len());
            Ok(())
        });
        let transport = connect.connect(listener).await.expect("connected");
        let roundtrips = transport.measure_roundtrip_time(3).await;
        assert_eq!(roundtrips.expect("three pongs").len(), 3);
        transport.send_text("hand me to another thread");
        let remote = tokio::task::spawn_blocking(move || next(&remote)).await.expect("a handle");
        let sent = std::thread::spawn(move || remote.send(MsgType::Binary, vec![1; 70_000]));
        assert!(sent.join().expect("no panic").is_ok());
        assert_eq!(backs.recv().await, Some(70_000));
        transport.disconnect();
    })
    .expect("a loop");
}
