//! The client over Unix sockets, by URL.

#![allow(clippy::unwrap_used, reason = "a test that fails is to stop there")]

mod scripted;

use picows_uring::{
    Backoff, Connect, ConnectFault, ConnectStage, EchoListener, Reconnect, RedirectKeeps, Server,
    Upgrade,
};
use scripted::{Request, answers, connected, patiently, refused, run};
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

/// A folder that is removed in the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let name = format!("picows-unix-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn socket(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A server on a Unix socket that answers each request with `answer`.
fn serve(
    path: &str,
    answer: impl Fn(&Request) -> String + Send + 'static,
) -> mpsc::Receiver<Request> {
    let listener = UnixListener::bind(path).unwrap();
    let (seen, requests) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let request = read_request(&mut stream);
            stream.write_all(answer(&request).as_bytes()).unwrap();
            let is_wanted = seen.send(request).is_ok();
            let _ = stream.read_to_end(&mut Vec::new());
            if !is_wanted {
                return;
            }
        }
    });
    requests
}

fn read_request(stream: &mut UnixStream) -> Request {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    Request(String::from_utf8(head).unwrap())
}

#[test]
fn the_url_that_a_server_prints_connects_to_it_whatever_its_path() {
    let folder = Folder::new("printed");
    for name in ["plain.sock", "a b%20c?d#e.sock", "b\u{fc}cher\n.sock"] {
        let builder = Server::builder().workers(1).listen(format!("unix:{}", folder.socket(name)));
        let server = builder.start(|_| Upgrade::accept(EchoListener)).unwrap();
        let url = server.addresses()[0].to_string();
        assert!(url.starts_with("ws+unix:/") && url.is_ascii(), "{url}");
        connected(Connect::new(url.clone() + ":/chat?room=7"), |transport| {
            assert_eq!(transport.request().unwrap().target(), "/chat?room=7");
            assert_eq!((transport.peer_addr(), transport.local_addr()), (None, None));
            assert!(transport.is_open());
        });
        connected(Connect::new(url), |transport| {
            let request = transport.request().unwrap();
            assert_eq!((request.target(), request.header_str("host")), ("/", Some("localhost")));
        });
        assert_eq!(server.stop().unwrap().upgraded, 2);
    }
}

#[test]
fn headers_hooks_and_redirects_are_those_of_any_connection() {
    let folder = Folder::new("any");
    let path = folder.socket("s");
    let requests = serve(&path, |request| match request.target() {
        "/there" => request.accepted(""),
        _ => "HTTP/1.1 302 X\r\nLocation: /there\r\nContent-Length: 0\r\n\r\n".to_owned(),
    });
    let (hooked, hooks) = mpsc::channel();
    let connect = Connect::new(format!("ws+unix:{path}"))
        .header("Host", "virtual.example")
        .header("X-Key", "secret")
        .subprotocol("chat")
        .socket_hook(move |_| {
            hooked.send(()).unwrap();
            Ok(())
        });
    // The socket is one origin, so what was given follows within it.
    connected(connect, |transport| assert!(transport.is_open()));
    for target in ["/", "/there"] {
        let request = requests.recv().unwrap();
        assert_eq!((request.target(), request.headers("host")), (target, vec!["virtual.example"]));
        assert_eq!(request.headers("x-key"), ["secret"]);
        assert_eq!(request.headers("sec-websocket-protocol"), ["chat"]);
    }
    assert_eq!(hooks.try_iter().count(), 2);
}

#[test]
fn a_redirect_from_a_unix_socket_to_the_network_is_to_another_origin() {
    let folder = Folder::new("leads");
    let path = folder.socket("s");
    let there = answers(|request| {
        assert_eq!(request.headers("x-key"), Vec::<&str>::new());
        request.accepted("")
    });
    let _requests = serve(&path, move |_| {
        format!("HTTP/1.1 302 X\r\nLocation: {there}\r\nContent-Length: 0\r\n\r\n")
    });
    let connect = || Connect::new(format!("ws+unix:{path}")).header("X-Key", "secret");
    let error = refused(connect());
    assert!(error.to_string().contains("another origin"), "{error}");
    connected(connect().redirect_keeps(RedirectKeeps::Nothing), |transport| {
        assert!(transport.peer_addr().is_some());
    });
}

#[test]
fn a_socket_that_is_not_there_is_an_error_with_cause_and_cure_and_may_come() {
    let folder = Folder::new("absent");
    let path = folder.socket("s");
    let url = format!("ws+unix:{path}");
    let error = refused(Connect::new(&*url));
    let ConnectFault::UnixSocket { path: named, source } = error.fault() else {
        panic!("{error:?}")
    };
    assert_eq!((named.to_str(), source.kind()), (Some(&*path), std::io::ErrorKind::NotFound));
    assert!(error.is_transient() && error.to_string().contains("check the path"), "{error}");
    // One that was left behind.
    drop(UnixListener::bind(&path).unwrap());
    let error = refused(Connect::new(&*url));
    assert!(error.to_string().contains("nothing listens there"), "{error}");
    std::fs::remove_file(&path).unwrap();

    let (server_path, url) = (path.clone(), url.clone());
    run(async move {
        let mut attempts = 0;
        let mut reconnect = Reconnect::new(move || {
            attempts += 1;
            if attempts == 3 {
                serve(&server_path, |request| request.accepted(""));
            }
            Connect::new(&*url)
        })
        .backoff(Backoff::default().initial(Duration::from_millis(1)));
        reconnect.stream().await.unwrap();
    })
    .unwrap();
}

#[test]
fn a_socket_whose_queue_is_full_is_waited_for_within_the_time() {
    let folder = Folder::new("full");
    let path = folder.socket("s");
    let listener = {
        use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, bind, listen, socket};
        let socket = socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
        bind(&socket, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        listen(&socket, 0).unwrap();
        UnixListener::from(socket)
    };
    let _waiting = UnixStream::connect(&path).unwrap();
    let connect = || Connect::new(format!("ws+unix:{path}"));
    let limit = Duration::from_millis(50);
    patiently("a timeout while it connects", || {
        let error = refused(connect().handshake_timeout(limit));
        let ConnectFault::Timeout { stage, .. } = error.fault() else { panic!("{error:?}") };
        (*stage == ConnectStage::Connect).then_some(())
    });
    // And let in once there is room.
    let server = std::thread::spawn(move || {
        let _first = listener.accept().unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        let request = read_request(&mut stream);
        stream.write_all(request.accepted("").as_bytes()).unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
    });
    connected(connect().handshake_timeout(None), |transport| assert!(transport.is_open()));
    server.join().unwrap();
}

#[test]
fn what_a_unix_socket_does_not_have_is_refused_by_name() {
    let error =
        refused(Connect::new("ws+unix:/nowhere").local_address("127.0.0.1".parse().unwrap()));
    assert!(matches!(error.fault(), ConnectFault::Setting { setting: "local_address", .. }));
    if cfg!(not(feature = "_tls")) {
        let error = refused(Connect::new("wss+unix:/nowhere"));
        assert!(matches!(error.fault(), ConnectFault::TlsUnsupported), "{error:?}");
    }
    let error = refused(Connect::new("ws+unix://nowhere"));
    assert!(matches!(error.fault(), ConnectFault::Url(_)), "{error:?}");
}
