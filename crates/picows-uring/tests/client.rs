//! The client against our own server, on a real ring.

#![allow(clippy::unwrap_used, reason = "a test that fails is to stop there")]

mod rounds;
mod scripted;

use picows_uring::{
    CloseCode, Connect, ConnectFault, DisconnectCause, EchoListener, Error, Frame, Listener,
    ListenerResult, MsgType, Runtime, Server, ServerHandle, Transport, Upgrade,
};
use rounds::Rounds;
use scripted::{PATIENCE, patiently, run, serve, until};
use std::cell::RefCell;
use std::io::{ErrorKind, Read};
use std::rc::Rc;
use std::sync::{Mutex, mpsc};
use std::time::Duration;

fn echo_server() -> (ServerHandle, String) {
    let builder = Server::builder().listen("127.0.0.1:0").workers(1);
    let server = builder.start(|_| Upgrade::accept(EchoListener)).unwrap();
    let url = server.addresses()[0].to_string();
    (server, url)
}

#[test]
fn echoes_every_size_and_closes_cleanly() {
    let (server, url) = echo_server();
    for size in [0, 1, 125, 126, 127, 65_535, 65_536, 1 << 20, 8 << 20] {
        let url = url.clone();
        run(async move {
            let payload: Vec<u8> = (0..size).map(|index: usize| (index % 251) as u8).collect();
            let listener = Rc::new(RefCell::new(Rounds { payload, left: 3 }));
            let transport = Connect::new(url).connect(Rc::clone(&listener)).await.unwrap();
            transport.wait_disconnected().await.unwrap();
            assert_eq!(listener.borrow().left, 0);
            let close = transport.close_handshake();
            assert!(close.is_complete() && !close.received_first);
            assert!(transport.is_client_side());
        })
        .unwrap();
    }
    let stats = server.stop().unwrap();
    assert_eq!((stats.upgraded, stats.protocol_errors), (9, 0));
}

#[test]
fn spins_and_echoes() {
    let (server, url) = echo_server();
    let runtime = Runtime::builder().busy_poll(Duration::MAX).build().unwrap();
    runtime
        .block_on(async move {
            let listener = Rounds { payload: vec![7; 256], left: 500 };
            let transport = Connect::new(url).connect(listener).await.unwrap();
            // Timers of tokio are served while the worker spins.
            tokio_timer().await;
            transport.wait_disconnected().await.unwrap();
        })
        .unwrap();
    server.stop().unwrap();
}

async fn tokio_timer() {
    let task = picows_uring::spawn(async { 1 }).unwrap();
    assert_eq!(task.await, Ok(1));
}

#[test]
fn a_dedicated_server_echoes_and_runs_no_tasks() {
    let builder = Server::builder().listen("127.0.0.1:0").workers(1).dedicated(true);
    let server = builder
        .start(|_| {
            assert!(picows_uring::spawn(async {}).is_err());
            Upgrade::accept(EchoListener)
        })
        .unwrap();
    let url = server.addresses()[0].to_string();
    run(async move {
        let listener = Rounds { payload: vec![7; 256], left: 100 };
        let transport = Connect::new(url).connect(listener).await.unwrap();
        transport.wait_disconnected().await.unwrap();
    })
    .unwrap();
    server.stop().unwrap();
}

#[test]
fn a_remote_handle_sends_from_another_thread_until_the_end() {
    let (server, url) = echo_server();
    struct Count(mpsc::Sender<String>);
    impl Listener for Count {
        fn on_frame(&mut self, _: &Transport, frame: &Frame<'_>) -> ListenerResult {
            if frame.msg_type() == MsgType::Text {
                self.0.send(frame.text()?.to_owned())?;
            }
            Ok(())
        }
    }
    run(async move {
        let (echoes, echoed) = mpsc::channel();
        let transport = Connect::new(url).connect(Count(echoes)).await.unwrap();
        let remote = transport.remote();
        let thread = std::thread::spawn(move || {
            for number in 0..1000 {
                remote.send(MsgType::Text, number.to_string()).unwrap();
            }
            for number in 0..1000 {
                assert_eq!(echoed.recv_timeout(PATIENCE).unwrap(), number.to_string());
            }
            remote.send_close(CloseCode::NORMAL, "").unwrap();
            patiently("the end is known", || remote.is_disconnected().then_some(()));
            assert!(remote.send(MsgType::Text, "late").is_err());
        });
        transport.wait_disconnected().await.unwrap();
        thread.join().unwrap();
    })
    .unwrap();
    server.stop().unwrap();
}

#[test]
fn faults_name_what_happened_and_what_to_try() {
    let (_unheard, free_port) = scripted::unheard();
    let fault = |url: String| {
        run(async move { Connect::new(url).connect(EchoListener).await.unwrap_err() }).unwrap()
    };
    let error = fault(format!("ws://{free_port}/"));
    assert!(matches!(error.fault(), ConnectFault::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("nothing listens there"), "{error}");
    assert!(error.is_transient());
    if cfg!(not(feature = "_tls")) {
        assert!(matches!(fault("wss://localhost/".into()).fault(), ConnectFault::TlsUnsupported));
    }
}

#[test]
fn a_loop_that_panics_with_a_send_in_flight_ends_its_connections() {
    let (begun, sending) = mpsc::channel();
    let (gone, is_gone) = mpsc::channel::<()>();
    let is_gone = Mutex::new(is_gone);
    let (ended, has_ended) = mpsc::channel();
    let server = serve(move |_, mut peer| {
        let request = peer.request();
        peer.write(request.accepted("").as_bytes());
        peer.stream.read_exact(&mut [0]).unwrap();
        begun.send(()).unwrap();
        // Takes no more before the loop is gone, so that the send is in flight until then.
        let _ = is_gone.lock().unwrap().recv();
        ended.send(peer.read_to_end().len()).unwrap();
    });
    let client = std::thread::spawn(move || {
        let _gone = gone;
        let panicking = async move {
            let connect = Connect::new(format!("ws://{server}/"));
            let transport = connect.connect(EchoListener).await.unwrap();
            assert!(transport.send(MsgType::Binary, vec![7; 32 << 20]).is_queued());
            until("the send is under way", || sending.try_recv().ok()).await;
            panic!("on purpose");
        };
        let _: Result<(), Error> = picows_uring::run(panicking);
    });
    assert!(client.join().is_err());
    let taken = has_ended.recv_timeout(PATIENCE).unwrap();
    assert!(taken < 32 << 20, "{taken} bytes came: nothing was in flight");
}

#[test]
fn without_a_loop_connecting_says_so() {
    let connecting = std::pin::pin!(Connect::new("ws://127.0.0.1:1/").connect(EchoListener));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match Future::poll(connecting, &mut context) {
        std::task::Poll::Ready(Err(error)) => {
            assert!(matches!(error.fault(), ConnectFault::NoRuntime));
        }
        other => panic!("{other:?}"),
    }
}

/// Sends within the turn in which a server has reset the connection.
struct Belated {
    first_is_here: mpsc::Sender<()>,
    is_reset: mpsc::Receiver<()>,
    texts: Rc<RefCell<Vec<String>>>,
    /// What it sends then: in the end of the turn, or at once, as it is more than a watermark.
    late_bytes: usize,
}

impl Listener for Belated {
    fn on_connected(&mut self, transport: &Transport) -> ListenerResult {
        transport.send_text("of which most is not read");
        Ok(())
    }

    fn on_frame(&mut self, transport: &Transport, frame: &Frame<'_>) -> ListenerResult {
        if frame.msg_type() == MsgType::Text {
            self.texts.borrow_mut().push(frame.text()?.to_owned());
        }
        if frame.payload() == b"first" {
            self.first_is_here.send(())?;
            self.is_reset.recv_timeout(PATIENCE)?;
            transport.send(MsgType::Binary, vec![0; self.late_bytes]);
        }
        Ok(())
    }
}

/// A server that does not read what it is sent resets the connection when it closes it. What it said
/// before counts (RFC 6455 §7.1.5), though sending fails first.
#[test]
fn what_a_server_sent_before_it_reset_the_connection_is_read() {
    let closed = b"\x81\x04last\x88\x06\x11\x31gone";
    let reset = DisconnectCause::Io(ErrorKind::ConnectionReset);
    for (late_bytes, last, cause, code) in [
        (10, &closed[..], DisconnectCause::Closed, Some(4401)),
        (1 << 20, closed, DisconnectCause::Closed, Some(4401)),
        (10, b"\x81\x04last", reset.clone(), None),
        (1 << 20, b"\x81\x04last", reset.clone(), None),
    ] {
        let (reset, is_reset) = mpsc::channel();
        let (first_is_here, first) = mpsc::channel();
        let first = Mutex::new(first);
        let address = serve(move |_, mut peer| {
            let request = peer.request();
            peer.write(request.accepted("").as_bytes());
            peer.stream.read_exact(&mut [0]).unwrap();
            peer.write(b"\x81\x05first");
            first.lock().unwrap().recv_timeout(PATIENCE).unwrap();
            peer.write(last);
            drop(peer);
            reset.send(()).unwrap();
        });
        let texts = Rc::<RefCell<Vec<String>>>::default();
        let listener = Belated { first_is_here, is_reset, texts: Rc::clone(&texts), late_bytes };
        run(async move {
            let connect = Connect::new(format!("ws://{address}/"));
            let transport = connect.connect(listener).await.unwrap();
            transport.wait_disconnected().await.unwrap();
            assert_eq!(transport.disconnect_cause(), Some(cause));
            let received = transport.close_handshake().received;
            assert_eq!(received.and_then(|it| it.code()).map(CloseCode::get), code);
            assert!(!transport.send_text("late").is_queued());
        })
        .unwrap();
        assert_eq!(*texts.borrow(), ["first", "last"]);
    }
}
