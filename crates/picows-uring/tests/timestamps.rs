//! Receive timestamps of the kernel, as listeners see them.

#![allow(clippy::unwrap_used, reason = "a test that fails is to stop there")]

mod common;

use common::{Client, SocketFolder, address, masked, noise, run, workers};
use picows_uring::{
    Connect, EchoListener, Frame, FrameHead, Listener, ListenerResult, MsgType, Server,
    ServerHandle, Transport, Upgrade,
};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use std::cell::Cell;
use std::io::{IoSlice, Read};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

/// Counts frames with a timestamp and frames without, and sends the counts where it is asked for them.
#[derive(Default)]
struct Counting {
    stamped: u32,
    plain: u32,
    last: Option<SystemTime>,
}

impl Listener for Counting {
    fn on_frame(&mut self, transport: &Transport, frame: &Frame<'_>) -> ListenerResult {
        let received_at = transport.received_at();
        match received_at {
            Some(at) => {
                let now = SystemTime::now();
                assert!(at <= now + TOLERANCE && now <= at + PATIENCE, "{at:?} is not just now");
                let last = self.last.replace(at);
                assert!(last.is_none_or(|last| last <= at + TOLERANCE), "in order");
                self.stamped += 1;
            }
            None => self.plain += 1,
        }
        if frame.payload() == b"count" {
            transport.send_text(format!("{} {}", self.stamped, self.plain));
            (self.stamped, self.plain) = (0, 0);
        }
        Ok(())
    }
}

fn server(is_on: bool) -> ServerHandle {
    let builder = workers(1).receive_timestamps(is_on).max_frame_size(8 << 20);
    builder.start(|_| Upgrade::accept(Counting::default())).unwrap()
}

/// Asks for counts until the frame that asks has a timestamp: the kernel begins a moment after it was
/// asked to.
fn warm_up(client: &mut Client) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        client.send_text("count");
        if client.receive().payload == b"1 0" {
            return;
        }
        assert!(Instant::now() < deadline, "there is no timestamp");
    }
}

#[test]
fn every_frame_has_its_timestamp() {
    let server = server(true);
    let mut client = Client::upgrade(address(&server));
    warm_up(&mut client);
    // More than a turn handles, more than a few buffers hold, and more than a buffer in a frame.
    for (len, count) in [(10, 5000), (1000, 1000), (300_000, 5), (3 << 20, 1)] {
        let frame = masked(FrameHead::new(MsgType::Binary), &noise(7, len));
        let bytes = frame.repeat(count);
        let ask = masked(FrameHead::new(MsgType::Text), b"count");
        let got = client.exchange(&[bytes, ask].concat(), 1);
        assert_eq!(got[0].payload, format!("{} 0", count + 1).as_bytes(), "{len} bytes");
    }
    // A client that stays would be waited for.
    drop(client);
    let stats = server.stop().unwrap();
    assert_eq!(stats.protocol_errors, 0);
}

#[test]
fn without_the_setting_there_is_no_timestamp() {
    let (on, off) = (server(true), server(false));
    // The kernel takes the time of everything by then.
    let mut other = Client::upgrade(address(&on));
    warm_up(&mut other);
    let mut client = Client::upgrade(address(&off));
    for _ in 0..10 {
        client.send_text("count");
        assert_eq!(client.receive().payload, b"0 1");
    }
}

/// Sends until an echo has a timestamp.
struct Asking(Rc<Cell<bool>>);

impl Listener for Asking {
    fn on_connected(&mut self, transport: &Transport) -> ListenerResult {
        transport.send_text("hello");
        Ok(())
    }

    fn on_frame(&mut self, transport: &Transport, frame: &Frame<'_>) -> ListenerResult {
        if transport.received_at().is_some() {
            self.0.set(true);
            transport.disconnect();
        } else if frame.msg_type() == MsgType::Text {
            transport.send_text("hello");
        }
        Ok(())
    }
}

#[test]
fn a_client_has_timestamps_in_callbacks_and_nowhere_else() {
    if common::is_over_tls() {
        return;
    }
    let server = workers(1).start(|_| Upgrade::accept(EchoListener)).unwrap();
    let url = format!("ws://{}/", address(&server));
    run(async move {
        let is_stamped = Rc::new(Cell::new(false));
        let connect = Connect::new(url).receive_timestamps(true);
        let transport = connect.connect(Asking(Rc::clone(&is_stamped))).await.unwrap();
        assert_eq!(transport.received_at(), None);
        transport.wait_disconnected().await.unwrap();
        assert!(is_stamped.get());
        assert_eq!(transport.received_at(), None);
    })
    .unwrap();
}

#[test]
fn descriptors_that_come_through_a_unix_socket_are_not_taken() {
    if common::is_over_tls() {
        return;
    }
    let folder = SocketFolder::new("timestamps");
    let path = folder.socket();
    let builder = Server::builder().listen(format!("unix:{}", path.display())).workers(1);
    let echo = |_: &_| Upgrade::accept(EchoListener);
    let _server = builder.receive_timestamps(true).start(echo).unwrap();
    let mut client = UnixStream::connect(&path).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let (passed, mut other) = UnixStream::pair().unwrap();
    let request = b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
        Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors = [passed.as_fd()];
    assert!(ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)));
    let parts = [IoSlice::new(request)];
    let sent = sendmsg(&client, &parts, &mut ancillary, SendFlags::empty()).unwrap();
    assert_eq!(sent, request.len());
    let mut answer = [0; 12];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 101");
    // It was received, so the kernel has closed it, if the server has not got it.
    drop(passed);
    other.set_nonblocking(true).unwrap();
    assert_eq!(other.read(&mut [0]).ok(), Some(0), "the server holds it");
}

const PATIENCE: Duration = Duration::from_secs(20);
/// The clock of the system may be set meanwhile, a little.
const TOLERANCE: Duration = Duration::from_secs(2);
