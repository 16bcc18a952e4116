//! Attacks of a hostile peer, on a real ring, against our server and against our client.
//!
//! What a single frame can do wrong is tested in picows-uring-proto, `pair/rfc6455`; here it is
//! what needs sockets, neighbours or many frames.

#![allow(clippy::unwrap_used, reason = "a test that fails is to stop there")]

mod common;

use common::{Client, PATIENCE, address, masked, run, upgrade_request, workers};
use picows_uring::{
    Connect, EchoListener, Frame, FrameHead, Listener, ListenerResult, Message, MessageListener,
    Messages, MsgType, Transport, Upgrade, spawn,
};
use picows_uring_proto::{HeadLimits, UpgradeRequest, encode_switching_protocols};
use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Takes messages and says nothing.
struct Silent;

impl MessageListener for Silent {
    fn on_message(&mut self, _: &Transport, _: Message<'_>) -> ListenerResult {
        Ok(())
    }
}

/// Frames that cost their sender next to nothing.
#[derive(Clone, Copy, Debug)]
enum Flood {
    EmptyFragments,
    Pings,
}

const FLOODS: [Flood; 2] = [Flood::EmptyFragments, Flood::Pings];
/// How many frames a flood has at least: it goes on until its victims are done.
const FLOOD_FRAMES_MIN: usize = if cfg!(debug_assertions) { 50_000 } else { 2_000_000 };
/// How often a victim is heard while the flood goes on.
const ROUNDS: u32 = if cfg!(debug_assertions) { 3 } else { 20 };

impl Flood {
    /// Frames that go on and on after [`begin`](Self::begin), and how many there are.
    fn chunk(self, is_client: bool) -> (Vec<u8>, usize) {
        let head = match self {
            Self::EmptyFragments => FrameHead::new(MsgType::Continuation).with_fin(false),
            Self::Pings => FrameHead::new(MsgType::Ping),
        };
        let count = 10_000;
        (frame(head, b"", is_client).repeat(count), count)
    }

    fn begin(self, is_client: bool) -> Vec<u8> {
        match self {
            Self::EmptyFragments => {
                frame(FrameHead::new(MsgType::Text).with_fin(false), b"", is_client)
            }
            Self::Pings => vec![],
        }
    }

    /// Writes until `is_over`, and meanwhile reads what comes back.
    fn run(self, mut stream: TcpStream, is_client: bool, is_over: &AtomicBool) -> usize {
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        let mut answers = stream.try_clone().unwrap();
        let reader = std::thread::spawn(move || {
            let mut buffer = vec![0; 1 << 16];
            while let Ok(1..) = answers.read(&mut buffer) {}
        });
        stream.write_all(&self.begin(is_client)).unwrap();
        let (chunk, count) = self.chunk(is_client);
        let mut sent = 0;
        while sent < FLOOD_FRAMES_MIN || !is_over.load(Ordering::Relaxed) {
            stream.write_all(&chunk).unwrap();
            sent += count;
        }
        drop(stream.shutdown(std::net::Shutdown::Both));
        reader.join().unwrap();
        sent
    }
}

/// Ends a flood when it is dropped, also if its victim has failed.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn frame(head: FrameHead, payload: &[u8], is_client: bool) -> Vec<u8> {
    if is_client {
        return masked(head, payload);
    }
    let mut out = Vec::new();
    head.append(&mut out, payload, None);
    out
}

/// Without optimization, a full receive buffer of two-byte frames takes seconds: gives the flood a
/// smaller one.
fn slow_down(socket: BorrowedFd<'_>) -> std::io::Result<()> {
    if cfg!(debug_assertions) {
        rustix::net::sockopt::set_socket_recv_buffer_size(socket, 32 * 1024)?;
    }
    Ok(())
}

/// A server that sends `behind` with its answer, and then does as it likes with the connection.
fn raw_server(
    behind: Vec<u8>,
    then: impl FnOnce(TcpStream) + Send + 'static,
) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let (mut request, mut byte) = (Vec::new(), [0]);
        let parsed = loop {
            stream.read_exact(&mut byte).unwrap();
            request.push(byte[0]);
            let parsed = UpgradeRequest::parse(&request, &HeadLimits::default()).unwrap();
            if let Some((parsed, _)) = parsed {
                break parsed;
            }
        };
        let mut answer = Vec::new();
        let accept = parsed.validate_upgrade().unwrap();
        encode_switching_protocols(&mut answer, &accept, None, &http::HeaderMap::new());
        answer.extend(behind);
        stream.write_all(&answer).unwrap();
        then(stream);
    });
    (url, server)
}

#[test]
fn a_flood_of_frames_does_not_keep_the_server_from_its_other_clients() {
    // One worker: the flood and its victim share it.
    let flooded = TcpListener::bind("127.0.0.1:0").unwrap();
    slow_down(flooded.as_fd()).unwrap();
    let server = workers(1)
        .listen_socket(flooded.try_clone().unwrap())
        .start(|request| {
            if request.path() == "/flood" {
                return Upgrade::accept(Messages::new(Silent));
            }
            Upgrade::accept(EchoListener)
        })
        .unwrap();
    let flooded = flooded.local_addr().unwrap();
    for flood in FLOODS {
        let is_over = AtomicBool::new(false);
        let end = End(&is_over);
        let mut victim = Client::upgrade(address(&server));
        let mut stream = TcpStream::connect(flooded).unwrap();
        stream.write_all(upgrade_request("/flood", "").as_bytes()).unwrap();
        std::thread::scope(|scope| {
            let sender = scope.spawn(|| flood.run(stream, true, &is_over));
            for round in 0..ROUNDS {
                victim.echo(&round.to_le_bytes());
            }
            drop(end);
            assert!(sender.join().unwrap() >= FLOOD_FRAMES_MIN, "{flood:?}");
        });
    }
    let stats = server.stop().unwrap();
    assert_eq!((stats.protocol_errors, stats.listener_errors), (0, 0));
}

/// Echoes to itself over a server, a number of times.
struct Rounds(u32);

impl Listener for Rounds {
    fn on_connected(&mut self, transport: &Transport) -> ListenerResult {
        transport.send_text("round");
        Ok(())
    }

    fn on_frame(&mut self, transport: &Transport, frame: &Frame<'_>) -> ListenerResult {
        if frame.msg_type() == MsgType::Text {
            self.0 -= 1;
            if self.0 == 0 {
                transport.disconnect();
            } else {
                transport.send_text("round");
            }
        }
        Ok(())
    }
}

#[test]
fn a_flood_of_frames_does_not_keep_the_client_from_its_other_servers() {
    let echo = workers(1).start(|_| Upgrade::accept(EchoListener)).unwrap();
    for flood in FLOODS {
        static IS_OVER: AtomicBool = AtomicBool::new(false);
        IS_OVER.store(false, Ordering::Relaxed);
        let (url, flooder) = raw_server(vec![], move |stream| {
            assert!(flood.run(stream, false, &IS_OVER) >= FLOOD_FRAMES_MIN);
        });
        let echo_url = echo.addresses()[0].to_string();
        run(async move {
            let connect = Connect::new(url).socket_hook(slow_down);
            let flooded = connect.connect(Messages::new(Silent)).await.unwrap();
            let rounds = Rc::new(RefCell::new(Rounds(ROUNDS)));
            let victim = Connect::new(echo_url).connect(Rc::clone(&rounds)).await.unwrap();
            victim.wait_disconnected().await.unwrap();
            assert_eq!(rounds.borrow().0, 0);
            IS_OVER.store(true, Ordering::Relaxed);
            // A task beside the data path is served, too.
            assert_eq!(spawn(async { 1 }).unwrap().await, Ok(1));
            flooded.wait_disconnected().await.unwrap();
        })
        .unwrap();
        flooder.join().unwrap();
    }
    echo.stop().unwrap();
}

/// Takes its time with every thousandth frame, and writes down how often a task has run by then.
struct Dawdler {
    frames: usize,
    runs: Rc<Cell<u32>>,
    seen: Rc<RefCell<Vec<u32>>>,
}

impl Listener for Dawdler {
    fn on_frame(&mut self, _: &Transport, _: &Frame<'_>) -> ListenerResult {
        self.frames += 1;
        if self.frames.is_multiple_of(1000) {
            // What blocks is the listener: no test waits here.
            std::thread::sleep(Duration::from_millis(2));
            self.seen.borrow_mut().push(self.runs.get());
        }
        Ok(())
    }
}

#[test]
fn tasks_run_between_long_turns() {
    let (url, server) = raw_server([&b"\x82\x00".repeat(100_000)[..], b"\x88\x00"].concat(), drop);
    let (runs, seen) = (Rc::<Cell<u32>>::default(), Rc::<RefCell<Vec<u32>>>::default());
    let listener = Dawdler { frames: 0, runs: Rc::clone(&runs), seen: Rc::clone(&seen) };
    run(async move {
        let task = spawn(async move {
            loop {
                runs.set(runs.get() + 1);
                tokio::task::yield_now().await;
            }
        });
        let transport = Connect::new(url).connect(listener).await.unwrap();
        transport.wait_disconnected().await.unwrap();
        drop(task);
    })
    .unwrap();
    server.join().unwrap();
    let mut seen = seen.take();
    assert_eq!(seen.len(), 100);
    // A turn has a thousand frames. Between busy turns that are short, it is every sixteenth time.
    seen.dedup();
    assert!(seen.len() > 30, "{seen:?}");
}

/// Keeps what comes, and leaves with the first CLOSE.
#[derive(Default)]
struct Keep(Vec<(MsgType, Vec<u8>)>);

impl Listener for Keep {
    fn on_frame(&mut self, _: &Transport, frame: &Frame<'_>) -> ListenerResult {
        self.0.push((frame.msg_type(), frame.payload().to_vec()));
        Ok(())
    }
}

/// What our client hears of a server that says `behind` with its answer.
fn heard_behind_the_answer(behind: Vec<u8>) -> Vec<(MsgType, Vec<u8>)> {
    let (url, server) = raw_server(behind, |mut stream| {
        // Until the client has answered CLOSE.
        let mut answer = [0; 8];
        stream.read_exact(&mut answer).unwrap();
    });
    let kept = Rc::new(RefCell::new(Keep::default()));
    let listener = Rc::clone(&kept);
    run(async move {
        let transport = Connect::new(url).connect(listener).await.unwrap();
        transport.wait_disconnected().await.unwrap();
        assert!(transport.close_handshake().is_complete());
    })
    .unwrap();
    server.join().unwrap();
    kept.take().0
}

#[test]
fn frames_glued_to_the_answer_are_not_lost() {
    let text = frame(FrameHead::new(MsgType::Text), b"first", false);
    let close = b"\x88\x02\x03\xe8";
    let heard = heard_behind_the_answer([&text[..], close].concat());
    let want = [(MsgType::Text, b"first".to_vec()), (MsgType::Close, b"\x03\xe8".to_vec())];
    assert_eq!(heard, want);
}

#[test]
fn frames_after_the_servers_close_are_ignored_rfc6455_1_4() {
    let late = frame(FrameHead::new(MsgType::Text), b"late", false);
    let heard = heard_behind_the_answer([b"\x88\x02\x03\xe8", &late[..], b"\xff\xff"].concat());
    assert_eq!(heard, [(MsgType::Close, b"\x03\xe8".to_vec())]);
}
