//! Clients that leave their loop once they have connected, on a real ring.

#![allow(clippy::unwrap_used, reason = "a test that fails is to stop there")]

mod patience;

use patience::PATIENCE;
use picows_uring::{
    AutoPing, CloseCode, Connect, ConnectError, ConnectFault, DisconnectCause, EchoListener, Frame,
    Listener, ListenerResult, MsgType, RemoteError, Runtime, Server, ServerBuilder, ServerHandle,
    Transport, Upgrade,
};
use std::cell::{Cell, RefCell};
use std::io::Read;
use std::rc::Rc;
use std::sync::mpsc::{Sender, channel};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

fn builder() -> ServerBuilder {
    Server::builder().listen("127.0.0.1:0").workers(1)
}

fn url(server: &ServerHandle) -> String {
    server.addresses()[0].to_string()
}

fn echo_server() -> (ServerHandle, String) {
    let server = builder().start(|_| Upgrade::accept(EchoListener)).unwrap();
    let url = url(&server);
    (server, url)
}

fn runtime() -> Runtime {
    Runtime::builder().build().unwrap()
}

/// Reports each message, and the end.
struct Tell(Sender<String>);

impl Listener for Tell {
    fn on_connected(&mut self, _: &Transport) -> ListenerResult {
        self.0.send("connected".to_owned())?;
        Ok(())
    }

    fn on_frame(&mut self, _: &Transport, frame: &Frame<'_>) -> ListenerResult {
        if frame.msg_type() == MsgType::Text {
            self.0.send(frame.text()?.to_owned())?;
        }
        Ok(())
    }

    fn on_disconnected(&mut self, _: &Transport) {
        self.0.send("disconnected".to_owned()).unwrap();
    }
}

/// Sends what comes back once more, a number of times, and notes where it was called.
struct Rounds {
    left: usize,
    ran_in_loop: Rc<Cell<usize>>,
}

impl Listener for Rounds {
    fn on_frame(&mut self, transport: &Transport, frame: &Frame<'_>) -> ListenerResult {
        if frame.msg_type() != MsgType::Binary {
            return Ok(());
        }
        if picows_uring::spawn(async {}).is_ok() {
            self.ran_in_loop.set(self.ran_in_loop.get() + 1);
        }
        self.left -= 1;
        if self.left == 0 {
            transport.send_close(CloseCode::NORMAL, "done");
        } else {
            transport.send(MsgType::Binary, frame.payload());
        }
        Ok(())
    }
}

#[test]
fn connections_go_on_without_the_loop_until_the_last_has_ended() {
    for spins in [Duration::ZERO, Duration::from_micros(50), Duration::MAX] {
        let (server, url) = echo_server();
        let in_loop = Rc::new(Cell::new(0));
        let runtime = Runtime::builder().busy_poll(spins).build().unwrap();
        let connections = runtime.run_dedicated(async {
            let mut connections = Vec::new();
            for left in [1, 50, 200] {
                let listener = Rounds { left, ran_in_loop: Rc::clone(&in_loop) };
                let listener = Rc::new(RefCell::new(listener));
                let transport = Connect::new(&*url).connect(Rc::clone(&listener)).await?;
                connections.push((listener, transport));
            }
            // In one turn of the loop, so that what comes back is for the thread without one.
            for (_, transport) in &connections {
                transport.send(MsgType::Binary, [7; 256]);
            }
            Ok::<_, ConnectError>(connections)
        });
        for (listener, transport) in connections.unwrap().unwrap() {
            assert_eq!(listener.borrow().left, 0);
            assert!(transport.is_disconnected());
            let close = transport.close_handshake();
            assert!(close.is_complete() && !close.received_first);
        }
        assert_eq!(in_loop.get(), 0);
        let stats = server.stop().unwrap();
        assert_eq!((stats.upgraded, stats.connections), (3, 0));
    }
}

#[test]
fn a_callback_without_the_loop_can_neither_spawn_nor_connect() {
    struct Asks(Rc<RefCell<Vec<String>>>);
    impl Listener for Asks {
        fn on_frame(&mut self, transport: &Transport, _: &Frame<'_>) -> ListenerResult {
            let spawned = picows_uring::spawn(async {});
            self.0.borrow_mut().push(spawned.unwrap_err().to_string());
            let connecting = Connect::new("ws://127.0.0.1:1/").connect(EchoListener);
            let polled = std::pin::pin!(connecting).poll(&mut Context::from_waker(Waker::noop()));
            let Poll::Ready(Err(error)) = polled else { panic!("{polled:?}") };
            assert!(matches!(error.fault(), ConnectFault::NoRuntime), "{error}");
            transport.disconnect();
            Ok(())
        }
    }
    let (server, url) = echo_server();
    let told = Rc::new(RefCell::new(Vec::new()));
    let setup = async {
        let transport = Connect::new(url).connect(Asks(Rc::clone(&told))).await?;
        transport.send_text("go");
        Ok::<_, ConnectError>(())
    };
    runtime().run_dedicated(setup).unwrap().unwrap();
    assert!(told.borrow()[0].contains("a dedicated worker runs no tasks"), "{told:?}");
    server.stop().unwrap();
}

#[test]
fn other_threads_reach_it_in_both_phases() {
    let (server, url) = echo_server();
    let (told, tells) = channel();
    let (remotes, given) = channel::<picows_uring::RemoteTransport>();
    let (echoed, hosted_echo) = tokio::sync::oneshot::channel();
    let thread = std::thread::spawn(move || {
        let remote = given.recv_timeout(PATIENCE).unwrap();
        let next = || tells.recv_timeout(PATIENCE).unwrap();
        assert_eq!(next(), "connected");
        remote.send(MsgType::Text, "hosted").unwrap();
        assert_eq!(next(), "hosted");
        echoed.send(()).unwrap();
        // Told by the loop's end: from here on the thread sleeps in its ring.
        assert_eq!(next(), "dedicated");
        for number in 0..200 {
            remote.send(MsgType::Text, number.to_string()).unwrap();
            assert_eq!(next(), number.to_string());
        }
        remote.send_close(CloseCode::NORMAL, "").unwrap();
        assert_eq!(next(), "disconnected");
        remote
    });
    struct Leaving(Sender<String>);
    impl Drop for Leaving {
        fn drop(&mut self) {
            self.0.send("dedicated".to_owned()).unwrap();
        }
    }
    let setup = async {
        let transport = Connect::new(url).connect(Tell(told.clone())).await?;
        remotes.send(transport.remote()).unwrap();
        hosted_echo.await.unwrap();
        let leaving = Leaving(told);
        picows_uring::spawn(async move {
            let _leaving = leaving;
            std::future::pending::<()>().await;
        })
        .unwrap();
        Ok::<_, ConnectError>(())
    };
    runtime().run_dedicated(setup).unwrap().unwrap();
    let remote = thread.join().unwrap();
    assert_eq!(remote.send(MsgType::Text, "late"), Err(RemoteError::Disconnected));
    server.stop().unwrap();
}

#[test]
fn a_stopper_says_goodbye_and_ends_it() {
    let (server, url) = echo_server();
    let (told, tells) = channel();
    let runtime = runtime();
    let stopper = runtime.stopper();
    let thread = std::thread::spawn(move || {
        assert_eq!(tells.recv_timeout(PATIENCE).unwrap(), "connected");
        stopper.stop();
        assert_eq!(tells.recv_timeout(PATIENCE).unwrap(), "disconnected");
    });
    let transport = runtime.run_dedicated(Connect::new(url).connect(Tell(told))).unwrap().unwrap();
    assert_eq!(transport.disconnect_cause(), Some(DisconnectCause::Stopped));
    let sent = transport.close_handshake().sent.unwrap();
    assert_eq!(sent.code(), Some(CloseCode::GOING_AWAY));
    thread.join().unwrap();
    server.stop().unwrap();
}

#[test]
fn stopped_before_it_has_connected_it_connects_no_more() {
    let (server, url) = echo_server();
    let runtime = runtime();
    let stopper = runtime.stopper();
    let outcome = runtime.run_dedicated(async {
        // On its way to a connection when no task is left to take it.
        let connect = Connect::new(&*url).handshake_timeout(None).socket_hook(move |_| {
            stopper.stop();
            Ok(())
        });
        let error = connect.connect(EchoListener).await.unwrap_err();
        Ok::<_, ConnectError>((error, Connect::new(&*url).connect(EchoListener).await.unwrap_err()))
    });
    let (late, later) = outcome.unwrap().unwrap();
    for error in [late, later] {
        assert!(
            matches!(error.fault(), ConnectFault::NoRuntime | ConnectFault::Disconnected(_)),
            "{error}"
        );
    }
    server.stop().unwrap();
}

#[test]
fn a_setup_that_fails_leaves_no_connection_behind() {
    let (server, url) = echo_server();
    let (told, tells) = channel();
    let outcome = runtime().run_dedicated(async {
        Connect::new(&*url).connect(Tell(told)).await.unwrap();
        Err::<(), _>("there is more to it")
    });
    assert_eq!(outcome.unwrap(), Err("there is more to it"));
    assert_eq!(tells.iter().collect::<Vec<_>>(), ["connected", "disconnected"]);
    assert_eq!(server.stop().unwrap().connections, 0);
}

#[test]
fn without_a_connection_it_is_over_at_once() {
    for spins in [Duration::ZERO, Duration::MAX] {
        let runtime = Runtime::builder().busy_poll(spins).build().unwrap();
        assert_eq!(runtime.run_dedicated(async { Ok::<_, ()>(7) }).unwrap(), Ok(7));
    }
}

#[test]
fn what_is_pending_when_setup_is_done_is_dropped() {
    // No server answers there, and a handshake that went on would keep the thread for ever.
    let setup = async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("ws://{}/", listener.local_addr()?);
        let connect = Connect::new(url).handshake_timeout(None);
        let task = picows_uring::spawn(connect.connect(EchoListener)).unwrap();
        let peer = listener.accept().await?.0;
        // The request is there, so the worker has the connection.
        peer.peek(&mut [0; 1]).await?;
        Ok::<_, std::io::Error>((task, peer.into_std()?))
    };
    let (task, mut peer) = runtime().run_dedicated(setup).unwrap().unwrap();
    peer.set_nonblocking(false).unwrap();
    let mut rest = Vec::new();
    match peer.read_to_end(&mut rest) {
        Ok(_) => assert!(rest.starts_with(b"GET / HTTP/1.1")),
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
    }
    let polled = std::pin::pin!(task).poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(polled, Poll::Ready(Err(_))), "{polled:?}");
}

#[test]
fn deadlines_are_kept_without_the_loop() {
    struct Silent;
    impl Listener for Silent {
        fn on_frame(&mut self, _: &Transport, _: &Frame<'_>) -> ListenerResult {
            Ok(())
        }
    }
    let server = builder().auto_pong(false).start(|_| Upgrade::accept(Silent)).unwrap();
    let moment = Duration::from_millis(20);
    let connect = Connect::new(url(&server)).auto_ping(AutoPing::new(moment, moment));
    let transport = runtime().run_dedicated(connect.connect(EchoListener)).unwrap().unwrap();
    assert_eq!(transport.disconnect_cause(), Some(DisconnectCause::PingTimedOut));
    server.stop().unwrap();
}
