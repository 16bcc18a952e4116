//! A message costs no allocation, once as many have passed as memory is wanted for.

mod common;

use bytes::Bytes;
use common::{Client, Got, address, masked, noise, on_frame, workers};
use picows_uring::{
    FrameHead, Listener, MsgType, SendStatus, ServerBuilder, ServerHandle, Upgrade,
};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

thread_local! {
    /// Allocations of this thread.
    static CALLS: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, and a tally.
struct Counting;

// SAFETY: hands everything on to the system's allocator, as it came.
#[expect(unsafe_code, reason = "an allocator cannot be written without")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.set(CALLS.get() + 1);
        // SAFETY: our caller keeps the rules of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: our caller keeps the rules of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        CALLS.set(CALLS.get() + 1);
        // SAFETY: our caller keeps the rules of `realloc`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A server with one worker, and what that has allocated when it last saw a mark.
struct Counted {
    server: ServerHandle,
    calls: Arc<AtomicUsize>,
}

impl Counted {
    /// `answer` deals with every frame but the marks.
    fn start<L: Listener + 'static>(
        builder: ServerBuilder,
        listener: impl Fn() -> L + Send + Sync + 'static,
    ) -> Self {
        let calls = Arc::new(AtomicUsize::new(0));
        let told = Arc::clone(&calls);
        let server = builder
            .start(move |_| {
                let (told, mut answer) = (Arc::clone(&told), listener());
                Upgrade::accept(on_frame(move |transport, frame| {
                    if frame.payload() == MARK {
                        told.store(CALLS.get(), Ordering::SeqCst);
                        transport.send(MsgType::Text, MARK);
                        return Ok(());
                    }
                    answer.on_frame(transport, frame)
                }))
            })
            .expect("it starts");
        Self { server, calls }
    }

    fn echo(builder: ServerBuilder) -> Self {
        Self::start(builder, || picows_uring::EchoListener)
    }

    fn client(&self) -> Client {
        Client::upgrade(address(&self.server))
    }

    /// What the worker has allocated by the time it sees a mark.
    fn mark(&self, client: &mut Client) -> usize {
        client.send(MsgType::Text, MARK);
        assert_eq!(client.receive(), Got::new(MsgType::Text, MARK));
        self.calls.load(Ordering::SeqCst)
    }

    /// The worker allocates nothing while `work` is done again and again.
    #[track_caller]
    fn assert_settles(
        &self,
        what: &str,
        round: Round,
        client: &mut Client,
        work: impl FnMut(&mut Client),
    ) {
        if let Err(calls) = self.settle(round, client, work) {
            panic!("{what}: allocations in one window after the other: {calls:?}");
        }
    }

    /// Waits for windows in a row in which the worker allocates nothing: what it allocated in each
    /// instead, if they do not come.
    ///
    /// Before that it may take the memory that it then keeps. How much that is depends on what
    /// arrives together, so a first round of a kind may come late; what a message costs does not
    /// go away.
    fn settle(
        &self,
        round: Round,
        client: &mut Client,
        mut work: impl FnMut(&mut Client),
    ) -> Result<(), Vec<usize>> {
        let Round { messages, bytes } = round;
        let rounds_min = MESSAGES_PER_WINDOW_MIN.div_ceil(messages).max(5);
        let rounds = (BYTES_PER_WINDOW / bytes.max(1)).clamp(rounds_min, 200);
        let mut calls = Vec::new();
        while calls.len() < WINDOWS_MAX {
            let before = self.mark(client);
            (0..rounds).for_each(|_| work(client));
            calls.push(self.mark(client) - before);
            if calls.ends_with(&[0; CLEAN_WINDOWS]) {
                return Ok(());
            }
        }
        Err(calls)
    }
}

/// What is done at a time.
#[derive(Clone, Copy)]
struct Round {
    messages: usize,
    bytes: usize,
}

fn both_ways_of_waiting() -> [ServerBuilder; 2] {
    [workers(1), workers(1).dedicated(true)]
}

#[test]
fn echoes_of_every_size_allocate_nothing() {
    for builder in both_ways_of_waiting() {
        let counted = Counted::echo(builder);
        let mut client = counted.client();
        for size in [0, 32, 256, 1024, 16 * 1024, 100_000, 1 << 20] {
            let payload = noise(size as u64, size);
            let frame = masked(FrameHead::new(MsgType::Binary), &payload);
            let round = Round { messages: 1, bytes: size };
            counted.assert_settles(&format!("{size} bytes"), round, &mut client, |client| {
                let got = client.exchange(&frame, 1);
                assert_eq!(got, [Got::new(MsgType::Binary, &payload[..])]);
            });
        }
    }
}

#[test]
fn pipelined_bursts_allocate_nothing() {
    for builder in both_ways_of_waiting() {
        let counted = Counted::echo(builder);
        let mut client = counted.client();
        for (size, frames) in [(32, 64), (256, 16), (256, 1000), (20_000, 20)] {
            let payload = noise(size as u64, size);
            let burst = masked(FrameHead::new(MsgType::Binary), &payload).repeat(frames);
            let what = format!("{frames} x {size} bytes");
            let round = Round { messages: frames, bytes: burst.len() };
            counted.assert_settles(&what, round, &mut client, |client| {
                assert_eq!(client.exchange(&burst, frames).len(), frames);
            });
        }
    }
}

#[test]
fn many_connections_with_large_frames_allocate_nothing() {
    let counted = Counted::echo(workers(1));
    let mut clients: Vec<Client> = (0..CONNECTIONS).map(|_| counted.client()).collect();
    let mut first = counted.client();
    for size in [256, 16 * 1024, 100_000] {
        let payload = noise(size as u64, size);
        let frame = masked(FrameHead::new(MsgType::Binary), &payload);
        let (half, rest) = frame.split_at(frame.len() / 2);
        let round = Round { messages: CONNECTIONS, bytes: size * CONNECTIONS };
        counted.assert_settles(&format!("{size} bytes"), round, &mut first, |_| {
            // All of them are in the middle of a frame at the same time.
            for part in [half, rest] {
                clients.iter_mut().for_each(|client| client.write(part));
            }
            for client in &mut clients {
                assert_eq!(client.receive().payload.len(), size);
            }
        });
    }
}

#[test]
fn payloads_kept_by_reference_allocate_nothing() {
    for size in [100, 2000, 100_000] {
        let shared = Bytes::from(noise(size as u64, size));
        let counted = Counted::start(workers(1), move || {
            let shared = shared.clone();
            on_frame(move |transport, _| {
                for _ in 0..PER_REQUEST {
                    let sent = transport.send_bytes(FrameHead::new(MsgType::Binary), &shared);
                    assert!(matches!(sent, SendStatus::Queued | SendStatus::Congested));
                }
                Ok(())
            })
        });
        let what = format!("{size} bytes");
        let round = Round { messages: PER_REQUEST, bytes: size * PER_REQUEST };
        counted.assert_settles(&what, round, &mut counted.client(), |client| {
            client.send(MsgType::Binary, b"more");
            (0..PER_REQUEST).for_each(|_| assert_eq!(client.receive().payload.len(), size));
        });
    }
}

#[test]
fn pings_allocate_nothing() {
    let counted = Counted::echo(workers(1));
    let round = Round { messages: 1, bytes: 14 };
    counted.assert_settles("a ping", round, &mut counted.client(), |client| {
        client.send(MsgType::Ping, b"are you there?");
        assert_eq!(client.receive(), Got::new(MsgType::Pong, b"are you there?"));
    });
}

/// Messages of one frame and of three, with a history both ways and without.
#[cfg(feature = "deflate")]
#[test]
fn compressed_messages_allocate_nothing() {
    use picows_uring::{Deflate, NegotiatedDeflate};
    use picows_uring_proto::{Compressed, Compression, Deflaters};
    const OFFER: &str = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";
    for takeover in [true, false] {
        let settings = Deflate::new().context_takeover(takeover).peer_context_takeover(takeover);
        let counted = Counted::echo(workers(1).deflate(settings.threshold(64)));
        let mut client = Client::connect(address(&counted.server));
        let answer = client.ask("/", OFFER);
        let answer = answer.header("Sec-WebSocket-Extensions").expect("it agrees").to_owned();
        let agreed = agreed(&settings, &answer);
        let (mut compression, mut deflaters) =
            (Compression::new(&settings.threshold(0), &agreed), Deflaters::new(1));
        let mut compressed = move |head: FrameHead, text: &[u8]| match compression
            .compress(&mut deflaters, head, text)
            .expect("memory")
        {
            Compressed::Plain => masked(head, text),
            Compressed::Frame(head, data) => masked(head, data),
        };
        for size in [100, 1000, 20_000] {
            let text: String = (0..).map(|number| format!("quote {number}, ")).take(size).collect();
            let text = &text.as_bytes()[..size];
            let round = Round { messages: 2, bytes: 2 * size };
            counted.assert_settles(&format!("{size} bytes"), round, &mut client, |client| {
                client.write(&compressed(FrameHead::new(MsgType::Text), text));
                assert_eq!(client.receive().head.rsv, 4);
                let (first, rest) = text.split_at(size / 3);
                let begun = FrameHead::new(MsgType::Text).with_fin(false);
                client.write(&compressed(begun, first));
                let next = FrameHead::new(MsgType::Continuation);
                client.write(&compressed(next.with_fin(false), b""));
                client.write(&compressed(next, rest));
                (0..3).for_each(|_| drop(client.receive()));
            });
        }
    }

    fn agreed(settings: &Deflate, answer: &str) -> NegotiatedDeflate {
        let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{OFFER}\r\n");
        let limits = picows_uring_proto::HeadLimits::default();
        let request = picows_uring_proto::UpgradeRequest::parse(head.as_bytes(), &limits);
        let (agreed, text) =
            settings.accept(&request.expect("a request").expect("whole").0).expect("an offer");
        assert_eq!(text, answer);
        // The windows are the same both ways; so is the rest.
        agreed
    }
}

#[test]
fn connections_among_messages_are_what_allocates() {
    // Shows that the tally is that of the worker.
    let counted = Counted::echo(workers(1));
    let mut client = counted.client();
    let before = counted.mark(&mut client);
    drop(counted.client());
    assert!(counted.mark(&mut client) > before);
}

#[test]
fn messages_that_allocate_now_and_then_do_not_settle() {
    let counted = Counted::start(workers(1), || {
        let mut random = noise(3, 1 << 14).into_iter().cycle();
        on_frame(move |transport, frame| {
            // Three of five: five in a row that do not are among them.
            if random.next().is_some_and(|byte| byte < 154) {
                std::hint::black_box(Box::new(0_u8));
            }
            transport.send(MsgType::Text, frame.payload());
            Ok(())
        })
    });
    // As many rounds as of large messages, which are fewest.
    let round = Round { messages: 1, bytes: 1 << 20 };
    let calls = counted.settle(round, &mut counted.client(), |client| {
        client.send(MsgType::Text, b"small");
        client.expect_text("small");
    });
    let calls = calls.expect_err("it never settles");
    assert_eq!(calls.len(), WINDOWS_MAX);
}

const MARK: &[u8] = b"how many now?";
/// A receive buffer is filled more than once, so that frames are cut by its end.
const BYTES_PER_WINDOW: usize = 2 * 1024 * 1024;
/// So that what one message in many allocates shows in each.
const MESSAGES_PER_WINDOW_MIN: usize = 100;
/// In a row: one may be clean by chance.
const CLEAN_WINDOWS: usize = 3;
/// As many as a busy machine may need: what a message costs comes back in each.
const WINDOWS_MAX: usize = 100;
const CONNECTIONS: usize = 16;
const PER_REQUEST: usize = 40;
