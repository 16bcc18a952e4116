//! The client on its way to an upgrade: redirects, options, sockets, and many at once.

#![allow(clippy::unwrap_used, reason = "a test that fails is to stop there")]

mod scripted;

use picows_uring::{
    CloseCode, Connect, ConnectFault, EchoListener, Frame, HandshakeMisuse, Listener,
    ListenerResult, MsgType, ResponseError, Server, ServerHandle, Transport, Upgrade, spawn,
};
use scripted::{Heard, PATIENCE, answers, connected, refused, run, serve, until};
use std::cell::{Cell, RefCell};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::mpsc;

fn echo_server() -> (ServerHandle, String) {
    let builder = Server::builder().listen("127.0.0.1:0").workers(1).handshake_timeout(PATIENCE);
    let server = builder.start(|_| Upgrade::accept(EchoListener)).unwrap();
    let url = server.addresses()[0].to_string();
    (server, url)
}

/// A server that leads every request elsewhere.
fn redirects(status: u16, location: impl Fn(&str) -> String + Send + Sync + 'static) -> String {
    answers(move |request| {
        let location = location(request.target());
        format!("HTTP/1.1 {status} Elsewhere\r\n{location}\r\n")
    })
}

#[test]
fn redirects_are_followed_to_other_servers() {
    let (server, url) = echo_server();
    for status in [301, 302, 303, 307, 308] {
        for scheme in ["ws", "http"] {
            let to = url.replacen("ws", scheme, 1);
            let from = redirects(status, move |_| format!("Location: {to}/there?x=1\r\n"));
            connected(Connect::new(from), |transport| {
                assert_eq!(transport.request().unwrap().target(), "/there?x=1");
            });
        }
    }
    server.stop().unwrap();
}

#[test]
fn redirects_may_be_relative_and_keep_their_connection_open() {
    // No length: only the end of the connection would end the body, and it does not come.
    let to = |location: String| format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\n\r\n");
    let url = answers(move |request| match request.target() {
        "/a/b?c" => to("../d".to_owned()),
        "/d" => to("0?f".to_owned()),
        "/100?f" => request.accepted(""),
        other => {
            let number: u32 = other[1..].strip_suffix("?f").unwrap().parse().unwrap();
            to(format!("{}?f", number + 1))
        }
    });
    // So many that waiting for their bodies would take longer than any machine is busy.
    let started = std::time::Instant::now();
    let connect = Connect::new(url + "a/b?c").max_redirects(102).handshake_timeout(None);
    connected(connect, |transport| {
        assert_eq!(transport.request().unwrap().target(), "/100?f");
    });
    assert!(started.elapsed() < PATIENCE, "bodies of redirects are not waited for");
}

#[test]
fn a_loop_of_redirects_ends() {
    for (max, requests) in [(5, 6), (1, 2)] {
        let (told, asked) = mpsc::channel();
        let told = std::sync::Mutex::new(told);
        let url = redirects(302, move |target| {
            told.lock().unwrap().send(()).unwrap();
            format!("Location: {target}\r\n")
        });
        let error = refused(Connect::new(url).max_redirects(max));
        assert!(matches!(error.fault(), ConnectFault::Redirect { .. }), "{error:?}");
        assert!(error.to_string().contains(&format!("{max} redirects were followed")), "{error}");
        assert_eq!(error.response().unwrap().status().as_u16(), 302);
        assert!(!error.is_transient());
        assert_eq!(asked.try_iter().count(), requests);
    }
}

#[test]
fn redirects_that_are_not_followed_say_why() {
    let fault = |connect: Connect| refused(connect).to_string();
    let nowhere = redirects(302, |_| String::new());
    assert!(fault(Connect::new(nowhere)).contains("302 Found instead of 101"));
    let elsewhere = || redirects(302, |_| "Location: ftp://127.0.0.1/\r\n".to_owned());
    assert!(fault(Connect::new(elsewhere())).contains("\"ftp\": it has to be ws or wss"));
    // None may be followed: then the answer itself is the fault.
    let error = refused(Connect::new(elsewhere()).max_redirects(0));
    let is_status =
        matches!(error.fault(), ConnectFault::Response(ResponseError::InvalidStatus(_)));
    assert!(is_status, "{error:?}");
    assert_eq!(error.response().unwrap().header_str("location"), Some("ftp://127.0.0.1/"));
}

#[test]
fn extra_headers_arrive_and_host_is_replaced() {
    for name in ["Host", "hOST"] {
        let (told, requests) = mpsc::channel();
        let told = std::sync::Mutex::new(told);
        let url = answers(move |request| {
            told.lock().unwrap().send(request.clone()).unwrap();
            request.accepted("X-Theirs: yes\r\n")
        });
        let connect = Connect::new(url).header("X-One", "1").header("X-One", "2");
        connected(connect.header(name, "example.com:81"), |transport| {
            let own = transport.request().unwrap();
            assert_eq!(own.header_str("host"), Some("example.com:81"));
            let response = transport.response().unwrap();
            assert_eq!(response.header_str("x-theirs"), Some("yes"));
        });
        let request = requests.recv_timeout(PATIENCE).unwrap();
        assert_eq!(request.headers("host"), ["example.com:81"]);
        assert_eq!(request.headers("x-one"), ["1", "2"]);
        assert_eq!(request.headers("sec-websocket-version"), ["13"]);
    }
}

#[test]
fn headers_that_cannot_be_sent_cost_no_connection() {
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap();
    let connect = || Connect::new(format!("ws://{address}/"));
    for connect in [
        connect().header("Sec-WebSocket-Key", "x"),
        connect().header("connection", "close"),
        connect().header("Content-Length", "5"),
        connect().header("bad name", "x"),
        connect().header("X-Split", "a\r\nX-Injected: b"),
        connect().header("Host", "a/b"),
        connect().subprotocol("not a token"),
        connect().subprotocol("chat").subprotocol("chat"),
    ] {
        let error = refused(connect);
        let ConnectFault::Option(misuse) = error.fault() else { panic!("{error:?}") };
        assert!(!misuse.to_string().is_empty() && !error.is_transient());
    }
    let error = refused(connect().header("Upgrade", "x"));
    let name = "Upgrade".to_owned();
    let ConnectFault::Option(misuse) = error.fault() else { panic!("{error:?}") };
    assert_eq!(*misuse, HandshakeMisuse::ReservedHeader { name });
    // Longer than any server takes.
    let mut long = connect();
    for number in 0..20 {
        long = long.header(format!("X-{number}"), "x".repeat(4000));
    }
    let error = refused(long);
    assert!(matches!(error.fault(), ConnectFault::Request(_)), "{error:?}");
    server.set_nonblocking(true).unwrap();
    let nobody = server.accept().unwrap_err();
    assert_eq!(nobody.kind(), std::io::ErrorKind::WouldBlock);
}

#[test]
fn a_subprotocol_is_one_that_was_offered() {
    let choosing = |choice: &'static str| {
        answers(move |request| request.accepted(&format!("Sec-WebSocket-Protocol: {choice}\r\n")))
    };
    let offering = |url| Connect::new(url).subprotocol("chat").subprotocol("superchat");
    for choice in ["chat", "superchat"] {
        connected(offering(choosing(choice)), |transport| {
            assert_eq!(transport.subprotocol(), Some(choice));
            let request = transport.request().unwrap();
            assert_eq!(request.header_str("sec-websocket-protocol"), Some("chat, superchat"));
        });
    }
    for choice in ["other", "chat, superchat", "CHAT"] {
        let error = refused(offering(choosing(choice)));
        let ConnectFault::Response(fault) = error.fault() else { panic!("{error:?}") };
        assert!(matches!(fault, ResponseError::InvalidSubprotocol(_)), "{choice}: {fault:?}");
    }
    // The server need not choose.
    connected(offering(answers(|request| request.accepted(""))), |transport| {
        assert_eq!(transport.subprotocol(), None);
    });
}

#[test]
fn our_own_address_can_be_chosen() {
    let own = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
    let (told, seen) = mpsc::channel();
    let told = std::sync::Mutex::new(told);
    let address = serve(move |_, mut peer| {
        told.lock().unwrap().send(peer.stream.peer_addr().unwrap().ip()).unwrap();
        let request = peer.request();
        peer.write(request.accepted("").as_bytes());
        peer.read_to_end();
    });
    connected(Connect::new(format!("ws://{address}/")).local_address(own), |transport| {
        assert_eq!(transport.local_addr().unwrap().ip(), own);
        assert_eq!(transport.peer_addr(), Some(address));
    });
    assert_eq!(seen.recv_timeout(PATIENCE).unwrap(), own);
    // One that this machine does not have.
    let foreign = "192.0.2.1".parse().unwrap();
    let error = refused(Connect::new(format!("ws://{address}/")).local_address(foreign));
    assert!(matches!(error.fault(), ConnectFault::Unreachable { .. }), "{error:?}");
}

#[test]
fn options_are_set_before_the_socket_connects() {
    let url = answers(|request| request.accepted(""));
    let hook = |socket: std::os::fd::BorrowedFd<'_>| {
        rustix::net::sockopt::set_ip_tos(socket, 0x10)?;
        assert!(rustix::net::getpeername(socket).is_err(), "it is not connected yet");
        Ok(())
    };
    connected(Connect::new(&*url).socket_hook(hook), |transport| {
        let options = transport.with_socket(|socket| {
            let tos = rustix::net::sockopt::ip_tos(socket).unwrap();
            (tos, rustix::net::sockopt::tcp_nodelay(socket).unwrap())
        });
        assert_eq!(options, Some((0x10, true)));
    });
    let failing = |_: std::os::fd::BorrowedFd<'_>| Err(std::io::Error::other("no such option"));
    let error = refused(Connect::new(url).socket_hook(failing));
    assert!(error.to_string().contains("no such option"), "{error}");
}

#[test]
fn a_connected_socket_may_be_given() {
    let address = serve(|_, mut peer| {
        let request = peer.request();
        assert_eq!(request.headers("host"), ["virtual.example"]);
        peer.write(request.accepted("").as_bytes());
        peer.read_to_end();
    });
    for is_nonblocking in [false, true] {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_nonblocking(is_nonblocking).unwrap();
        let connect = Connect::new("ws://virtual.example/path").socket(socket);
        connected(connect, |transport| {
            assert_eq!(transport.peer_addr(), Some(address));
            let nodelay =
                transport.with_socket(|it| rustix::net::sockopt::tcp_nodelay(it).unwrap());
            assert_eq!(nodelay, Some(true));
        });
    }
    // A redirect would lead to another socket.
    let url = redirects(302, |_| "Location: /there\r\n".to_owned());
    let address: SocketAddr =
        url.trim_start_matches("ws://").trim_end_matches('/').parse().unwrap();
    let error = refused(Connect::new(url).socket(TcpStream::connect(address).unwrap()));
    assert_eq!(error.response().unwrap().status().as_u16(), 302);
}

#[test]
fn clones_make_connections_of_their_own() {
    let address = serve(|_, mut peer| {
        let request = peer.request();
        assert_eq!(request.headers("x-key"), ["secret"]);
        peer.write(request.accepted("").as_bytes());
        peer.read_to_end();
    });
    let connect = Connect::new(format!("ws://{address}/")).header("X-Key", "secret");
    for clone in [connect.clone(), connect.clone()] {
        connected(clone, |transport| assert_eq!(transport.peer_addr(), Some(address)));
    }
    // A socket is one connection's.
    let given = connect.socket(TcpStream::connect(address).unwrap());
    connected(given.clone(), |transport| assert!(transport.is_open()));
    let error = refused(given);
    assert!(error.to_string().contains("socket: a clone has connected with it"), "{error}");
}

#[test]
fn a_given_socket_may_be_a_unix_one() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let server = std::thread::spawn(move || {
        let mut socket = accept_by_hand(theirs);
        let mut rest = Vec::new();
        std::io::Read::read_to_end(&mut socket, &mut rest).unwrap();
    });
    connected(Connect::new("ws://localhost/").socket(ours), |transport| {
        assert_eq!((transport.peer_addr(), transport.local_addr()), (None, None));
        assert!(transport.is_open());
    });
    server.join().unwrap();
}

/// Accepts one upgrade by hand.
fn accept_by_hand(mut socket: UnixStream) -> UnixStream {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        std::io::Read::read_exact(&mut socket, &mut byte).unwrap();
        head.push(byte[0]);
    }
    let request = scripted::Request(String::from_utf8(head).unwrap());
    std::io::Write::write_all(&mut socket, request.accepted("").as_bytes()).unwrap();
    socket
}

#[test]
fn many_connections_share_a_thread() {
    const COUNT: usize = 200;
    let (server, url) = echo_server();
    run(async move {
        let tasks: Vec<_> = (0..COUNT)
            .map(|number| {
                let connect = Connect::new(&*url).handshake_timeout(PATIENCE);
                let connecting = connect.connect(Echoed { number, left: 5 });
                spawn(async move { connecting.await.unwrap().wait_disconnected().await }).unwrap()
            })
            .collect();
        for task in tasks {
            task.await.unwrap().unwrap();
        }
    })
    .unwrap();
    let stats = server.stop().unwrap();
    assert_eq!((stats.upgraded, stats.protocol_errors), (COUNT as u64, 0));
}

/// Sends a number a few times and expects it back each time.
struct Echoed {
    number: usize,
    left: usize,
}

impl Listener for Echoed {
    fn on_connected(&mut self, transport: &Transport) -> ListenerResult {
        transport.send_text(self.number.to_string());
        Ok(())
    }

    fn on_frame(&mut self, transport: &Transport, frame: &Frame<'_>) -> ListenerResult {
        if frame.msg_type() == MsgType::Text {
            assert_eq!(frame.text()?, self.number.to_string());
            self.left -= 1;
            if self.left == 0 {
                transport.send_close(CloseCode::NORMAL, "");
            } else {
                transport.send_text(self.number.to_string());
            }
        }
        Ok(())
    }
}

/// A server's connection that opens one of its own to another server, and relays what it answers.
struct Relay(String);

struct Back(Transport);

impl Listener for Relay {
    fn on_connected(&mut self, transport: &Transport) -> ListenerResult {
        let (connect, front) = (Connect::new(&*self.0), transport.clone());
        spawn(async move {
            let back = connect.connect(Back(front)).await.unwrap();
            back.send_text("relayed");
        })?;
        Ok(())
    }

    fn on_frame(&mut self, _: &Transport, _: &Frame<'_>) -> ListenerResult {
        Ok(())
    }
}

impl Listener for Back {
    fn on_frame(&mut self, transport: &Transport, frame: &Frame<'_>) -> ListenerResult {
        if frame.msg_type() == MsgType::Text {
            self.0.send_text(frame.text()?);
            transport.send_close(CloseCode::NORMAL, "");
            self.0.send_close(CloseCode::NORMAL, "");
        }
        Ok(())
    }
}

#[test]
fn a_servers_callback_may_connect_elsewhere() {
    let (back, url) = echo_server();
    let builder = Server::builder().listen("127.0.0.1:0").workers(1);
    let front = builder.start(move |_| Upgrade::accept(Relay(url.clone()))).unwrap();
    let url = front.addresses()[0].to_string();
    let heard = run(async move {
        let heard = Heard::default();
        let transport = Connect::new(url).connect(heard.clone()).await.unwrap();
        transport.wait_disconnected().await.unwrap();
        heard.0.take()
    })
    .unwrap();
    assert_eq!(heard[0], (MsgType::Text, b"relayed".to_vec()));
    assert_eq!(front.stop().unwrap().upgraded, 2, "one from the client, one to the other server");
    back.stop().unwrap();
}

#[test]
fn a_dropped_future_takes_its_connection_along() {
    // In every state: while the server is silent, and as the connection opens.
    let (told, ends) = mpsc::channel();
    let (asked, requests) = mpsc::channel();
    let (told, asked) = (std::sync::Mutex::new(told), std::sync::Mutex::new(asked));
    let address = serve(move |number, mut peer| {
        let request = peer.request();
        asked.lock().unwrap().send(()).unwrap();
        if number == 1 {
            peer.write(request.accepted("").as_bytes());
        }
        told.lock().unwrap().send(peer.read_to_end().len()).unwrap();
    });
    let url = format!("ws://{address}/");
    run(async move {
        let mut silent = Box::pin(Connect::new(&*url).connect(Heard::default()));
        until("the request", || {
            assert!(futures_util::FutureExt::now_or_never(&mut silent).is_none());
            requests.try_recv().ok()
        })
        .await;
        drop(silent);
        expect_end(&ends).await;

        // Its own listener reports to us that it is open before its caller learns of it.
        let opened = Rc::new(Cell::new(false));
        let listener = Rc::new(RefCell::new(Opened(Rc::clone(&opened))));
        let mut connecting = Box::pin(Connect::new(&*url).connect(Rc::clone(&listener)));
        std::future::poll_fn(|context| {
            if opened.get() {
                return std::task::Poll::Ready(());
            }
            // Woken by each step; the last one is not taken.
            assert!(Future::poll(connecting.as_mut(), context).is_pending() || opened.get());
            context.waker().wake_by_ref();
            std::task::Poll::Pending
        })
        .await;
        drop(connecting);
        expect_end(&ends).await;
    })
    .unwrap();
}

struct Opened(Rc<Cell<bool>>);

impl Listener for Opened {
    fn on_connected(&mut self, _: &Transport) -> ListenerResult {
        self.0.set(true);
        Ok(())
    }

    fn on_frame(&mut self, _: &Transport, _: &Frame<'_>) -> ListenerResult {
        Ok(())
    }
}

/// The server sees the end of a connection on which nothing was sent.
async fn expect_end(ends: &mpsc::Receiver<usize>) {
    assert_eq!(until("the server sees the end", || ends.try_recv().ok()).await, 0);
}
