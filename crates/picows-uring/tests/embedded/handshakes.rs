//! Handshakes of an embedded worker's clients, and how they end.

use super::*;

/// What listens there has `script` done with each connection, on a thread of its own.
fn serve(script: impl Fn(TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    std::thread::spawn(move || listener.incoming().for_each(|it| script(it.expect("it is there"))));
    address
}

/// Reads until the client ends the connection, orderly or not; returns the number of bytes.
fn read_to_end(mut stream: TcpStream) -> usize {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    bytes.len()
}

/// Writes `answer` to each client, and waits until it goes.
fn answers(answer: &'static str) -> SocketAddr {
    serve(move |mut stream| {
        stream.write_all(answer.as_bytes()).expect("the client reads");
        read_to_end(stream);
    })
}

fn limit(connect: Connect) -> Connect {
    connect.handshake_timeout(LIMIT)
}

const LIMIT: Duration = Duration::from_millis(20);

#[test]
fn a_handshake_ends_with_its_timeout() {
    for driver in DRIVERS {
        let worker = worker(driver);
        let error = attempted(&worker, answers(""), limit).expect_err("it is silent");
        let stage = ConnectStage::Handshake;
        let is_late =
            |it: &_| matches!(it, ConnectFault::Timeout { stage: s, limit: LIMIT } if *s == stage);
        assert!(is_late(error.fault()), "{error}");
        assert!(error.is_transient());
    }
}

#[test]
fn an_answer_of_which_only_the_end_is_missing_beats_the_timeout() {
    let cut = ["HTTP/1.1 503 Busy\r\nContent-Length: 9\r\n\r\nso", "HTTP/1.1 503 Busy\r\nA: "];
    for driver in DRIVERS {
        for answer in cut {
            let worker = worker(driver);
            let error = attempted(&worker, answers(answer), limit).expect_err("it refuses");
            assert_eq!(error.response().map(|it| it.status().as_u16()), Some(503), "{error}");
        }
    }
}

#[test]
fn what_the_server_refuses_is_the_outcome() {
    for driver in DRIVERS {
        let server = workers(1).start(|_| Upgrade::not_found()).expect("a server");
        let worker = worker(driver);
        let error = attempted(&worker, address(&server), |it| it).expect_err("it refuses");
        assert_eq!(error.response().map(|it| it.status().as_u16()), Some(404), "{error}");
        let elsewhere =
            answers("HTTP/1.1 302 Found\r\nLocation: ws://elsewhere/\r\nContent-Length: 0\r\n\r\n");
        let error = attempted(&worker, elsewhere, |it| it).expect_err("it leads elsewhere");
        let ConnectFault::Redirect { location, .. } = error.fault() else { panic!("{error}") };
        assert_eq!(location, "ws://elsewhere/");
        let gone = serve(drop);
        let error = attempted(&worker, gone, |it| it).expect_err("it hangs up");
        assert!(matches!(error.fault(), ConnectFault::Disconnected(_)), "{error}");
    }
}

#[test]
fn what_cannot_be_begun_is_refused_at_once() {
    let worker = worker(Driver::Epoll);
    let (server, is_called) = (echo_server(), Rc::new(Cell::new(false)));
    let refused = |connect: Connect| {
        let called = Rc::clone(&is_called);
        let outcome = move |_| called.set(true);
        let error = worker.connect(connect, |_, _| EchoListener, outcome);
        error.expect_err("it makes no sense")
    };
    let error = refused(Connect::new("ws://localhost/"));
    assert!(matches!(error.fault(), ConnectFault::Setting { setting: "socket", .. }), "{error}");
    let socket = || TcpStream::connect(address(&server)).expect("it listens");
    let error = refused(Connect::new("http://a/").socket(socket()));
    assert!(matches!(error.fault(), ConnectFault::Url(_)), "{error}");
    if cfg!(not(feature = "_tls")) {
        let error = refused(Connect::new("wss://a/").socket(socket()));
        assert!(matches!(error.fault(), ConnectFault::TlsUnsupported), "{error}");
        assert!(error.to_string().contains("its feature `tls`"), "{error}");
    }
    let error = refused(Connect::new("ws://a/").socket(socket()).header("Upgrade", "x"));
    assert!(matches!(error.fault(), ConnectFault::Option(_)), "{error}");
    let error = refused(Connect::new("ws://a/").socket(socket()).handshake_timeout(Duration::ZERO));
    assert!(matches!(error.fault(), ConnectFault::Setting { .. }), "{error}");
    settle(&worker);
    assert!(!is_called.get(), "the outcome is for what was begun");
}

#[test]
fn an_attempt_that_is_given_up_ends_without_an_outcome() {
    for driver in DRIVERS {
        let (ends, ended) = channel();
        let address = serve(move |stream| ends.send(read_to_end(stream)).expect("the test waits"));
        let worker = worker(driver);
        // Before its first turn, and with the request on its way.
        for is_begun in [false, true] {
            let (attempt, outcome) = begin(&worker, address, |connect| connect, EchoListener);
            if is_begun {
                settle(&worker);
            }
            attempt.abandon();
            settle(&worker);
            assert_eq!(next(&ended) > 0, is_begun);
            assert_eq!(Rc::strong_count(&outcome), 1, "what was captured is dropped");
            assert!(outcome.borrow().is_none());
            assert_eq!(worker.stats().connections, 0);
        }
        // Behind its outcome, it is the caller's.
        let server = echo_server();
        let (attempt, outcome) =
            begin(&worker, common::address(&server), |connect| connect, EchoListener);
        run_until(&worker, || outcome.borrow().is_some());
        attempt.abandon();
        settle(&worker);
        assert!(outcome.take().expect("it is there").expect("it is accepted").is_open());
    }
}

#[test]
fn an_outcome_that_panics_costs_nothing_else() {
    for driver in DRIVERS {
        let (server, worker) = (echo_server(), worker(driver));
        let address = address(&server);
        let count = Rc::default();
        let other = connected(&worker, address, counting(&count, 2));
        let socket = TcpStream::connect(address).expect("it listens");
        let connect = Connect::new(format!("ws://{address}/")).socket(socket);
        let outcome = |_| panic!("of the outcome");
        worker.connect(connect, |_, _| EchoListener, outcome).expect("it begins");
        run_until(&worker, || worker.stats().stray_panics == 1);
        other.send_text("still here");
        run_until(&worker, || count.get() >= 2);
    }
}
