//! Memory of subscribers that do not read: each holds references, and little else.

#![allow(clippy::unwrap_used, reason = "a test that fails is to stop there")]

mod common;

use common::{Client, Got, PATIENCE, address, masked, on_frame};
use picows_uring::topics::{Hub, Post, SlowPolicy, SubscribeOptions};
use picows_uring::{FrameHead, MsgType, Server, ServerHandle, Upgrade};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicIsize, Ordering};
use std::time::Instant;

thread_local! {
    /// Bytes that this thread has allocated, without those that it has freed.
    static HELD: Cell<isize> = const { Cell::new(0) };
}

/// The system's allocator, and a tally.
struct Counting;

fn count(size: usize, sign: isize) {
    // What glibc makes of it: a word in front, in steps of two words, four at the least.
    let block = (size + 8).next_multiple_of(16).max(32);
    HELD.set(HELD.get() + sign * block as isize);
}

// SAFETY: hands everything on to the system's allocator, as it came.
#[expect(unsafe_code, reason = "an allocator cannot be written without")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        // SAFETY: our caller keeps the rules of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(layout.size(), -1);
        // SAFETY: our caller keeps the rules of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(layout.size(), -1);
        count(size, 1);
        // SAFETY: our caller keeps the rules of `realloc`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A server with one worker that publishes what it receives, or says what its worker holds.
struct Place {
    server: ServerHandle,
    hub: Hub,
    held: Arc<AtomicIsize>,
}

impl Place {
    /// Sockets take little, so that the kernel holds little and the server the rest.
    fn start(policy: SlowPolicy) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        rustix::net::sockopt::set_socket_send_buffer_size(&listener, 4096).unwrap();
        rustix::net::sockopt::set_socket_recv_buffer_size(&listener, 4096).unwrap();
        let (hub, held) = (Hub::new(), Arc::<AtomicIsize>::default());
        let (its_hub, its_held) = (hub.clone(), Arc::clone(&held));
        let server =
            Server::builder().workers(1).listen(OwnedFd::from(listener)).start(move |_: &_| {
                let (hub, held) = (its_hub.clone(), Arc::clone(&its_held));
                Upgrade::accept(on_frame(move |transport, frame| {
                    match frame.payload() {
                        b"subscribe" => {
                            let options = SubscribeOptions::new().policy(policy);
                            hub.subscribe(transport, "t", options)?.keep();
                        }
                        b"publish" => drop(hub.publish("t", Post::binary(vec![7; 1024]))?),
                        _ => held.store(HELD.get(), Ordering::SeqCst),
                    }
                    transport.send(MsgType::Text, b"done");
                    Ok(())
                }))
            });
        Self { server: server.unwrap(), hub, held }
    }

    fn held(&self, control: &mut Client) -> isize {
        ask(control, b"how much?");
        self.held.load(Ordering::SeqCst)
    }
}

/// A connection that subscribes, and then reads nothing.
fn subscriber(place: &Place) -> TcpStream {
    let mut stream = TcpStream::connect(address(&place.server)).unwrap();
    rustix::net::sockopt::set_socket_recv_buffer_size(&stream, 4096).unwrap();
    let request = "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    let wanted = masked(FrameHead::new(MsgType::Text), b"subscribe");
    stream.write_all(&[request.as_bytes(), &wanted].concat()).unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"done") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        answer.extend(byte);
    }
    stream
}

fn ask(client: &mut Client, what: &[u8]) {
    client.send(MsgType::Text, what);
    assert_eq!(client.receive(), Got::new(MsgType::Text, b"done"));
}

/// Bytes of memory for each of many subscribers when all hold back as many publications as they may.
fn bytes_of_each(policy: SlowPolicy, publications: usize) -> isize {
    let place = Place::start(policy);
    let mut control = Client::upgrade(address(&place.server));
    let subscribers: Vec<_> = (0..COUNT).map(|_| subscriber(&place)).collect();
    // What a worker keeps for as many sends at a time is not theirs.
    for _ in 0..3 {
        ask(&mut control, b"publish");
    }
    let before = place.held(&mut control);
    let start = Instant::now();
    // All are behind, and nothing more comes of it.
    let mut behind = 0;
    while behind < publications {
        ask(&mut control, b"publish");
        behind += usize::from(place.hub.stats().behind == COUNT);
        assert!(start.elapsed() < PATIENCE, "{:?}", place.hub.stats());
    }
    let each = (place.held(&mut control) - before) / COUNT as isize;
    drop((control, subscribers));
    place.server.stop().unwrap();
    each
}

#[test]
fn the_latest_of_a_topic_costs_a_reference() {
    let each = bytes_of_each(SlowPolicy::latest(), 20);
    assert!(each <= 200, "{each} bytes for each subscriber that holds one");
}

/// So that vectors of all connections are nearly full, and few of them.
const COUNT: usize = 250;
