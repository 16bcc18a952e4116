//! Foreign code in values that an application hands out: errors that are formatted, and values
//! that are dropped. Whatever these do, they cost one connection at the most.

mod common;

use bytes::Bytes;
use common::{Client, address, eventually, on_frame, run, workers};
use http::{HeaderValue, header};
use picows_uring::{
    CloseCode, Connect, ConnectFault, EchoListener, Frame, FrameHead, IntoUpgrade, Listener,
    ListenerError, ListenerResult, MsgType, QueuePolicy, ServerBuilder, ServerHandle, Transport,
    Upgrade, UpgradeRequest, UpgradeResponse, WorkerState,
};
use std::cell::RefCell;
use std::fmt;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// A panic without a line of the panic hook.
fn bang() -> ! {
    resume_unwind(Box::new("on purpose"))
}

/// An error that misbehaves where its settings say so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hostile {
    DisplayPanics,
    DisplayFails,
    DisplayIsEndless,
    DropPanics,
}

const HOSTILE: [Hostile; 4] =
    [Hostile::DisplayPanics, Hostile::DisplayFails, Hostile::DisplayIsEndless, Hostile::DropPanics];

#[derive(Debug)]
struct HostileError(Hostile);

impl fmt::Display for HostileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Hostile::DisplayPanics => bang(),
            Hostile::DisplayFails => Err(fmt::Error),
            Hostile::DisplayIsEndless => loop {
                f.write_str("and so on ")?;
            },
            Hostile::DropPanics => f.write_str("plain"),
        }
    }
}

impl std::error::Error for HostileError {}

impl Drop for HostileError {
    fn drop(&mut self) {
        if self.0 == Hostile::DropPanics {
            bang();
        }
    }
}

/// The owner of a payload, whose `Drop` panics and is counted.
struct Owner {
    bytes: Vec<u8>,
    dropped: Arc<AtomicUsize>,
}

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.dropped.fetch_add(1, Ordering::SeqCst);
        bang();
    }
}

fn owned(len: usize, dropped: &Arc<AtomicUsize>) -> Bytes {
    Bytes::from_owner(Owner { bytes: vec![b'x'; len], dropped: Arc::clone(dropped) })
}

fn hosted_and_dedicated() -> [ServerBuilder; 2] {
    [workers(1), workers(1).dedicated(true)]
}

/// A server that echoes at `/echo`, with a client there, and asks `route` of any other path.
struct Served {
    server: ServerHandle,
    neighbour: Client,
}

impl Served {
    fn start<U: IntoUpgrade>(
        builder: ServerBuilder,
        route: impl Fn(&UpgradeRequest) -> U + Send + Sync + 'static,
    ) -> Self {
        let server = builder
            .start(move |request| match request.path() {
                "/echo" => Ok(Upgrade::accept(EchoListener)),
                _ => route(request).into_upgrade(),
            })
            .expect("it starts");
        let neighbour = Client::upgrade_at(address(&server), "/echo");
        Self { server, neighbour }
    }

    fn client(&self) -> Client {
        Client::upgrade_at(address(&self.server), "/hostile")
    }

    /// The neighbour on the same worker is served.
    #[track_caller]
    fn lives(&mut self) {
        self.neighbour.echo(b"still there?");
        let states: Vec<_> = self.server.monitor().workers().map(|worker| worker.state).collect();
        assert_eq!(states, [WorkerState::Running]);
    }

    /// The server ends without a failed worker.
    #[track_caller]
    fn stop(mut self) -> picows_uring::Stats {
        self.lives();
        drop(self.neighbour);
        // Some clients do not read, and are not waited for.
        self.server.stop_within(Duration::ZERO).expect("no worker has failed")
    }
}

/// Fails with such an error in a callback.
struct Fails {
    callback: &'static str,
    hostile: Hostile,
}

impl Fails {
    fn at(&self, callback: &str) -> ListenerResult {
        if callback == self.callback { Err(HostileError(self.hostile).into()) } else { Ok(()) }
    }
}

impl Listener for Fails {
    fn on_connected(&mut self, transport: &Transport) -> ListenerResult {
        transport.send_ping("?");
        self.at("on_connected")
    }

    fn on_frame(&mut self, _: &Transport, _: &Frame<'_>) -> ListenerResult {
        self.at("on_frame")
    }
}

#[test]
fn errors_that_misbehave_when_formatted_or_dropped_cost_their_connection() {
    for (dedicated, hostile) in
        [false, true].into_iter().flat_map(|it| HOSTILE.map(|that| (it, that)))
    {
        let builder = workers(1).dedicated(dedicated);
        let mut served = Served::start(builder, move |request| {
            let callback = match request.query() {
                Some("connected") => "on_connected",
                Some("frame") => "on_frame",
                _ => return Err(HostileError(hostile)),
            };
            Ok(Upgrade::accept(Fails { callback, hostile }))
        });
        let at = address(&served.server);
        let mut refused = Client::connect(at);
        assert_eq!(refused.ask("/", "").status, 500, "{hostile:?}");
        served.lives();
        let mut failing = Client::upgrade_at(at, "/?connected");
        assert_eq!(failing.receive().head.msg_type, MsgType::Ping);
        failing.expect_close(CloseCode::INTERNAL_ERROR, "");
        served.lives();
        let mut failing = Client::upgrade_at(at, "/?frame");
        assert_eq!(failing.receive().head.msg_type, MsgType::Ping);
        failing.send_text("fail");
        failing.expect_close(CloseCode::INTERNAL_ERROR, "");
        assert_eq!(served.stop().listener_errors, 3, "{hostile:?}");
    }
}

#[test]
fn errors_that_are_tolerated_may_misbehave_as_well() {
    for hostile in HOSTILE {
        let served = Served::start(workers(1).disconnect_on_error(false), move |_: &_| {
            Upgrade::accept(on_frame(move |transport, frame| {
                transport.send_like(frame, frame.payload());
                Err(HostileError(hostile).into())
            }))
        });
        let mut client = served.client();
        (0..3).for_each(|_| client.echo(b"it goes on"));
        assert_eq!(served.stop().listener_errors, 3, "{hostile:?}");
    }
}

#[test]
fn the_text_of_a_cause_is_bounded() {
    let (causes, told) = std::sync::mpsc::channel();
    struct Tells(std::sync::mpsc::Sender<String>);
    impl Listener for Tells {
        fn on_frame(&mut self, _: &Transport, _: &Frame<'_>) -> ListenerResult {
            Err(HostileError(Hostile::DisplayIsEndless).into())
        }
        fn on_disconnected(&mut self, transport: &Transport) {
            let _ = self.0.send(transport.disconnect_cause().unwrap().to_string());
        }
    }
    let served = Served::start(workers(1), move |_: &_| Upgrade::accept(Tells(causes.clone())));
    let mut client = served.client();
    client.send_text("fail");
    client.expect_close(CloseCode::INTERNAL_ERROR, "");
    let cause = common::next(&told);
    assert!(cause.starts_with("the listener failed: and so on and") && cause.len() < 5000);
    served.stop();
}

#[test]
fn payloads_whose_drop_panics_cost_nothing_when_they_were_sent() {
    for builder in hosted_and_dedicated() {
        let dropped = Arc::<AtomicUsize>::default();
        let counted = Arc::clone(&dropped);
        let served = Served::start(builder, move |_: &_| {
            let counted = Arc::clone(&counted);
            Upgrade::accept(on_frame(move |transport, _| {
                for len in [100, 5000, 300_000] {
                    transport.send_bytes(FrameHead::new(MsgType::Binary), &owned(len, &counted));
                }
                Ok(())
            }))
        });
        let mut client = served.client();
        client.send_text("send");
        // The short one is copied, and dropped in the callback, which that ends.
        assert_eq!(client.receive().payload.len(), 100);
        client.expect_close(CloseCode::INTERNAL_ERROR, "");
        assert_eq!(dropped.load(Ordering::SeqCst), 1);
        served.stop();
    }
    for builder in hosted_and_dedicated() {
        let dropped = Arc::<AtomicUsize>::default();
        let counted = Arc::clone(&dropped);
        let served = Served::start(builder, move |_: &_| {
            let payloads = [5000, 300_000].map(|len| owned(len, &counted));
            let mut payloads = payloads.into_iter();
            Upgrade::accept(on_frame(move |transport, _| {
                if let Some(payload) = payloads.next() {
                    transport.send_bytes(FrameHead::new(MsgType::Binary), &payload);
                    // Not dropped here, where it would be the callback that panics.
                    let remote = transport.remote();
                    remote.send(MsgType::Binary, payload)?;
                }
                Ok(())
            }))
        });
        let mut client = served.client();
        for len in [5000, 300_000] {
            client.send_text("send");
            (0..2).for_each(|_| assert_eq!(client.receive().payload.len(), len));
        }
        eventually(&served.server, "both are dropped", |stats| stats.stray_panics == 2);
        assert_eq!(dropped.load(Ordering::SeqCst), 2);
        assert_eq!(served.stop().listener_errors, 0);
    }
}

thread_local! {
    static KNOWN: RefCell<Vec<Transport>> = const { RefCell::new(Vec::new()) };
}

/// Asks its connection when it is dropped.
struct Asks(Vec<u8>);

impl AsRef<[u8]> for Asks {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Asks {
    fn drop(&mut self) {
        KNOWN.with_borrow(|known| {
            for transport in known {
                let _ = (transport.buffered_amount(), transport.send_text("one more"));
            }
        });
    }
}

/// Queues 20 MB of such payloads for each frame.
fn queues() -> impl Listener {
    on_frame(|transport, _| {
        KNOWN.set(vec![transport.clone()]);
        for _ in 0..500 {
            let payload = Bytes::from_owner(Asks(vec![1; 40_000]));
            transport.send_bytes(FrameHead::new(MsgType::Binary), &payload);
        }
        Ok(())
    })
}

/// A client that reads nothing, and has a send in flight and a queue behind it.
fn fill_queues(served: &Served) -> Client {
    let mut slow = served.client();
    for count in 1..=2 {
        slow.send_text("more");
        eventually(&served.server, "it is queued", |stats| stats.frames_sent >= 500 * count);
    }
    slow
}

#[test]
fn owners_that_ask_their_connection_may_be_dropped_with_its_queue() {
    for builder in hosted_and_dedicated() {
        let (remotes, made) = std::sync::mpsc::channel();
        let served = Served::start(builder, move |_: &_| {
            struct Known<L>(L, std::sync::mpsc::Sender<picows_uring::RemoteTransport>);
            impl<L: Listener> Listener for Known<L> {
                fn on_connected(&mut self, transport: &Transport) -> ListenerResult {
                    Ok(self.1.send(transport.remote())?)
                }
                fn on_frame(&mut self, transport: &Transport, frame: &Frame<'_>) -> ListenerResult {
                    self.0.on_frame(transport, frame)
                }
            }
            Upgrade::accept(Known(queues(), remotes.clone()))
        });
        let _slow = fill_queues(&served);
        common::next(&made).abort().unwrap();
        eventually(&served.server, "it is gone", |stats| stats.disconnected == 1);
        served.stop();
    }
}

#[test]
fn owners_that_ask_their_connection_may_be_dropped_when_the_server_stops() {
    for builder in hosted_and_dedicated() {
        let builder = builder.drain_timeout(Duration::from_millis(50));
        let mut served = Served::start(builder, |_: &_| Upgrade::accept(queues()));
        let _slow = fill_queues(&served);
        served.lives();
        served.server.stop().unwrap();
    }
}

#[test]
fn owners_that_ask_their_connection_may_make_room_for_others() {
    for builder in hosted_and_dedicated() {
        let builder = builder.max_queue_size(1 << 20, QueuePolicy::DropOldest);
        let served = Served::start(builder, |_: &_| Upgrade::accept(queues()));
        let _slow = fill_queues(&served);
        assert!(served.stop().frames_dropped > 900);
    }
}

#[test]
fn what_a_response_refers_to_may_panic_when_it_is_dropped() {
    for builder in hosted_and_dedicated() {
        let dropped = Arc::<AtomicUsize>::default();
        let counted = Arc::clone(&dropped);
        let mut served = Served::start(builder, move |request| {
            let value = || HeaderValue::from_maybe_shared(owned(20, &counted)).unwrap();
            let answer = match request.query() {
                Some("accept") => Upgrade::accept(EchoListener),
                _ => Upgrade::respond(UpgradeResponse::ok().with_body(owned(20, &counted))),
            };
            answer.with_header(header::SET_COOKIE, value()).with_header(header::SET_COOKIE, value())
        });
        let at = address(&served.server);
        Client::upgrade_at(at, "/?accept").echo(b"accepted");
        served.lives();
        assert_eq!(Client::connect(at).ask("/", "").body, "x".repeat(20));
        served.lives();
        // A listener for a request that is no upgrade.
        let mut plain = Client::connect(at);
        plain.write(b"GET /?accept HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(plain.response().status, 400);
        let stats = served.stop();
        assert_eq!((dropped.load(Ordering::SeqCst), stats.stray_panics), (7, 7));
    }
}

/// Panics when it is dropped, unless that is on the way out of another panic.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            bang();
        }
    }
}

impl Listener for Bomb {
    fn on_frame(&mut self, _: &Transport, _: &Frame<'_>) -> ListenerResult {
        Ok(())
    }
}

#[test]
fn a_factory_whose_drop_panics_ends_its_worker_as_any_other() {
    for builder in hosted_and_dedicated() {
        let bomb = Bomb;
        let served = Served::start(builder, move |_: &_| {
            let _ = &bomb;
            Upgrade::accept(EchoListener)
        });
        served.client().echo(b"as usual");
        served.stop();
    }
}

#[test]
fn what_outlives_the_worker_on_its_thread_holds_no_payload() {
    for builder in hosted_and_dedicated() {
        let dropped = Arc::<AtomicUsize>::default();
        let counted = Arc::clone(&dropped);
        let served = Served::start(builder, move |_: &_| {
            let payload = owned(40_000, &counted);
            Upgrade::accept(on_frame(move |transport, _| {
                // Kept until the thread ends, where a panic would end the process.
                KNOWN.set(vec![transport.clone()]);
                for _ in 0..1000 {
                    transport.send_bytes(FrameHead::new(MsgType::Binary), &payload);
                }
                Ok(())
            }))
        });
        let mut slow = served.client();
        slow.send_text("more");
        eventually(&served.server, "it is queued", |stats| stats.frames_sent >= 1000);
        let server = served.server;
        server.stop_within(Duration::ZERO).unwrap();
        assert_eq!(dropped.load(Ordering::SeqCst), 1);
    }
}

#[test]
fn a_listener_that_was_never_used_may_panic_when_it_is_dropped_on_the_clients_side() {
    let served = Served::start(workers(1), |_: &_| Upgrade::not_found());
    let url = format!("ws://{}/", address(&served.server));
    let gone = run(async {
        // In the caller's own task: its panic is the caller's.
        let refused = Connect::new(url.clone()).connect(Bomb);
        let refused = tokio::task::spawn_local(refused).await;
        let echo = Connect::new(format!("{url}echo")).connect(EchoListener).await.unwrap();
        assert!(echo.send_text("the loop lives on").is_queued());
        echo.abort();
        refused.is_err_and(|error| error.is_panic())
    });
    assert!(gone.is_ok());
    served.stop();
}

#[test]
fn a_maker_that_panics_is_an_error_of_its_connect() {
    let server = workers(1).start(|_| Upgrade::accept(EchoListener)).unwrap();
    let url = server.addresses()[0].to_string();
    let fault = run(async {
        let neighbour = Connect::new(url.clone()).connect(EchoListener).await.unwrap();
        let made = Connect::new(url).connect_with(|_, _| -> EchoListener { bang() }).await;
        assert!(neighbour.is_open());
        made.unwrap_err()
    })
    .unwrap();
    assert!(matches!(fault.fault(), ConnectFault::Listener(_)), "{fault}");
    assert!(!fault.is_transient());
    let text = fault.to_string();
    assert!(text.contains("panic: on purpose") && text.contains("connect_with"), "{text}");
    // It had been upgraded, and ended with a word.
    eventually(&server, "it is closed", |stats| stats.upgraded == 2 && stats.disconnected == 2);
    server.stop().unwrap();
}

#[test]
fn errors_of_a_listener_may_misbehave_on_the_clients_side() {
    let server = workers(1).start(|_| Upgrade::accept(EchoListener)).unwrap();
    let url = server.addresses()[0].to_string();
    for hostile in HOSTILE {
        let cause = run(async {
            let neighbour = Connect::new(url.clone()).stream();
            let mut neighbour = neighbour.await.unwrap();
            let failing = on_frame(move |_, _| Err(ListenerError::from(HostileError(hostile))));
            let transport = Connect::new(url.clone()).connect(failing).await.unwrap();
            transport.send_text("and back");
            let cause = transport.wait_disconnected().await.unwrap_err();
            neighbour.send("the loop lives on").await.unwrap();
            assert!(neighbour.next().await.is_some());
            cause.to_string()
        });
        let cause = cause.unwrap();
        assert!(cause.starts_with("the listener failed: "), "{cause}");
    }
    server.stop().unwrap();
}
