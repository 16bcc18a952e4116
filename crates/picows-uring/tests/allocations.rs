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

    /// The worker allocates nothing while `work` is done again and again, `bytes` each time.
    ///
    /// Before that it may take the memory that it then keeps. How much that is depends on what
    /// arrives together, so a first round of a kind may come late; what a message costs does not
    /// go away.
    #[track_caller]
    fn assert_settles(
        &self,
        what: &str,
        bytes: usize,
        client: &mut Client,
        mut work: impl FnMut(&mut Client),
    ) {
        let rounds = (BYTES_PER_WINDOW / bytes.max(1)).clamp(5, 200);
        let mut calls = Vec::new();
        while calls.len() < WINDOWS_MAX {
            let before = self.mark(client);
            (0..rounds).for_each(|_| work(client));
            calls.push(self.mark(client) - before);
            if calls.last() == Some(&0) {
                return;
            }
        }
        panic!("{what}: allocations in {rounds} rounds, one time after the other: {calls:?}");
    }
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
            counted.assert_settles(&format!("{size} bytes"), size, &mut client, |client| {
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
            counted.assert_settles(&what, burst.len(), &mut client, |client| {
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
        let bytes = size * CONNECTIONS;
        counted.assert_settles(&format!("{size} bytes"), bytes, &mut first, |_| {
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
        counted.assert_settles(&what, size * PER_REQUEST, &mut counted.client(), |client| {
            client.send(MsgType::Binary, b"more");
            (0..PER_REQUEST).for_each(|_| assert_eq!(client.receive().payload.len(), size));
        });
    }
}

#[test]
fn pings_allocate_nothing() {
    let counted = Counted::echo(workers(1));
    counted.assert_settles("a ping", 14, &mut counted.client(), |client| {
        client.send(MsgType::Ping, b"are you there?");
        assert_eq!(client.receive(), Got::new(MsgType::Pong, b"are you there?"));
    });
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

const MARK: &[u8] = b"how many now?";
/// A receive buffer is filled more than once, so that frames are cut by its end.
const BYTES_PER_WINDOW: usize = 2 * 1024 * 1024;
/// As many as a busy machine may need: what a message costs comes back in each.
const WINDOWS_MAX: usize = 100;
const CONNECTIONS: usize = 16;
const PER_REQUEST: usize = 40;
