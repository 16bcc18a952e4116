//! Peers that read slowly or not at all: pausing and resuming, and the end of patience.

mod common;

use common::{Client, Got, address, next, noise, workers};
use picows_uring::{
    CloseCode, DisconnectCause, FRAME_HEADER_BYTES_MAX, Frame, Listener, ListenerResult, MsgType,
    QueuePolicy, SendStatus, Transport, Upgrade,
};
use std::sync::mpsc::{self, Sender};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Pause(usize),
    Resume(usize),
}

/// Sends numbered messages until it is paused, and goes on when it is resumed.
struct Source {
    told: Sender<Told>,
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
        let _ = self.told.send(Told::Pause(transport.buffered_amount()));
    }

    fn resume_writing(&mut self, transport: &Transport) {
        let _ = self.told.send(Told::Resume(transport.buffered_amount()));
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
    // It is paused with nobody reading; only then does anybody read.
    assert!(matches!(next(&tells), Told::Pause(_)));
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
            Told::Pause(buffered) => {
                assert!(!is_paused, "paused twice");
                // What is to come is counted with the longest header.
                assert!(buffered + FRAME_HEADER_BYTES_MAX > HIGH, "{buffered}");
                assert!(buffered < HIGH + 20_000 + FRAME_HEADER_BYTES_MAX, "{buffered}");
            }
            Told::Resume(buffered) => {
                assert!(is_paused, "resumed twice");
                assert!(buffered <= LOW, "{buffered}");
                resumes += 1;
            }
        }
        is_paused = !is_paused;
    }
    assert!(resumes > 10, "{resumes}");
}

/// Queues in one callback, while nothing can leave, and tells what came of it.
struct Flood {
    told: Sender<Vec<SendStatus>>,
    ended: Sender<Option<DisconnectCause>>,
}

impl Listener for Flood {
    fn on_frame(&mut self, transport: &Transport, frame: &Frame<'_>) -> ListenerResult {
        if frame.msg_type() == MsgType::Text {
            let mut statuses: Vec<_> =
                (0..6).map(|_| transport.send(MsgType::Binary, [b'x'; 60_000])).collect();
            statuses.push(transport.send_ping("still?"));
            statuses.push(transport.send_text("short"));
            let _ = self.told.send(statuses);
        }
        Ok(())
    }

    fn on_disconnected(&mut self, transport: &Transport) {
        let _ = self.ended.send(transport.disconnect_cause());
    }
}

#[test]
fn a_full_queue_closes_by_default() {
    use SendStatus::{Closed, Congested, Queued};
    let (told, tells) = mpsc::channel();
    let (ended, ends) = mpsc::channel();
    let server = workers(1)
        .max_queue_size(250_000, QueuePolicy::default())
        .start(move |_| Upgrade::accept(Flood { told: told.clone(), ended: ended.clone() }))
        .unwrap();
    let mut client = Client::upgrade(address(&server));
    client.send_text("flood");
    let wanted = [Queued, Congested, Congested, Congested, Closed, Closed, Closed, Closed];
    assert_eq!(next(&tells), wanted);
    // What was queued before still arrives, and the reason.
    for _ in 0..4 {
        assert_eq!(client.receive().payload.len(), 60_000);
    }
    client.expect_close(CloseCode::POLICY_VIOLATION, "send queue full");
    client.expect_eof();
    assert_eq!(next(&ends), Some(DisconnectCause::QueueFull));
}

#[test]
fn a_full_queue_drops_the_newest_if_told_so() {
    use SendStatus::{Congested, Dropped, Queued};
    let (told, tells) = mpsc::channel();
    let (ended, ends) = mpsc::channel();
    let server = workers(1)
        .max_queue_size(250_000, QueuePolicy::DropNewest)
        .start(move |_| Upgrade::accept(Flood { told: told.clone(), ended: ended.clone() }))
        .unwrap();
    let mut client = Client::upgrade(address(&server));
    for _ in 0..3 {
        client.send_text("flood");
        // A control frame is never dropped, and a message that fits is sent.
        let wanted = [Queued, Congested, Congested, Congested, Dropped, Dropped, Congested];
        let mut told = next(&tells);
        assert_eq!(told.pop(), Some(Congested));
        assert_eq!(told, wanted);
        for _ in 0..4 {
            assert_eq!(client.receive().payload.len(), 60_000);
        }
        assert_eq!(client.receive(), Got::new(MsgType::Ping, "still?"));
        client.expect_text("short");
    }
    client.send_close(1000, "");
    client.expect_close(CloseCode::NORMAL, "");
    assert_eq!(next(&ends), Some(DisconnectCause::Closed));
    drop(client);
    assert_eq!(server.stop().unwrap().frames_dropped, 6);
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
