//! Large frames in pieces, received and sent: memory, order, ends.

#![allow(clippy::unwrap_used, reason = "a test that fails is to stop there")]

mod common;

use common::{Client, Got, address, masked, next, noise, on_frame, run, workers};
use picows_uring::{
    ApiMisuse, CloseCode, Connect, DisconnectCause, EchoListener, Frame, FrameHead, FramePiece,
    FrameWriter, Listener, ListenerResult, MsgType, PeerMisbehaved, SendStatus, Transport, Upgrade,
};
use std::sync::mpsc::{self, Sender};

const MIB: usize = 1 << 20;
const BINARY: FrameHead = FrameHead::new(MsgType::Binary);

/// Echoes frames of any length, and keeps none of them.
struct Relay {
    writer: Option<FrameWriter>,
    ended: Sender<Option<DisconnectCause>>,
    pieces: usize,
    buffered_max: usize,
}

impl Relay {
    fn new(ended: &Sender<Option<DisconnectCause>>) -> Self {
        Self { writer: None, ended: ended.clone(), pieces: 0, buffered_max: 0 }
    }
}

impl Listener for Relay {
    fn on_frame(&mut self, transport: &Transport, frame: &Frame<'_>) -> ListenerResult {
        if frame.payload() == b"pieces" {
            transport.send_text(format!("{} {}", self.pieces, self.buffered_max));
        } else if !frame.msg_type().is_control() {
            transport.forward(frame);
        }
        Ok(())
    }

    fn pieces_of_frames_above(&self) -> Option<u64> {
        Some(1000)
    }

    fn on_piece(&mut self, transport: &Transport, piece: &FramePiece<'_>) -> ListenerResult {
        self.pieces += 1;
        if piece.offset() == 0 {
            self.writer = Some(transport.write_frame_like(piece)?);
        }
        let writer = self.writer.as_mut().ok_or("a first piece")?;
        if writer.write(piece.payload()) == SendStatus::Congested {
            transport.pause_reading();
            self.buffered_max = self.buffered_max.max(transport.buffered_amount());
        }
        if piece.is_last() {
            self.writer = None;
        }
        Ok(())
    }

    fn resume_writing(&mut self, transport: &Transport) {
        transport.resume_reading();
    }

    fn on_disconnected(&mut self, transport: &Transport) {
        self.writer = None;
        let _ = self.ended.send(transport.disconnect_cause());
    }
}

#[test]
fn a_frame_is_relayed_in_less_memory_than_it_has_bytes() {
    let (ended, _ends) = mpsc::channel();
    for builder in [workers(1), workers(1).dedicated(true)] {
        let ended = ended.clone();
        // A connection that held more would be ended.
        let builder = builder.max_frame_size(1 << 32).memory_limit(Some(2 * MIB));
        let server = builder.start(move |_| Upgrade::accept(Relay::new(&ended))).unwrap();
        let mut client = Client::upgrade(address(&server));
        for (seed, len) in [8 * MIB, 5, 1000, 1001, 70_000, 3 * MIB + 1].into_iter().enumerate() {
            let payload = noise(seed as u64, len);
            let frame = masked(BINARY, &payload);
            let got = client.exchange(&frame.repeat(2), 2);
            let wanted = Got::new(MsgType::Binary, payload);
            assert!(got.iter().all(|got| *got == wanted), "{len}");
        }
        client.send_text("pieces");
        let got = client.receive();
        let text = String::from_utf8(got.payload).unwrap();
        let numbers: Vec<usize> = text.split(' ').map(|it| it.parse().unwrap()).collect();
        assert!(numbers[0] > 100 && numbers[1] < MIB, "pieces, most bytes buffered: {text}");
        // In fragments, with a PING between them.
        let payload = noise(9, 100_000);
        let mut wire = masked(BINARY.with_fin(false), &payload);
        wire.extend(masked(FrameHead::new(MsgType::Ping), b"?"));
        wire.extend(masked(FrameHead::new(MsgType::Continuation), &payload));
        let got = client.exchange(&wire, 3);
        let kinds: Vec<_> = got.iter().map(|got| (got.head.msg_type, got.head.fin)).collect();
        assert_eq!(
            kinds,
            [(MsgType::Binary, false), (MsgType::Pong, true), (MsgType::Continuation, true)]
        );
        assert!(got[0].payload == payload && got[2].payload == payload);
        drop(client);
        let stats = server.stop().unwrap();
        assert_eq!((stats.protocol_errors, stats.stash_bytes), (0, 0), "{stats:?}");
    }
}

#[test]
fn pieces_are_checked_as_whole_frames_are() {
    let (ended, ends) = mpsc::channel();
    let builder = workers(1).validate_text(true).max_frame_size(MIB as u64);
    let server = builder.start(move |_| Upgrade::accept(Relay::new(&ended))).unwrap();
    let text = [&[b'a'; 100_000][..], b"\xff", &[b'a'; 100_000]].concat();
    let cases = [
        (masked(FrameHead::new(MsgType::Text), &text), PeerMisbehaved::InvalidUtf8),
        (masked(BINARY, &vec![0; MIB + 1])[..14].to_vec(), PeerMisbehaved::FrameTooLarge),
    ];
    for (wire, misbehaved) in cases {
        let mut client = Client::upgrade(address(&server));
        let _ = client.try_write(&wire);
        client.read_to_end();
        assert_eq!(next(&ends), Some(DisconnectCause::PeerMisbehaved(misbehaved)));
    }
}

#[test]
fn a_client_writes_a_masked_frame_in_pieces_of_any_length() {
    if common::is_over_tls() {
        return;
    }
    let server = workers(1).start(|_| Upgrade::accept(EchoListener)).unwrap();
    let url = server.addresses()[0].to_string();
    run(async move {
        let mut stream = Connect::new(url).stream().await.unwrap();
        for step in [1, 3, 1000, 4096, 200_000] {
            let payload = noise(step as u64, 5 * step.min(100_000) + 7);
            let mut writer = stream.transport().write_frame(BINARY, payload.len() as u64).unwrap();
            for piece in payload.chunks(step) {
                assert!(writer.write(piece).is_queued());
            }
            assert_eq!(writer.bytes_left(), 0);
            drop(writer);
            let echo = stream.next().await.unwrap();
            assert!(echo.as_bytes() == &payload[..], "{step}");
        }
        stream.close().await;
    })
    .unwrap();
}

/// A server whose connections do with the first frame what `act` does, and report their end.
fn acting(
    act: impl Fn(&Transport) + Clone + Send + Sync + 'static,
) -> (picows_uring::ServerHandle, mpsc::Receiver<Option<DisconnectCause>>) {
    struct Acting<A>(A, Sender<Option<DisconnectCause>>);
    impl<A: Fn(&Transport)> Listener for Acting<A> {
        fn on_frame(&mut self, transport: &Transport, frame: &Frame<'_>) -> ListenerResult {
            if frame.msg_type() == MsgType::Text {
                (self.0)(transport);
            }
            Ok(())
        }

        fn on_disconnected(&mut self, transport: &Transport) {
            let _ = self.1.send(transport.disconnect_cause());
        }
    }
    let (ended, ends) = mpsc::channel();
    let server =
        workers(1).start(move |_| Upgrade::accept(Acting(act.clone(), ended.clone()))).unwrap();
    (server, ends)
}

#[test]
fn a_writer_that_is_dropped_early_ends_its_connection_and_the_cause_says_so() {
    let (server, ends) = acting(|transport| {
        let mut writer = transport.write_frame(BINARY, 100).unwrap();
        assert_eq!(writer.write([1; 40]), SendStatus::Queued);
        drop(writer);
        assert_eq!(transport.send_text("too late"), SendStatus::Closed);
    });
    let mut client = Client::upgrade(address(&server));
    client.send_text("go");
    // No more than what was written of it: neither CLOSE nor anything else follows.
    assert!(client.read_to_end() <= 42);
    assert_eq!(next(&ends), Some(DisconnectCause::FrameUnfinished));
}

#[test]
fn nothing_comes_between_the_pieces_of_a_frame() {
    let under_way = SendStatus::Refused(ApiMisuse::FrameUnderWay);
    let (server, ends) = acting(move |transport| {
        let mut writer = transport.write_frame(BINARY, 10).unwrap();
        writer.write("01234");
        assert_eq!(transport.send_text("a message"), under_way);
        assert_eq!(transport.send_latest(1, MsgType::Binary, b"a message"), under_way);
        assert_eq!(transport.send_close(CloseCode::NORMAL, ""), under_way);
        assert!(transport.write_frame(BINARY, 5).is_err());
        assert_eq!(transport.send_ping("waits"), SendStatus::Queued);
        let too_long = SendStatus::Refused(ApiMisuse::PastFrameEnd(6, 5));
        assert_eq!(writer.write("567890"), too_long);
        assert_eq!(writer.write("56789"), SendStatus::Queued);
        assert_eq!(transport.send_text("after it"), SendStatus::Queued);
        let empty = transport.write_frame(BINARY, 0).unwrap();
        assert_eq!(empty.bytes_left(), 0);
        drop(empty);
        assert_eq!(transport.send_close(CloseCode::NORMAL, ""), SendStatus::Queued);
    });
    let mut client = Client::upgrade(address(&server));
    client.send_text("go");
    assert_eq!(client.receive(), Got::new(MsgType::Binary, "0123456789"));
    assert_eq!(client.receive(), Got::new(MsgType::Ping, "waits"));
    client.expect_text("after it");
    assert_eq!(client.receive(), Got::new(MsgType::Binary, ""));
    client.expect_close(CloseCode::NORMAL, "");
    client.send_close(1000, "");
    assert_eq!(next(&ends), Some(DisconnectCause::Closed));
}

#[test]
fn pings_that_come_inside_of_a_frame_are_answered_behind_it() {
    let server = workers(1)
        .start(|_| {
            let mut writer = None;
            Upgrade::accept(on_frame(move |transport: &Transport, frame: &Frame<'_>| {
                match frame.payload() {
                    b"begin" => writer = transport.write_frame(BINARY, 4).ok(),
                    b"end" => {
                        writer.as_mut().unwrap().write("done");
                    }
                    _ => {}
                }
                Ok(())
            }))
        })
        .unwrap();
    let mut client = Client::upgrade(address(&server));
    client.send_text("begin");
    client.send(MsgType::Ping, "first");
    client.send(MsgType::Ping, "second");
    client.send_text("end");
    assert_eq!(client.receive(), Got::new(MsgType::Binary, "done"));
    assert_eq!(client.receive(), Got::new(MsgType::Pong, "first"));
    assert_eq!(client.receive(), Got::new(MsgType::Pong, "second"));
}

#[test]
fn a_peer_that_closes_inside_of_a_frame_ends_the_connection() {
    let (ended, ends) = mpsc::channel();
    let server = workers(1).start(move |_| Upgrade::accept(Relay::new(&ended))).unwrap();
    // The end of the stream, in the middle of a frame that is relayed.
    let mut client = Client::upgrade(address(&server));
    client.write(&masked(BINARY, &[0; 5000])[..3000]);
    drop(client);
    let cause = next(&ends).unwrap();
    let is_gone = matches!(
        cause,
        DisconnectCause::EndOfStream | DisconnectCause::Io(_) | DisconnectCause::CutOff
    );
    assert!(is_gone, "{cause:?}");
    let (server, ends) = acting(|transport| {
        // Kept for as long as the connection, and longer.
        std::mem::forget(transport.write_frame(BINARY, 1000).unwrap());
    });
    let mut client = Client::upgrade(address(&server));
    client.send_text("go");
    client.send_close(1000, "");
    client.read_to_end();
    assert_eq!(next(&ends), Some(DisconnectCause::Closed));
}

#[cfg(feature = "deflate")]
#[test]
fn frames_come_whole_where_messages_may_be_compressed() {
    use picows_uring::Deflate;
    let (ended, ends) = mpsc::channel();
    let builder = workers(1).deflate(Deflate::new());
    let server = builder.start(move |_| Upgrade::accept(Relay::new(&ended))).unwrap();
    let connect = common::connect_to(&server);
    run(async move {
        let mut stream = connect.deflate(Deflate::new()).stream().await.unwrap();
        assert!(stream.transport().deflate().is_some());
        let text = "compressible ".repeat(10_000);
        stream.send(text.clone()).await.unwrap();
        assert_eq!(stream.next().await.unwrap().as_text(), Some(&*text));
        stream.send("pieces").await.unwrap();
        assert_eq!(stream.next().await.unwrap().as_text(), Some("0 0"));
        // A frame that is written in pieces is not compressed, and enters no history.
        let mut writer =
            stream.transport().write_frame(FrameHead::new(MsgType::Text), 9000).unwrap();
        for _ in 0..10 {
            assert!(writer.write([b'x'; 900]).is_queued());
        }
        drop(writer);
        assert_eq!(stream.next().await.unwrap().as_text(), Some(&*"x".repeat(9000)));
        stream.send(text.clone()).await.unwrap();
        assert_eq!(stream.next().await.unwrap().as_text(), Some(&*text));
        stream.close().await;
    })
    .unwrap();
    assert_eq!(next(&ends), Some(DisconnectCause::Closed));
}
