//! Factories of workers and of listen addresses, and addresses that come and go.

mod common;

use common::{Client, address, eventually, workers};
use http::StatusCode;
use picows_uring::{
    EchoListener, Error, Listen, ListenAddress, Server, ServerHandle, Upgrade, UpgradeRequest,
    UpgradeResponse,
};
use std::cell::Cell;
use std::net::SocketAddr;
use std::panic::resume_unwind;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

fn says(text: &'static str) -> impl Fn(&UpgradeRequest) -> Upgrade + Send + Sync + 'static {
    move |_| Upgrade::respond(UpgradeResponse::text(StatusCode::OK, text))
}

fn tcp(address: &ListenAddress) -> SocketAddr {
    match address {
        ListenAddress::Tcp(address) | ListenAddress::Tls(address) => *address,
        other => panic!("{other}"),
    }
}

fn body(address: SocketAddr) -> String {
    Client::connect(address).ask("/", "").body
}

#[test]
fn each_worker_has_a_factory_with_what_stays_on_its_thread() {
    for is_dedicated in [false, true] {
        let numbers = Arc::new(Mutex::new(Vec::new()));
        let made = Arc::clone(&numbers);
        let server = workers(2).dedicated(is_dedicated).start_local(move |worker| {
            made.lock().expect("no panic").push(worker.number());
            let count = Rc::new(Cell::new(0));
            move |_: &UpgradeRequest| {
                count.set(count.get() + 1);
                let text = format!("{} {}", worker.number(), count.get());
                Upgrade::respond(UpgradeResponse::text(StatusCode::OK, text))
            }
        });
        let server = server.expect("it starts");
        let mut numbers = std::mem::take(&mut *numbers.lock().expect("no panic"));
        numbers.sort_unstable();
        assert_eq!(numbers, [0, 1]);
        let mut answers: Vec<_> = (0..20).map(|_| body(address(&server))).collect();
        answers.sort();
        answers.dedup();
        assert_eq!(answers.len(), 20, "each worker counts by itself: {answers:?}");
        server.stop_within(Duration::ZERO).expect("no worker has failed");
    }
}

#[test]
fn a_factory_is_dropped_on_its_thread() {
    struct OnThread(Rc<()>, std::thread::ThreadId, std::sync::mpsc::Sender<bool>);
    impl Drop for OnThread {
        fn drop(&mut self) {
            let _ = self.2.send(self.1 == std::thread::current().id());
        }
    }
    let (ends, dropped) = channel();
    let server = workers(2).start_local(move |_| {
        let state = OnThread(Rc::new(()), std::thread::current().id(), ends.clone());
        move |_: &UpgradeRequest| {
            let _ = Rc::clone(&state.0);
            Upgrade::accept(EchoListener)
        }
    });
    server.expect("it starts").stop().expect("no worker has failed");
    assert_eq!(dropped.iter().collect::<Vec<_>>(), [true, true]);
}

#[test]
fn making_a_factory_may_start_tasks() {
    let (sender, started) = channel();
    let server = workers(1).start_local(move |worker| {
        let sender = sender.clone();
        let task = picows_uring::spawn(async move {
            tokio::task::yield_now().await;
            let _ = sender.send(worker.number());
        });
        drop(task.expect("a loop runs there"));
        says("it")
    });
    let server = server.expect("it starts");
    assert_eq!(common::next(&started), 0);
    server.stop_within(Duration::ZERO).expect("no worker has failed");
}

#[test]
fn a_factory_that_cannot_be_made_is_an_error_of_the_start() {
    let tries = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&tries);
    let started = workers(2).start_local(move |worker| {
        count.fetch_add(1, Ordering::SeqCst);
        if worker.number() == 1 {
            resume_unwind(Box::new("no database"));
        }
        says("it")
    });
    let Err(Error::Worker { worker: 1, fault }) = started else { panic!("{started:?}") };
    assert!(fault.contains("no database"), "{fault}");
    assert_eq!(tries.load(Ordering::SeqCst), 2);
}

/// A server with two addresses, the second with a factory of its own.
fn two_addresses() -> ServerHandle {
    let second = Listen::on("127.0.0.1:0").factory(says("second"));
    workers(2).listen(second).start(says("first")).expect("it starts")
}

#[test]
fn each_address_may_have_a_factory_of_its_own() {
    let server = two_addresses();
    let [first, second] = [0, 1].map(|index| tcp(&server.addresses()[index]));
    assert_eq!([body(first), body(second)], ["first", "second"]);
    server.stop_within(Duration::ZERO).expect("no worker has failed");
}

#[test]
fn an_address_may_have_local_factories() {
    let local = Listen::on("127.0.0.1:0").factory_local(|worker| {
        let count = Rc::new(Cell::new(0));
        move |_: &UpgradeRequest| {
            count.set(count.get() + 1);
            let text = format!("{} {}", worker.number(), count.get());
            Upgrade::respond(UpgradeResponse::text(StatusCode::OK, text))
        }
    });
    let server = workers(1).listen(local).start(says("first")).expect("it starts");
    let second = tcp(&server.addresses()[1]);
    assert_eq!([body(second), body(second)], ["0 1", "0 2"]);
    server.stop_within(Duration::ZERO).expect("no worker has failed");
}

#[test]
fn an_address_may_have_settings_and_limits_of_its_own() {
    let second =
        Listen::on("127.0.0.1:0").settings(|it| it.max_connections(1).max_header_size(200));
    let builder = workers(1).max_connections(2).listen(second);
    let server = builder.start(|_| Upgrade::accept(EchoListener)).expect("it starts");
    let [first, second] = [0, 1].map(|index| tcp(&server.addresses()[index]));
    let lines = format!("X-Long: {}\r\n", "x".repeat(100));
    assert_eq!(Client::connect(second).ask("/", &lines).status, 431);
    let mut clients = [first, first, second].map(Client::upgrade);
    for address in [first, second] {
        let refused = Client::connect(address).ask("/", "");
        assert_eq!((refused.status, &*refused.body), (503, "too many connections\n"));
    }
    let mut long = Client::connect(first);
    assert_eq!(long.ask("/", &lines).status, 503, "full, and not too long");
    clients.iter_mut().for_each(|client| client.echo(b"served"));
    server.stop_within(Duration::ZERO).expect("no worker has failed");
}

#[test]
fn settings_of_the_server_are_refused_for_an_address() {
    for (change, setting) in [
        ((|it| it.workers(2)) as fn(picows_uring::ServerBuilder) -> _, "workers"),
        (|it| it.release_memory_after(Duration::ZERO), "release_memory_after"),
        (|it| it.listen("127.0.0.1:0"), "listen"),
    ] {
        let listen = Listen::on("127.0.0.1:0").settings(change);
        let started = Server::builder().listen(listen).start(says("it"));
        let Err(error @ Error::Config { .. }) = started else { panic!("{started:?}") };
        assert!(error.to_string().contains(setting), "{error}");
    }
}

#[test]
fn an_address_is_added_and_closed_while_the_server_runs() {
    let mut server = two_addresses();
    let added =
        server.listen(Listen::on("127.0.0.1:0").factory(says("third"))).expect("it listens");
    let usual = server.listen("127.0.0.1:0").expect("it listens");
    assert_eq!(server.addresses().len(), 4);
    assert_eq!(server.addresses()[2..], [&added[..], &usual[..]].concat());
    for _ in 0..10 {
        assert_eq!([body(tcp(&added[0])), body(tcp(&usual[0]))], ["third", "first"]);
    }
    server.close_listener(&added[0]).expect("it listens there");
    let again =
        server.listen(Listen::on("127.0.0.1:0").factory(says("fourth"))).expect("it listens");
    for _ in 0..10 {
        assert_eq!([body(tcp(&again[0])), body(tcp(&usual[0]))], ["fourth", "first"]);
    }
    server.close_listener(&usual[0]).expect("it listens there");
    let first = tcp(&server.addresses()[0]);
    assert_eq!(body(first), "first");
    server.stop_within(Duration::ZERO).expect("no worker has failed");
}

#[test]
fn an_address_in_use_is_an_error_and_changes_nothing() {
    let mut server = two_addresses();
    let taken = server.addresses()[0].clone();
    let error = server.listen(tcp(&taken).to_string()).expect_err("it is taken");
    assert!(matches!(error, Error::Listen { .. }), "{error}");
    assert_eq!(server.addresses().len(), 2);
    assert_eq!(body(tcp(&taken)), "first");
    server.stop_within(Duration::ZERO).expect("no worker has failed");
}

#[test]
fn a_factory_that_cannot_be_made_later_costs_its_address_alone() {
    let mut server = workers(1).start(|_| Upgrade::accept(EchoListener)).expect("it starts");
    let mut neighbour = Client::upgrade(address(&server));
    let listen = Listen::on("127.0.0.1:0").factory_local(|_| {
        resume_unwind(Box::new("on purpose"));
        #[expect(unreachable_code)]
        says("never")
    });
    server.listen(listen).expect("it listens");
    eventually(&server, "it was tried", |stats| stats.listener_errors == 1);
    neighbour.echo(b"still served");
    server.stop_within(Duration::ZERO).expect("no worker has failed");
}
