//! Listening sockets of an embedded worker.

use super::*;

fn listen(worker: &Embedded, name: &Rc<str>) -> Listening {
    let name = Rc::clone(name);
    let builder = Server::builder().listen("127.0.0.1:0");
    let listening = worker.listen(builder, move |_| {
        // The factory stays on the thread, as what it makes does.
        let name = Rc::clone(&name);
        Upgrade::accept(on_frame(move |transport, frame| {
            transport.send_text(format!("{name}: {}", frame.text()?));
            Ok(())
        }))
    });
    listening.expect("a port is free")
}

fn port(listening: &Listening) -> SocketAddr {
    match listening.addresses() {
        [ListenAddress::Tcp(address)] => *address,
        addresses => panic!("{addresses:?}"),
    }
}

#[test]
fn it_listens_and_serves_beside_its_clients() {
    for driver in DRIVERS {
        let worker = worker(driver);
        settle(&worker);
        let listening = listen(&worker, &Rc::from("server"));
        assert!(is_readable(&worker), "a turn is due");
        let told = Rc::new(RefCell::new(String::new()));
        let heard = Rc::clone(&told);
        let transport = connected(
            &worker,
            port(&listening),
            on_frame(move |_, frame| {
                *heard.borrow_mut() = frame.text()?.to_owned();
                Ok(())
            }),
        );
        transport.send_text("hello");
        run_until(&worker, || !told.borrow().is_empty());
        assert_eq!(told.take(), "server: hello");
        assert_eq!(worker.stats().connections, 2, "both ends");
        let stopper = worker.stopper();
        stopper.stop();
        while worker.turn().expect("the ring is there") != Turned::Done {
            wait(&worker);
        }
        assert!(TcpStream::connect(port(&listening)).is_err(), "it listens no more");
    }
}

#[test]
fn each_listening_socket_has_a_factory_of_its_own_and_is_closed_by_itself() {
    for driver in DRIVERS {
        let worker = worker(driver);
        let (first, second) = (listen(&worker, &"first".into()), listen(&worker, &"second".into()));
        let (gone, stays) = (port(&first), port(&second));
        let (closes, closed) = channel();
        let (close, is_done) = (Arc::new(AtomicU64::new(0)), worker.stopper());
        let wish = Arc::clone(&close);
        let client = std::thread::spawn(move || {
            let (mut one, mut other) = (Client::upgrade(gone), Client::upgrade(stays));
            one.send_text("a");
            one.expect_text("first: a");
            other.send_text("b");
            other.expect_text("second: b");
            wish.store(1, Ordering::Release);
            // Wakes the loop, which closes the first.
            other.send_text("close");
            other.expect_text("second: close");
            next(&closed);
            patiently("refused", || TcpStream::connect(gone).is_err().then_some(()));
            one.send_text("c");
            one.expect_text("first: c");
            Client::upgrade(stays).send_text("d");
            is_done.stop();
        });
        let mut first = Some(first);
        while worker.turn().expect("the ring is there") != Turned::Done {
            if close.load(Ordering::Acquire) == 1
                && let Some(first) = first.take()
            {
                first.close();
                closes.send(()).expect("the client waits");
            }
            wait(&worker);
        }
        client.join().expect("all is served");
    }
}

#[test]
fn settings_of_threads_and_of_the_worker_are_refused_for_a_listening_socket() {
    let worker = Embedded::builder().build().expect("a worker");
    let refused = |builder: ServerBuilder| {
        let outcome = worker.listen(builder, |_| Upgrade::not_found());
        match outcome.expect_err("it is no setting of a listening socket") {
            Error::Config { setting, .. } => setting,
            error => panic!("{error}"),
        }
    };
    let builder = || Server::builder().listen("127.0.0.1:0");
    let second = Duration::from_secs(1);
    for (builder, setting) in [
        (builder().workers(1), "workers"),
        (builder().pin(true), "pin"),
        (builder().dedicated(true), "dedicated"),
        (builder().event_loop(EventLoop::Tokio), "event_loop"),
        (builder().min_wait(second), "min_wait"),
        (builder().napi_busy_poll(second), "napi_busy_poll"),
        (builder().busy_poll(second), "busy_poll"),
        (builder().driver(Driver::Epoll), "driver"),
        (builder().drain_timeout(second), "drain_timeout"),
        (builder().drain_spread(second), "drain_spread"),
        (builder().slow_callback(second), "slow_callback"),
        (builder().release_memory_after(second), "release_memory_after"),
        (builder().memory_limit(1 << 30), "memory_limit"),
        (builder().backlog(0), "backlog"),
    ] {
        assert_eq!(refused(builder), setting);
    }
    let address = worker.listen(Server::builder().listen("nonsense"), |_| Upgrade::not_found());
    assert!(matches!(address, Err(Error::Address { .. })), "{address:?}");
}
