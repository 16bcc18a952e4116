//! A NATS server of a test's own, nodes that share it, and subscribers of the nodes.

#![allow(clippy::print_stderr, reason = "a test that is skipped says so")]
#![allow(dead_code, unreachable_pub, reason = "each test program uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test that fails is to stop there")]

use picows_uring::topics::{
    Hub, HubBuilder, Position, Post, Recovery, SlowPolicy, Start, SubscribeOptions,
};
use picows_uring::{
    Frame, Listener, ListenerResult, Server, ServerBuilder, ServerHandle, Transport, Upgrade,
    UpgradeRequest, WorkerInfo,
};
use picows_uring_nats::{NatsBus, NatsBusBuilder, NatsStatus};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Longest wait; only a failure reaches it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Whether there is a `nats-server`; without one a test is skipped, but fails where CI=true.
pub fn has_server() -> bool {
    let found = Command::new("nats-server").arg("--version").stdout(Stdio::null()).status().is_ok();
    let is_ci = std::env::var("CI").is_ok_and(|value| value == "true");
    assert!(found || !is_ci, "nats-server cannot be had: run scripts/test-nats, which installs it");
    if !found {
        eprintln!("nats-server cannot be had: skipped (scripts/test-nats installs it)");
    }
    found
}

/// A `nats-server` in a folder of its own.
pub struct Nats {
    child: Option<Child>,
    folder: PathBuf,
    flags: Vec<String>,
    pub port: u16,
}

impl Nats {
    /// Starts one on a port that it finds itself.
    pub fn start(flags: &[&str]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = format!("picows-nats-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(folder);
        std::fs::create_dir_all(&folder).unwrap();
        let flags = flags.iter().map(ToString::to_string).collect();
        let mut nats = Self { child: None, folder, flags, port: 0 };
        nats.run();
        nats
    }

    /// Starts it, on the port that it had before, if any.
    pub fn run(&mut self) {
        let port = if self.port == 0 { "-1".to_owned() } else { self.port.to_string() };
        let folder = self.folder.to_str().unwrap();
        let child = Command::new("nats-server")
            .args(["-a", "127.0.0.1", "-p", &port, "--ports_file_dir", folder, "-sd", folder])
            .args(&self.flags)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let file = self.folder.join(format!("nats-server_{}.ports", child.id()));
        self.child = Some(child);
        self.port = eventually("the server writes its ports", || port_in(&file));
    }

    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(self.child.as_ref().unwrap()), signal).unwrap();
    }

    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// The port in `{"nats":["nats://127.0.0.1:4222"],…}`.
pub fn port_in(file: &Path) -> Option<u16> {
    let text = std::fs::read_to_string(file).ok()?;
    let (_, rest) = text.split_once("nats://127.0.0.1:")?;
    rest.split('"').next()?.parse().ok()
}

/// Waits until `check` yields something.
pub fn eventually<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "{what}");
        // Bounds the polling; no result depends on it.
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A process of the system, as it were: a hub, its bus and a server.
pub struct Node {
    pub hub: Hub,
    pub bus: Arc<NatsBus>,
    server: ServerHandle,
}

impl Node {
    pub fn start(url: &str) -> Self {
        Self::with(url, Hub::builder(), |builder| builder)
    }

    pub fn with(
        url: &str,
        hub: HubBuilder,
        set_up: impl FnOnce(NatsBusBuilder) -> NatsBusBuilder,
    ) -> Self {
        let hub = hub.build().unwrap();
        let options = NatsBus::connect_options()
            .reconnect_delay_callback(|_| Duration::from_millis(20))
            .connection_timeout(Duration::from_secs(2));
        let bus = set_up(NatsBus::builder(url).options(options)).build().unwrap();
        hub.attach(bus.clone()).unwrap();
        let server = serve(&hub, Server::builder().workers(1), |_| {});
        Self { hub, bus, server }
    }

    /// One whose bus is served by the worker of its server, which `set_up` changes.
    pub fn on_worker(url: &str, set_up: impl FnOnce(ServerBuilder) -> ServerBuilder) -> Self {
        let (hub, bus) = (Hub::new(), NatsBus::builder(url).on_worker().build().unwrap());
        hub.attach(bus.clone()).unwrap();
        let guest = bus.clone();
        let builder = set_up(Server::builder().workers(1));
        let server = serve(&hub, builder, move |_| guest.serve_here().unwrap());
        Self { hub, bus, server }
    }

    /// One whose bus is served by the worker of another server, which is returned.
    pub fn with_guest(
        url: &str,
        set_up: impl FnOnce(NatsBusBuilder) -> NatsBusBuilder,
    ) -> (Self, ServerHandle) {
        let node = Self::with(url, Hub::builder(), |builder| set_up(builder).on_worker());
        let guest = node.bus.clone();
        let builder = Server::builder().workers(1);
        let host = serve(&node.hub, builder, move |_| guest.serve_here().unwrap());
        (node, host)
    }

    pub fn connected(self) -> Self {
        assert!(self.bus.wait_connected(PATIENCE), "{}", self.bus.status());
        self
    }

    /// A subscriber of `target`: `/TOPIC`, with `?missed` to be notified of gaps instead of being closed,
    /// and `?from=E:O`.
    pub fn subscribe(&self, target: &str) -> Peer {
        // It is subscribed before the response leaves.
        Peer::connect(&self.server, target)
    }

    pub fn publish(&self, topic: &str, text: &str) {
        self.hub.publish(topic, Post::text(text.to_owned())).unwrap();
    }

    /// Publishes on this node until a subscriber of any node has one of them, so that the whole way is
    /// there, and takes all of them.
    pub fn reach(&self, topic: &str, peer: &mut Peer) {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        eventually("a publication gets through", || {
            self.publish(topic, "probe");
            peer.try_next(Duration::from_millis(20)).map(|message| {
                assert_eq!(message, Message::Text("probe".to_owned()));
            })
        });
        let mark = format!("mark {}", COUNT.fetch_add(1, Ordering::Relaxed));
        self.publish(topic, &mark);
        while peer.text() != mark {}
    }

    pub fn wait_status(&self, what: &str, check: impl Fn(&NatsStatus) -> bool) -> NatsStatus {
        eventually(what, || Some(self.bus.status()).filter(&check))
    }
}

/// Starts the server of a node. `begin` is called on the thread of each worker.
fn serve(
    hub: &Hub,
    builder: ServerBuilder,
    begin: impl Fn(WorkerInfo) + Send + Sync + 'static,
) -> ServerHandle {
    let hub = hub.clone();
    let start = move |worker: WorkerInfo| {
        begin(worker);
        let hub = hub.clone();
        move |request: &UpgradeRequest| {
            let (topic, query) = (request.path()[1..].to_owned(), request.query());
            let query = query.unwrap_or_default().to_owned();
            Upgrade::accept(Subscriber { hub: hub.clone(), topic, query })
        }
    };
    builder.listen("127.0.0.1:0").start_local(start).unwrap()
}

/// The listener of a node's server.
struct Subscriber {
    hub: Hub,
    topic: String,
    query: String,
}

impl Listener for Subscriber {
    fn on_connected(&mut self, transport: &Transport) -> ListenerResult {
        let mut options = SubscribeOptions::new().policy(SlowPolicy::close());
        if self.query == "missed" {
            options = options.on_missed(|transport, missed| {
                transport.send_text(format!("missed {}", missed.topic()));
            });
        }
        if let Some(position) = self.query.strip_prefix("from=") {
            let position: Position = position.parse().unwrap();
            options = options.start(Start::From(position)).on_start(|transport, recovery| {
                let text = match recovery {
                    Recovery::Recovered { count, .. } => format!("recovered {count}"),
                    Recovery::Lost { .. } => "lost".to_owned(),
                    _ => "new".to_owned(),
                };
                transport.send_text(&text);
            });
        }
        self.hub.subscribe(transport, &self.topic, options)?.keep();
        Ok(())
    }

    fn on_frame(&mut self, _: &Transport, _: &Frame<'_>) -> ListenerResult {
        Ok(())
    }
}

/// What a subscriber gets.
#[derive(Debug, PartialEq, Eq)]
pub enum Message {
    Text(String),
    Binary(Vec<u8>),
    Close(u16, String),
}

/// A minimal WebSocket client.
pub struct Peer(TcpStream);

impl Peer {
    fn connect(server: &ServerHandle, target: &str) -> Self {
        let mut stream = TcpStream::connect(server.local_addr().unwrap()).unwrap();
        let request = format!(
            "GET {target} HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
        Self(stream)
    }

    /// The next message, if one comes within `limit`.
    pub fn try_next(&mut self, limit: Duration) -> Option<Message> {
        self.0.set_read_timeout(Some(limit)).unwrap();
        let mut byte = [0];
        if self.0.peek(&mut byte).is_err() {
            return None;
        }
        Some(self.next())
    }

    /// The next message, of at most 64 KiB.
    pub fn next(&mut self) -> Message {
        self.0.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut head = [0; 2];
        self.0.read_exact(&mut head).unwrap();
        let mut length = usize::from(head[1]);
        if length == 126 {
            let mut long = [0; 2];
            self.0.read_exact(&mut long).unwrap();
            length = usize::from(u16::from_be_bytes(long));
        }
        let mut payload = vec![0; length];
        self.0.read_exact(&mut payload).unwrap();
        match head[0] {
            0x81 => Message::Text(String::from_utf8(payload).unwrap()),
            0x82 => Message::Binary(payload),
            0x88 => {
                let code = u16::from_be_bytes(payload[..2].try_into().unwrap());
                Message::Close(code, String::from_utf8(payload[2..].to_vec()).unwrap())
            }
            other => panic!("frame {other:x}"),
        }
    }

    /// The next message, which is text.
    pub fn text(&mut self) -> String {
        match self.next() {
            Message::Text(text) => text,
            other => panic!("{other:?}"),
        }
    }
}
