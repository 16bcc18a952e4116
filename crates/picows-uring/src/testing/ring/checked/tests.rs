//! Each demand of the contract, with a call or a completion that breaks it; and a worker on
//! io_uring that keeps it.

use super::*;
use crate::command::Command;
use crate::config::Config;
use crate::health::Counters;
use crate::host::{BusyPoll, run_dedicated};
use crate::listener::EchoListener;
use crate::local::Local;
use crate::mailbox::Mailbox;
use crate::ring::epoll::EpollRing;
use crate::ring::uring::UringRing;
use crate::ring::{ReceiveResult, Segment, WaitMode};
use crate::testing::ring::scripted::ByHand;
use crate::upgrade::{Factory, Upgrade};
use crate::worker::Listening;
use crate::worker::Worker;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::IntoRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};

type Scripted = Checked<ByHand>;

const LISTENER: Socket = Socket(3);
const SOCKET: Socket = Socket(7);
const ACCEPT: ListenerId = ListenerId { index: 0, generation: 0 };
const TOKEN: Token = Token { slot: 3, generation: 5 };
const OTHER: Token = Token { slot: 4, generation: 5 };

fn batch(bytes: &[u8]) -> Box<SendBatch> {
    let mut batch = Box::<SendBatch>::default();
    batch.push(Segment::Owned { bytes: bytes.to_vec(), start: 0 });
    batch
}

fn poll<R: Ring>(ring: &mut R) -> Vec<Completion> {
    let mut out = Vec::new();
    ring.poll(10, &mut out).unwrap();
    out
}

/// With a connection accepted as [`SOCKET`].
fn connected() -> Scripted {
    let mut ring = Scripted::default();
    ring.accept(LISTENER, ACCEPT);
    ring.connect(SOCKET.0);
    assert_eq!(poll(&mut ring).len(), 1);
    ring
}

/// With a piece that was received.
fn piece(ring: &mut Scripted) -> RecvBuffer {
    ring.receive(SOCKET, TOKEN);
    ring.deliver(b"bytes");
    match poll(ring).pop() {
        Some(Completion::Received { result: ReceiveResult::Data(buffer), .. }) => buffer,
        other => panic!("{other:?}"),
    }
}

fn same(buffer: &RecvBuffer) -> RecvBuffer {
    RecvBuffer::new(buffer.id(), buffer.offset(), buffer.len() as u32)
}

fn shut_down_and_send(ring: &mut Scripted) {
    ring.shut_down(SOCKET);
    ring.send(SOCKET, TOKEN, batch(b"late"));
}

fn stuck(ring: &mut Scripted) {
    ring.is_stuck = true;
    ring.send(SOCKET, TOKEN, batch(b"one"));
}

fn take(ring: &mut Scripted, max: usize) {
    let mut memory = Vec::new();
    let room = Room::new(&mut memory, 0, max, max).unwrap();
    let _ = ring.receive_now(SOCKET, room);
}

fn forge(ring: &mut Scripted, completion: Completion) {
    ring.forge(completion);
    poll(ring);
}

fn forge_received(ring: &mut Scripted, result: ReceiveResult, more: bool) {
    ring.receive(SOCKET, TOKEN);
    forge(ring, Completion::Received { token: TOKEN, result, more });
}

fn accepted(result: io::Result<Socket>, more: bool) -> Completion {
    Completion::Accepted { listener: ACCEPT, result, more }
}

fn failed() -> io::Error {
    io::ErrorKind::Other.into()
}

type Breach = (&'static str, fn(&mut Scripted));

/// What the panic says, and what the caller does.
const CALLS: &[Breach] = &[
    ("a second accept", |ring| ring.accept(LISTENER, ACCEPT)),
    ("accepts on another socket", |ring| ring.accept(Socket(4), ACCEPT)),
    ("receive on a listening socket", |ring| ring.receive(LISTENER, TOKEN)),
    ("a second receive", |ring| {
        ring.receive(SOCKET, TOKEN);
        ring.receive_once(SOCKET, TOKEN);
    }),
    ("receive_now overtakes a receive", |ring| {
        ring.receive(SOCKET, TOKEN);
        take(ring, 10);
    }),
    ("no room for the bytes", |ring| take(ring, 0)),
    ("a second send", |ring| {
        stuck(ring);
        ring.send(SOCKET, TOKEN, batch(b"two"));
    }),
    ("a send after shut_down", shut_down_and_send),
    ("an empty batch", |ring| ring.send(SOCKET, TOKEN, batch(b""))),
    ("send_now overtakes a send", |ring| {
        stuck(ring);
        let _ = ring.send_now(SOCKET, &batch(b"two"));
    }),
    ("send_now overtakes a send", |ring| {
        stuck(ring);
        let _ = ring.outlet().send_now(SOCKET, &batch(b"two"));
    }),
    ("send_now after shut_down", |ring| {
        ring.shut_down(SOCKET);
        let _ = ring.send_now(SOCKET, &batch(b"late"));
    }),
    ("an empty batch", |ring| _ = ring.outlet().send_now(SOCKET, &batch(b""))),
    ("cancel_receive of Token", |ring| ring.cancel_receive(OTHER)),
    ("shut_down of a listening socket", |ring| ring.shut_down(LISTENER)),
    ("in the middle of a send", |ring| {
        stuck(ring);
        ring.shut_down(SOCKET);
    }),
    ("a second shut_down", |ring| {
        ring.shut_down(SOCKET);
        ring.shut_down(SOCKET);
    }),
    ("close of Socket(7) with operations in flight", |ring| {
        ring.receive(SOCKET, TOKEN);
        ring.close(SOCKET);
    }),
    ("close of Socket(3) with operations in flight", |ring| ring.close(LISTENER)),
    ("receive on Socket(7), which is not open", |ring| {
        ring.close(SOCKET);
        ring.receive(SOCKET, TOKEN);
    }),
    ("close on Socket(7), which is not open", |ring| {
        ring.close(SOCKET);
        ring.close(SOCKET);
    }),
    ("cancel on Socket(7), which is not open", |ring| {
        ring.close_on_failure(SOCKET);
        ring.cancel(SOCKET);
    }),
    ("belongs to another connection", |ring| {
        ring.send(SOCKET, TOKEN, batch(b"first owner"));
        poll(ring);
        ring.close(SOCKET);
        ring.connect(SOCKET.0);
        poll(ring);
        ring.receive(SOCKET, TOKEN);
    }),
    ("bytes of RecvBuffer", |ring| {
        let buffer = piece(ring);
        let again = same(&buffer);
        ring.release(buffer);
        ring.bytes(&again);
    }),
    ("lend of RecvBuffer", |ring| {
        let buffer = piece(ring);
        let again = same(&buffer);
        ring.release(buffer);
        ring.lend(&again);
    }),
    ("keep of RecvBuffer", |ring| {
        let buffer = piece(ring);
        let mut again = same(&buffer);
        ring.release(buffer);
        ring.keep(&mut again, false);
    }),
    ("is released twice", |ring| {
        let buffer = piece(ring);
        let again = same(&buffer);
        ring.release(buffer);
        ring.release(again);
    }),
    ("1 receive buffers are neither released nor kept", |ring| {
        let _lost = piece(ring);
        poll(ring);
    }),
    ("1 receive buffers are neither released nor kept", |ring| {
        let _lost = piece(ring);
        let _ = ring.wait();
    }),
    ("sockets are left open: [3, 7]", |ring| ring.demand_nothing_is_left()),
    ("receive buffers are left", |ring| {
        let mut kept = piece(ring);
        assert!(ring.keep(&mut kept, false));
        poll(ring);
        ring.close_on_failure(SOCKET);
        ring.close_on_failure(LISTENER);
        ring.demand_nothing_is_left();
    }),
];

/// What the panic says, and what the ring does.
const COMPLETIONS: &[Breach] = &[
    ("accepts, which was not begun", |ring| {
        ring.fail_accept(libc::EMFILE);
        poll(ring);
        forge(ring, accepted(Ok(Socket(8)), true));
    }),
    ("more comes of an accept that failed", |ring| forge(ring, accepted(Err(failed()), true))),
    ("Socket(7) is accepted, which is open", |ring| forge(ring, accepted(Ok(SOCKET), true))),
    ("receives, which was not begun", |ring| {
        let result = ReceiveResult::EndOfStream;
        forge(ring, Completion::Received { token: TOKEN, result, more: false });
    }),
    ("receives, which was not begun", |ring| {
        forge_received(ring, ReceiveResult::EndOfStream, false);
        let result = ReceiveResult::Cancelled;
        forge(ring, Completion::Received { token: TOKEN, result, more: false });
    }),
    ("more comes of a receive after EndOfStream", |ring| {
        forge_received(ring, ReceiveResult::EndOfStream, true);
    }),
    ("more comes of a single receive", |ring| {
        ring.receive_once(SOCKET, TOKEN);
        let result = ReceiveResult::Data(RecvBuffer::new(0, 0, 1));
        forge(ring, Completion::Received { token: TOKEN, result, more: true });
    }),
    ("is empty", |ring| forge_received(ring, ReceiveResult::Data(RecvBuffer::new(0, 0, 0)), true)),
    ("is received over a piece of the caller", |ring| {
        ring.receive(SOCKET, TOKEN);
        for (offset, len) in [(0, 10), (20, 10), (9, 2)] {
            let result = ReceiveResult::Data(RecvBuffer::new(0, offset, len));
            ring.forge(Completion::Received { token: TOKEN, result, more: true });
        }
        poll(ring);
    }),
    ("was sent, which was not begun", |ring| {
        let batch = batch(b"one");
        forge(ring, Completion::Sent { token: TOKEN, result: Ok(3), batch });
    }),
    ("gets a batch of another", |ring| {
        stuck(ring);
        let batch = batch(b"one");
        forge(ring, Completion::Sent { token: TOKEN, result: Ok(3), batch });
    }),
    ("a send of Token { slot: 3, generation: 5 } that took nothing", |ring| {
        stuck(ring);
        ring.take(0);
        poll(ring);
    }),
    ("were sent", |ring| {
        let long = batch(b"three");
        let address = std::ptr::from_ref(&*long);
        ring.is_stuck = true;
        ring.send(SOCKET, TOKEN, long);
        let batch = ring.take_sending().unwrap();
        assert_eq!(std::ptr::from_ref(&*batch), address);
        forge(ring, Completion::Sent { token: TOKEN, result: Ok(6), batch });
    }),
    ("a poll returned 2 completions, not 1", |ring| {
        ring.excess = 1;
        ring.connect(8);
        ring.connect(9);
        let _ = ring.poll(1, &mut Vec::new());
    }),
    ("receive_now took 11 of 10 bytes", |ring| {
        ring.excess = 1;
        ring.waiting.push_back(Ok(vec![0; 10]));
        take(ring, 10);
    }),
    ("receive_now of 6 bytes left 5", |ring| {
        ring.excess = 1;
        ring.waiting.push_back(Ok(vec![0; 5]));
        take(ring, 10);
    }),
    ("send_now took 4 of 3 bytes", |ring| {
        ring.excess = 1;
        ring.room.push_back(Ok(3));
        let _ = ring.send_now(SOCKET, &batch(b"one"));
    }),
    ("is not kept, and must be", |ring| {
        (ring.keeps, ring.excess) = (Some(0), 1);
        let mut buffer = piece(ring);
        ring.keep(&mut buffer, true);
    }),
    ("the clock of the ring goes back", |ring| {
        ring.now = Duration::from_secs(2);
        Ring::now(ring);
        ring.now = Duration::from_secs(1);
        Ring::now(ring);
    }),
];

#[test]
fn each_breach_is_noticed_and_named() {
    for (text, breach) in CALLS.iter().chain(COMPLETIONS) {
        let mut ring = connected();
        let panic = catch_unwind(AssertUnwindSafe(|| breach(&mut ring)));
        let said = panic.err().and_then(|said| said.downcast::<String>().ok());
        let said = said.unwrap_or_else(|| panic!("unnoticed: {text}"));
        assert!(said.starts_with("contract of the ring broken: "), "{said}");
        assert!(said.contains(text), "{said:?} instead of {text:?}");
    }
}

/// By a caller that connects sockets itself: with an old token, it means the socket that was closed.
#[test]
fn a_descriptor_may_be_adopted_again_with_a_new_token_only() {
    let mut ring = connected();
    ring.allow_adopting();
    ring.receive(SOCKET, TOKEN);
    ring.cancel(SOCKET);
    poll(&mut ring);
    ring.close(SOCKET);
    let stale = catch_unwind(AssertUnwindSafe(|| ring.receive(SOCKET, TOKEN)));
    assert!(stale.is_err());
    ring.receive(SOCKET, OTHER);
    ring.cancel(SOCKET);
    poll(&mut ring);
    ring.close(SOCKET);
}

#[test]
fn a_caller_that_keeps_the_contract_is_not_stopped() {
    let mut ring = connected();
    let buffer = piece(&mut ring);
    assert_eq!(ring.bytes(&buffer), b"bytes");
    ring.release(buffer);
    ring.cancel(SOCKET);
    poll(&mut ring);
    take(&mut ring, 10);
    ring.send(SOCKET, TOKEN, batch(b"one"));
    poll(&mut ring);
    ring.shut_down(SOCKET);
    ring.close(SOCKET);
    // The same descriptor, another connection, another token.
    ring.connect(SOCKET.0);
    poll(&mut ring);
    ring.receive(SOCKET, OTHER);
    ring.cancel_receive(TOKEN);
    ring.cancel(SOCKET);
    ring.cancel(LISTENER);
    poll(&mut ring);
    ring.close(SOCKET);
    ring.close(LISTENER);
    ring.demand_nothing_is_left();
}

/// A default that takes the place of the ring's own would hide it from the worker.
#[test]
fn every_method_goes_on_to_the_ring() {
    let traits = [include_str!("../../../ring.rs"), include_str!("../../../ring/wait.rs")];
    for (text, name) in traits.into_iter().zip(["Ring", "Wait"]) {
        let (_, text) = text.split_once(&format!("pub(crate) trait {name} {{")).unwrap();
        let (text, _) = text.split_once("\n}\n").unwrap();
        let methods = text.lines().filter_map(|line| line.strip_prefix("    fn "));
        let methods: Vec<_> = methods.filter_map(|line| Some(line.split_once('(')?.0)).collect();
        assert!(methods.len() > 7, "{methods:?}");
        for method in methods {
            let call = format!("self.ring.{method}(");
            assert!(include_str!("../checked.rs").contains(&call), "{method}");
        }
    }
}

#[test]
fn a_worker_and_io_uring_keep_the_contract() {
    echo_on(|| UringRing::new(WaitMode::Dedicated).unwrap());
}

#[test]
fn a_worker_and_epoll_keep_the_contract() {
    echo_on(|| EpollRing::new().unwrap());
}

/// Has a worker on a ring echo to several clients, until it is stopped.
fn echo_on<R: Ring + Wait>(open: impl FnOnce() -> R + Send + 'static) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (ready, mailboxes) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        let ring = Checked::new(open());
        let mailbox = Arc::new(Mailbox::new(ring.signal()));
        let counters = Arc::<Counters>::default();
        let config = Arc::new(Config { admission: Some(Arc::default()), ..Config::default() });
        let local = Local::new(Arc::clone(&config), counters, Arc::clone(&mailbox));
        let factory: Arc<Factory> = Arc::new(|_: &_| Ok(Upgrade::accept(EchoListener)));
        let mut worker = Worker::new(ring, local);
        worker.listen(Socket(listener.into_raw_fd()), &Listening::new(config, factory));
        ready.send(mailbox).unwrap();
        run_dedicated(worker, BusyPoll::default()).unwrap();
    });
    let mailbox = mailboxes.recv().unwrap();
    let mut streams: Vec<_> = (0..10).map(|_| TcpStream::connect(address).unwrap()).collect();
    for stream in &mut streams {
        stream
            .write_all(
                b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                  Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
            )
            .unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
    }
    // Small, as long as a buffer, and so large that the rest is taken from the socket at once.
    for len in [1_u64, 4096, 70_000, 1 << 20] {
        for stream in &mut streams {
            let mut header = match len {
                0..126 => vec![0x82, 0x80 | len as u8],
                126..65_536 => [&[0x82, 0xFE][..], &(len as u16).to_be_bytes()].concat(),
                _ => [&[0x82, 0xFF][..], &len.to_be_bytes()].concat(),
            };
            // The echo has no masking key.
            let header_bytes = header.len();
            header.extend([0; 4]);
            let payload = vec![7; len as usize];
            let (mut reader, sent) = (stream.try_clone().unwrap(), payload.clone());
            let echoed = std::thread::spawn(move || {
                let mut echoed = vec![0; header_bytes + sent.len()];
                reader.read_exact(&mut echoed).unwrap();
                assert!(echoed[header_bytes..] == sent[..]);
            });
            stream.write_all(&header).unwrap();
            stream.write_all(&payload).unwrap();
            echoed.join().unwrap();
        }
    }
    drop(streams.split_off(5));
    mailbox.post(Command::Stop { drain: Duration::from_millis(10) });
    thread.join().unwrap();
}
