//! Peers that read slowly or not at all: pausing and resuming, and the end of patience.

mod common;

use common::{Client, Got, address, masked, next, noise, workers};
use picows_uring::{
    CloseCode, DisconnectCause, FRAME_HEADER_BYTES_MAX, Frame, FrameHead, Listener, ListenerResult,
    MsgType, QueuePolicy, SendStatus, ServerHandle, Transport, Upgrade,
};
use std::cell::RefCell;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::{self, Receiver, Sender};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Pause(usize),
    Resume(usize),
}

/// Sends numbered messages until it is paused, and goes on when it is resumed.
struct Source {
    told: Sender<Call>,
    next: usize,
    is_paused: bool,
}

impl Source {
    fn pour(&mut self, transport: &Transport) {
        while self.next < MESSAGES && !self.is_paused {
            let status = transport.send(MsgType::Binary, message(self.next));
            assert!(status.is_queued(), "{status:?}");
            self.next += 1;
            // As the documentation says: `pause_writing` follows.
            self.is_paused = status == SendStatus::Congested;
        }
        if self.next == MESSAGES {
            self.next += 1;
            transport.disconnect();
        }
    }
}

impl Listener for Source {
    fn on_frame(&mut self, transport: &Transport, _: &Frame<'_>) -> ListenerResult {
        self.pour(transport);
        Ok(())
    }

    fn pause_writing(&mut self, transport: &Transport) {
        assert!(self.is_paused || self.next > MESSAGES, "told by the last send");
        let _ = self.told.send(Call::Pause(transport.buffered_amount()));
    }

    fn resume_writing(&mut self, transport: &Transport) {
        let _ = self.told.send(Call::Resume(transport.buffered_amount()));
        self.is_paused = false;
        self.pour(transport);
    }
}

const MESSAGES: usize = 3_000;
const HIGH: usize = 100_000;
const LOW: usize = 20_000;

fn message(number: usize) -> Vec<u8> {
    noise(number as u64, number % 20_000)
}

#[test]
fn a_slow_reader_gets_everything_and_the_queue_stays_short() {
    let (told, tells) = mpsc::channel();
    let server = workers(1)
        .write_watermarks(HIGH, LOW)
        .start(move |_| Upgrade::accept(Source { told: told.clone(), next: 0, is_paused: false }))
        .unwrap();
    let mut client = Client::upgrade(address(&server));
    client.send_text("pour");
    // It is paused while the peer does not read; only then does it begin to.
    assert!(matches!(next(&tells), Call::Pause(_)));
    for number in 0..MESSAGES {
        let got = client.receive();
        assert!(got == Got::new(MsgType::Binary, message(number)), "message {number}: {got:?}");
    }
    client.expect_eof();
    drop(client);
    server.stop().unwrap();
    let mut is_paused = true;
    let mut resumes = 0;
    for told in tells {
        match told {
            Call::Pause(buffered) => {
                assert!(!is_paused, "paused twice");
                // What is to come is counted with the longest header.
                assert!(buffered + FRAME_HEADER_BYTES_MAX > HIGH, "{buffered}");
                assert!(buffered < HIGH + 20_000 + FRAME_HEADER_BYTES_MAX, "{buffered}");
            }
            Call::Resume(buffered) => {
                assert!(is_paused, "resumed twice");
                assert!(buffered <= LOW, "{buffered}");
                resumes += 1;
            }
        }
        is_paused = !is_paused;
    }
    assert!(resumes > 0, "{resumes}");
}

/// What came of a flood.
#[derive(Debug)]
struct Told {
    /// Of the long messages.
    statuses: Vec<SendStatus>,
    ping: SendStatus,
    /// Of a short message, and whether there was room for it.
    short: (SendStatus, bool),
}

impl Told {
    /// How many long messages in a row had each status.
    fn runs(&self) -> Vec<(SendStatus, usize)> {
        let runs = self.statuses.chunk_by(|first, second| first == second);
        runs.map(|run| (run[0], run.len())).collect()
    }
}

/// Sends more in one callback than sockets hold, and reports what came of it.
struct Flood {
    told: Sender<Told>,
    ended: Sender<Option<DisconnectCause>>,
}

impl Listener for Flood {
    fn on_frame(&mut self, transport: &Transport, frame: &Frame<'_>) -> ListenerResult {
        if frame.msg_type() == MsgType::Text {
            let long = vec![b'x'; LONG];
            let statuses = (0..COUNT).map(|_| transport.send(MsgType::Binary, &long)).collect();
            let ping = transport.send_ping("still?");
            let has_room = transport.buffered_amount() + FRAME_HEADER_BYTES_MAX + 5 <= LIMIT;
            let short = (transport.send_text("short"), has_room);
            let _ = self.told.send(Told { statuses, ping, short });
        }
        Ok(())
    }

    fn on_disconnected(&mut self, transport: &Transport) {
        let _ = self.ended.send(transport.disconnect_cause());
    }
}

const LONG: usize = 60_000;
/// As many are more than the buffers of both sockets and the queue hold.
const COUNT: usize = 1_000;
const LIMIT: usize = 250_000;

/// A server that floods a client that asks for it, such a client, and the server's reports.
struct Flooding {
    server: ServerHandle,
    client: Client,
    tells: Receiver<Told>,
    ends: Receiver<Option<DisconnectCause>>,
}

fn flooding(policy: QueuePolicy) -> Flooding {
    let (told, tells) = mpsc::channel();
    let (ended, ends) = mpsc::channel();
    let server = workers(1)
        .max_queue_size(LIMIT, policy)
        .start(move |_| Upgrade::accept(Flood { told: told.clone(), ended: ended.clone() }))
        .expect("it starts");
    let client = Client::upgrade(address(&server));
    Flooding { server, client, tells, ends }
}

#[test]
fn a_full_queue_closes_by_default() {
    use SendStatus::{Closed, Congested, Queued};
    let Flooding { server: _server, mut client, tells, ends } = flooding(QueuePolicy::default());
    client.send_text("flood");
    let told = next(&tells);
    let [(Queued, taken), (Congested, waiting @ 1..=4), (Closed, _)] = told.runs()[..] else {
        panic!("{:?}", told.runs());
    };
    assert_eq!((told.ping, told.short.0), (Closed, Closed));
    // What was queued before still arrives, and the reason.
    for _ in 0..taken + waiting {
        assert_eq!(client.receive().payload.len(), LONG);
    }
    client.expect_close(CloseCode::POLICY_VIOLATION, "send queue full");
    client.expect_eof();
    assert_eq!(next(&ends), Some(DisconnectCause::QueueFull));
}

#[test]
fn a_full_queue_drops_the_newest_if_told_so() {
    use SendStatus::{Congested, Dropped, Queued};
    let Flooding { server, mut client, tells, ends } = flooding(QueuePolicy::DropNewest);
    let mut dropped = 0;
    for _ in 0..3 {
        client.send_text("flood");
        let told = next(&tells);
        let [(Queued, taken), (Congested, waiting @ 1..=4), (Dropped, lost)] = told.runs()[..]
        else {
            panic!("{:?}", told.runs());
        };
        // A control frame is never dropped, and a message that fits is sent.
        assert_eq!(told.ping, Congested);
        assert_eq!(told.short.0, if told.short.1 { Congested } else { Dropped });
        for _ in 0..taken + waiting {
            assert_eq!(client.receive().payload.len(), LONG);
        }
        assert_eq!(client.receive(), Got::new(MsgType::Ping, "still?"));
        match told.short.1 {
            true => client.expect_text("short"),
            false => dropped += 1,
        }
        dropped += lost as u64;
    }
    client.send_close(1000, "");
    client.expect_close(CloseCode::NORMAL, "");
    assert_eq!(next(&ends), Some(DisconnectCause::Closed));
    drop(client);
    assert_eq!(server.stop().unwrap().frames_dropped, dropped);
}

#[test]
fn a_full_queue_drops_the_oldest_if_told_so() {
    use SendStatus::{Congested, DroppedOldest, Queued};
    let Flooding { server, mut client, tells, ends } = flooding(QueuePolicy::DropOldest);
    for _ in 0..3 {
        client.send_text("flood");
        let told = next(&tells);
        let [(Queued, taken), (Congested, waiting @ 1..=4), (DroppedOldest, _)] = told.runs()[..]
        else {
            panic!("{:?}", told.runs());
        };
        assert!(told.ping.is_queued() && told.short.0.is_queued(), "{told:?}");
        // The short one may have cost one more of the long ones.
        let long = taken + waiting - usize::from(!told.short.1);
        let mut got: Vec<_> = (0..long + 2).map(|_| client.receive()).collect();
        got.sort_by_key(|got| got.payload.len());
        assert_eq!(got[0], Got::new(MsgType::Text, "short"));
        assert_eq!(got[1], Got::new(MsgType::Ping, "still?"));
        assert!(got[2..].iter().all(|got| got.payload.len() == LONG));
    }
    client.send_close(1000, "");
    client.expect_close(CloseCode::NORMAL, "");
    assert_eq!(next(&ends), Some(DisconnectCause::Closed));
    drop(client);
    assert!(server.stop().unwrap().frames_dropped > 0);
}

#[test]
fn an_echo_client_that_never_reads_is_closed_and_costs_a_bounded_queue() {
    let server = workers(1)
        .max_queue_size(1 << 20, QueuePolicy::Close)
        .close_timeout(std::time::Duration::from_millis(200))
        .start(|_| Upgrade::accept(picows_uring::EchoListener))
        .unwrap();
    let mut neighbour = Client::upgrade(address(&server));
    let mut deaf = Client::upgrade(address(&server));
    // As much as the kernel and the server take; then the server hangs up.
    while deaf.try_send(MsgType::Binary, &[0; 60_000]).is_ok() {}
    common::eventually(&server, "it is gone", |stats| stats.connections == 1);
    neighbour.echo(b"nobody else notices");
}

thread_local! {
    /// The connection whose reading is paused, for another one of the same worker.
    static PAUSED: RefCell<Option<Transport>> = const { RefCell::new(None) };
}

/// Pauses with its first frame, and counts what arrives.
#[derive(Default)]
struct Deaf(usize);

impl Listener for Deaf {
    fn on_frame(&mut self, transport: &Transport, frame: &Frame<'_>) -> ListenerResult {
        if self.0 == 0 {
            transport.pause_reading();
            PAUSED.set(Some(transport.clone()));
        }
        self.0 += frame.payload().len();
        if frame.msg_type() == MsgType::Text {
            transport.send_text(self.0.to_string());
        }
        Ok(())
    }
}

/// Echoes; or has the other one read on.
struct Alarm;

impl Listener for Alarm {
    fn on_frame(&mut self, transport: &Transport, frame: &Frame<'_>) -> ListenerResult {
        if frame.payload() == b"wake" {
            PAUSED.take().ok_or("nobody is paused")?.resume_reading();
        }
        transport.send_like(frame, frame.payload());
        Ok(())
    }
}

#[test]
fn while_reading_is_paused_tcp_holds_the_peer_back_and_nothing_is_lost() {
    if common::is_over_tls() {
        return;
    }
    let server = workers(1)
        .start(|request| match request.path() {
            "/deaf" => Upgrade::accept(Deaf::default()),
            _ => Upgrade::accept(Alarm),
        })
        .unwrap();
    let mut neighbour = Client::upgrade(address(&server));
    let mut stream = TcpStream::connect(address(&server)).unwrap();
    stream.write_all(common::upgrade_request("/deaf", "").as_bytes()).unwrap();
    let frame = masked(FrameHead::new(MsgType::Binary), &[0; 60_000]);
    stream.set_nonblocking(true).unwrap();
    let (mut written, mut blocked) = (0_usize, 0);
    // More than the buffers of both sockets hold; blocked for good, and not for a moment, is who
    // still is when the server has had many turns.
    while blocked < 100 {
        match stream.write(&frame[written % frame.len()..]) {
            Ok(count) => (written, blocked) = (written + count, 0),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                blocked += 1;
                neighbour.echo(b"served meanwhile");
            }
            Err(error) => panic!("{error}"),
        }
        assert!(written < 256 << 20, "nobody holds it back");
    }
    neighbour.echo(b"wake");
    stream.set_nonblocking(false).unwrap();
    stream.write_all(&frame[written % frame.len()..]).unwrap();
    stream.write_all(&masked(FrameHead::new(MsgType::Text), b"end")).unwrap();
    let total = (written / frame.len() + 1) * 60_000 + 3;
    let mut heard = Vec::new();
    while !heard.ends_with(total.to_string().as_bytes()) {
        let mut buffer = [0; 1000];
        let count = stream.read(&mut buffer).unwrap();
        assert!(count > 0, "it ended: {}", heard.escape_ascii());
        heard.extend_from_slice(&buffer[..count]);
    }
}

#[test]
fn a_limit_loses_nothing_for_a_client_that_reads() {
    for policy in [QueuePolicy::Close, QueuePolicy::DropNewest, QueuePolicy::DropOldest] {
        let server = workers(1)
            .write_watermarks(8 * 1024, 1024)
            .max_queue_size(16 * 1024, policy)
            .start(|_| Upgrade::accept(picows_uring::EchoListener))
            .unwrap();
        let mut client = Client::upgrade(address(&server));
        // More than ten times the limit, and no more than sockets have room for.
        let payloads: Vec<_> = (0..200).map(|number| noise(number, 1000)).collect();
        let head = FrameHead::new(MsgType::Binary);
        client.write(&payloads.iter().flat_map(|it| masked(head, it)).collect::<Vec<_>>());
        for (number, payload) in payloads.into_iter().enumerate() {
            let got = client.receive();
            assert!(got == Got::new(MsgType::Binary, payload), "{policy:?}, {number}: {got:?}");
        }
        drop(client);
        let stats = server.stop().unwrap();
        assert_eq!(stats.frames_dropped, 0, "{policy:?}");
    }
}
