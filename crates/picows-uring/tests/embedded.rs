//! A worker in a loop of the application, which here is `poll`; on both drivers.

mod common;
#[path = "embedded/handshakes.rs"]
mod handshakes;
#[path = "embedded/listening.rs"]
mod listening;
#[path = "embedded/seams.rs"]
mod seams;

use common::*;
use picows_uring::{
    Attempt, CloseCode, Connect, ConnectError, ConnectFault, ConnectStage, DisconnectCause, Driver,
    EchoListener, Embedded, EmbeddedBuilder, Error, EventLoop, ListenAddress, Listener, Listening,
    MsgType, SendStatus, Server, ServerBuilder, ServerHandle, Transport, Turned, Upgrade,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const DRIVERS: [Driver; 2] = [Driver::IoUring, Driver::Epoll];

/// A worker on `driver`.
fn worker(driver: Driver) -> Embedded {
    build(driver, Embedded::builder())
}

#[track_caller]
fn build(driver: Driver, builder: EmbeddedBuilder) -> Embedded {
    let worker = builder.driver(driver).build().expect("the driver can be set up");
    assert_eq!(worker.driver(), driver);
    worker
}

/// Waits until the worker is to take a turn. A lost wake-up is the end of patience.
#[track_caller]
fn wait(worker: &Embedded) {
    let patience = Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
    let ready = uninterrupted(|| {
        poll(&mut [PollFd::new(worker, PollFlags::IN)], Some(&patience)).map_err(Into::into)
    });
    assert_eq!(ready.expect("it can be polled"), 1, "a wake-up was lost");
}

/// A loop: waits and takes turns, until something holds after one.
#[track_caller]
fn run_until(worker: &Embedded, mut holds: impl FnMut() -> bool) {
    let mut turned = worker.turn().expect("the ring is there");
    while !holds() {
        assert_ne!(turned, Turned::Done, "it goes on");
        if turned == Turned::Idle {
            wait(worker);
        }
        turned = worker.turn().expect("the ring is there");
    }
}

/// Whether the descriptor is readable now.
fn is_readable(worker: &Embedded) -> bool {
    let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut [PollFd::new(worker, PollFlags::IN)], Some(&zero)).expect("it can be polled") > 0
}

/// Takes turns until nothing is left to do, and nothing is signalled.
fn settle(worker: &Embedded) {
    while worker.turn().expect("the ring is there") != Turned::Idle || is_readable(worker) {}
}

fn echo_server() -> ServerHandle {
    workers(1).start(|_| Upgrade::accept(EchoListener)).expect("a server")
}

type Outcome = Rc<RefCell<Option<Result<Transport, ConnectError>>>>;

/// Begins a handshake with what listens at `address`.
fn begin(
    worker: &Embedded,
    address: SocketAddr,
    set: impl FnOnce(Connect) -> Connect,
    listener: impl Listener + 'static,
) -> (Attempt, Outcome) {
    let socket = TcpStream::connect(address).expect("it listens");
    let connect = set(Connect::new(format!("ws://{address}/")).socket(socket));
    let outcome = Outcome::default();
    let told = Rc::clone(&outcome);
    let attempt = worker
        .connect(connect, |_, _| listener, move |result| *told.borrow_mut() = Some(result))
        .expect("the settings make sense");
    (attempt, outcome)
}

/// What a handshake comes to.
#[track_caller]
fn attempted(
    worker: &Embedded,
    address: SocketAddr,
    set: impl FnOnce(Connect) -> Connect,
) -> Result<Transport, ConnectError> {
    let (_, outcome) = begin(worker, address, set, EchoListener);
    run_until(worker, || outcome.borrow().is_some());
    outcome.take().expect("it is there")
}

/// An open connection.
#[track_caller]
fn connected(
    worker: &Embedded,
    address: SocketAddr,
    listener: impl Listener + 'static,
) -> Transport {
    let (_, outcome) = begin(worker, address, |connect| connect, listener);
    run_until(worker, || outcome.borrow().is_some());
    outcome.take().expect("it is there").expect("it is accepted")
}

/// A listener that sends back what it gets, counts, and says so at `last`.
fn counting(count: &Rc<Cell<usize>>, last: usize) -> impl Listener + use<> {
    let count = Rc::clone(count);
    on_frame(move |transport, frame| {
        count.set(count.get() + 1);
        if count.get() < last {
            transport.send_like(frame, frame.payload());
        }
        Ok(())
    })
}

#[test]
fn messages_go_both_ways_in_a_loop_of_poll() {
    for driver in DRIVERS {
        let (server, worker) = (echo_server(), worker(driver));
        let count = Rc::default();
        let transport = connected(&worker, address(&server), counting(&count, 100));
        assert_eq!(transport.send(MsgType::Binary, noise(1, 1000)), SendStatus::Queued);
        run_until(&worker, || count.get() >= 100);
        transport.send_text("x".repeat(1 << 20));
        run_until(&worker, || count.get() >= 101);
        transport.disconnect();
        run_until(&worker, || transport.is_disconnected());
        assert_eq!(worker.stats().frames_sent, 101);
        server.stop().expect("it stops");
    }
}

fn one_turn() -> EmbeddedBuilder {
    Embedded::builder().turns_max(1)
}

/// Echoes on 64 connections, in a loop that does something after each call.
fn many(worker: &Embedded, address: SocketAddr, go_on: impl Fn(Turned)) {
    let counts: Vec<_> = (0..64).map(|_| Rc::new(Cell::new(0))).collect();
    let outcomes: Vec<_> = counts
        .iter()
        .map(|count| begin(worker, address, |connect| connect, counting(count, 20)).1)
        .collect();
    let mut started = 0;
    while counts.iter().any(|count| count.get() < 20) {
        go_on(worker.turn().expect("the ring is there"));
        for outcome in &outcomes {
            if let Some(result) = outcome.take() {
                result.expect("it is accepted").send_text("a");
                started += 1;
            }
        }
    }
    assert_eq!(started, 64);
}

#[test]
fn a_budget_of_one_turn_serves_many() {
    for driver in DRIVERS {
        let (server, worker) = (echo_server(), build(driver, one_turn()));
        many(&worker, address(&server), |turned| {
            if turned == Turned::Idle {
                wait(&worker);
            }
        });
    }
}

#[test]
fn a_loop_that_ignores_what_is_left_to_do_does_not_hang() {
    // More than one turn handles of a connection.
    const BURST: usize = 5000;
    for driver in DRIVERS {
        let server = workers(1).start(|_| {
            Upgrade::accept(on_frame(|transport, _| {
                assert!((0..BURST).all(|_| transport.send_text("").is_queued()));
                Ok(())
            }))
        });
        let (server, worker) = (server.expect("a server"), build(driver, one_turn()));
        let count = Rc::default();
        let transport = connected(&worker, address(&server), counting(&count, 0));
        transport.send_text("begin");
        let mut was_busy = false;
        while count.get() < BURST {
            wait(&worker);
            was_busy |= worker.turn().expect("the ring is there") == Turned::Busy;
        }
        assert!(was_busy, "there was something to ignore");
        many(&worker, address(&echo_server()), |_| wait(&worker));
    }
}

#[test]
fn a_post_of_another_thread_wakes_a_worker_that_sleeps() {
    for driver in DRIVERS {
        let (server, worker) = (echo_server(), worker(driver));
        let count = Rc::default();
        let transport = connected(&worker, address(&server), counting(&count, 0));
        settle(&worker);
        let remote = transport.remote();
        let poster = std::thread::spawn(move || remote.send(MsgType::Text, "from elsewhere"));
        wait(&worker);
        poster.join().expect("it posts").expect("there is room");
        run_until(&worker, || count.get() >= 1);
    }
}

#[test]
fn no_post_of_another_thread_is_lost() {
    // For each driver.
    const POSTS: u64 = 10_000;
    for driver in DRIVERS {
        let received = Arc::new(AtomicU64::new(0));
        let seen = Arc::clone(&received);
        let server = workers(1).start(move |_| {
            let seen = Arc::clone(&seen);
            Upgrade::accept(on_frame(move |_, _| {
                seen.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }))
        });
        let (server, worker) = (server.expect("a server"), worker(driver));
        let transport = connected(&worker, address(&server), EchoListener);
        let (remote, stopper) = (transport.remote(), worker.stopper());
        let poster = std::thread::spawn(move || {
            let pauses = noise(7, POSTS as usize);
            for (number, pause) in (1..=POSTS).zip(pauses) {
                remote.send(MsgType::Binary, "a").expect("there is room");
                // Each is sent before the next is posted, or the next would wake the worker as well.
                let start = Instant::now();
                while received.load(Ordering::Relaxed) < number {
                    assert!(start.elapsed() < PATIENCE, "post {number} was lost");
                    std::thread::yield_now();
                }
                // Later or earlier, while the worker is about to sleep.
                (0..u32::from(pause) * 8).for_each(|_| std::hint::spin_loop());
            }
            stopper.stop();
        });
        while worker.turn().expect("the ring is there") != Turned::Done {
            wait(&worker);
        }
        poster.join().expect("no post was lost");
        drop(server);
    }
}

#[test]
fn a_turn_inside_of_a_turn_is_refused() {
    for driver in DRIVERS {
        let (server, worker) = (echo_server(), Rc::new(worker(driver)));
        let told = Rc::new(RefCell::new(None));
        let (inner, seen) = (Rc::clone(&worker), Rc::clone(&told));
        let transport = connected(
            &worker,
            address(&server),
            on_frame(move |transport, _| {
                transport.send_text("more");
                let queued = transport.queued_amount();
                inner.flush();
                assert_eq!(transport.queued_amount(), queued, "a flush in a turn does nothing");
                *seen.borrow_mut() = Some(inner.turn());
                let refused = inner.listen(Server::builder(), |_| Upgrade::not_found());
                assert!(matches!(refused, Err(Error::InsideTurn)), "{refused:?}");
                transport.disconnect();
                Ok(())
            }),
        );
        transport.send_text("begin");
        run_until(&worker, || transport.is_disconnected());
        let refused = told.take().expect("it was called").expect_err("inside of a turn");
        assert!(matches!(refused, Error::InsideTurn), "{refused}");
        assert!(refused.to_string().contains("listen was called in a callback"), "{refused}");
    }
}

#[test]
fn connections_are_begun_and_given_up_in_callbacks() {
    for driver in DRIVERS {
        let (server, worker) = (echo_server(), Rc::new(worker(driver)));
        let address = address(&server);
        // Its connections are dropped with it, and their listeners with them.
        let (inner, opened) = (Rc::downgrade(&worker), Outcome::default());
        let seen = Rc::clone(&opened);
        let first = connected(
            &worker,
            address,
            on_frame(move |_, _| {
                let inner = inner.upgrade().expect("it takes a turn");
                let (given_up, outcome) = begin(&inner, address, |connect| connect, EchoListener);
                given_up.abandon();
                assert!(outcome.borrow().is_none());
                let socket = TcpStream::connect(address).expect("it listens");
                let connect = Connect::new(format!("ws://{address}/")).socket(socket);
                let seen = Rc::clone(&seen);
                let outcome = move |result| *seen.borrow_mut() = Some(result);
                inner.connect(connect, |_, _| EchoListener, outcome).expect("it begins");
                Ok(())
            }),
        );
        first.send_text("begin");
        run_until(&worker, || opened.borrow().is_some());
        assert!(opened.take().expect("it is there").is_ok());
    }
}

#[test]
fn the_hook_is_called_once_for_each_sleep_and_outside_of_turns_only() {
    for driver in DRIVERS {
        let (server, worker) = (echo_server(), Rc::new(worker(driver)));
        let count = Rc::default();
        let transport = connected(&worker, address(&server), counting(&count, 3));
        settle(&worker);
        transport.send_text("without a hook");
        assert!(is_readable(&worker), "the descriptor says so");
        run_until(&worker, || count.get() >= 3);
        settle(&worker);

        let (calls, inner) = (Rc::new(Cell::new(0)), Rc::downgrade(&worker));
        let counted = Rc::clone(&calls);
        let echoing = transport.clone();
        worker.on_work(move || {
            counted.set(counted.get() + 1);
            let refused = inner.upgrade().expect("it is there").turn();
            assert!(matches!(refused, Err(Error::InsideTurn)), "{refused:?}");
            // Queues more, which is announced already.
            echoing.send_text("from the hook");
        });
        count.set(0);
        transport.send_text("a");
        transport.send_text("b");
        assert_eq!(calls.get(), 1);
        assert!(!is_readable(&worker), "the hook takes the place of the descriptor");
        run_until(&worker, || count.get() >= 3);
        settle(&worker);
        assert_eq!(calls.get(), 1, "none in a turn, though echoes were sent");
        transport.send_text("c");
        assert_eq!(calls.get(), 2);
        assert_eq!(worker.stats().stray_panics, 0);
        worker.on_work(|| panic!("of the hook"));
        settle(&worker);
        transport.send_text("d");
        settle(&worker);
        assert_eq!(worker.stats().stray_panics, 1, "it is counted, and no more");
    }
}

#[test]
fn a_flush_sends_what_is_queued_and_the_close_without_a_turn() {
    for driver in DRIVERS {
        let (events, told) = channel();
        let server = workers(1).start(move |_| Upgrade::accept(recorder(&events, |_, _| Ok(()))));
        let (server, worker) = (server.expect("a server"), worker(driver));
        let transport = connected(&worker, address(&server), EchoListener);
        assert_eq!(next(&told), Event::Connected);
        transport.send_text("at once");
        worker.flush();
        assert_eq!(next(&told), Event::Frame(MsgType::Text, b"at once".to_vec()));
        assert_eq!(transport.buffered_amount(), 0);
        worker.flush();
        transport.send_close(CloseCode::NORMAL, "bye");
        worker.flush();
        let close = Event::Frame(MsgType::Close, close_payload(1000, "bye"));
        assert_eq!(next(&told), close);
        assert!(!transport.is_disconnected(), "that is for a turn");
        run_until(&worker, || transport.is_disconnected());
    }
}

#[test]
fn a_flush_of_more_than_the_socket_takes_leaves_the_rest_to_turns() {
    for driver in DRIVERS {
        // The server reads nothing while its first callback waits.
        let (entered, has_entered) = channel();
        let (release, released) = channel::<()>();
        let released = Arc::new(Mutex::new(released));
        let server = workers(1).start(move |_| {
            let (entered, released) = (entered.clone(), Arc::clone(&released));
            Upgrade::accept(on_frame(move |transport, frame| {
                let _ = entered.send(());
                let _ = released.lock().expect("no callback panics").recv();
                transport.send_like(frame, frame.payload());
                Ok(())
            }))
        });
        let (server, worker) = (server.expect("a server"), worker(driver));
        let count = Rc::default();
        let transport = connected(&worker, address(&server), counting(&count, 0));
        transport.send_text("before it");
        worker.flush();
        has_entered.recv_timeout(PATIENCE).expect("the server has it");
        transport.send(MsgType::Binary, noise(3, 9 << 20));
        transport.send_text("behind it");
        worker.flush();
        assert!(transport.buffered_amount() > 0, "no socket takes so much");
        drop(release);
        worker.flush();
        run_until(&worker, || count.get() >= 3);
        assert_eq!(transport.buffered_amount(), 0);
    }
}

#[test]
fn dropping_it_ends_its_connections() {
    for driver in DRIVERS {
        let (events, told) = channel();
        let server = workers(1).start(move |_| Upgrade::accept(recorder(&events, |_, _| Ok(()))));
        let (server, worker) = (server.expect("a server"), worker(driver));
        let (ours, seen) = channel();
        let transport = connected(&worker, address(&server), recorder(&ours, |_, _| Ok(())));
        let (_, undone) = begin(&worker, address(&server), |connect| connect, EchoListener);
        drop(worker);
        assert_eq!(next(&seen), Event::Connected);
        assert!(matches!(next(&seen), Event::Disconnected(Some(DisconnectCause::Stopped), _)));
        assert_eq!(transport.send_text("late"), SendStatus::Closed);
        let undone = undone.take().expect("it is reported").expect_err("it was not begun");
        assert!(matches!(undone.fault(), ConnectFault::Disconnected(None)), "{undone}");
        assert_eq!(next(&told), Event::Connected);
        let close = close_payload(1001, "server is shutting down");
        assert_eq!(next(&told), Event::Frame(MsgType::Close, close), "peers get CLOSE");
    }
}

#[test]
fn a_stopped_worker_is_done() {
    for driver in DRIVERS {
        let worker = worker(driver);
        assert!(is_readable(&worker), "the first turn is due");
        assert_eq!(worker.turn().expect("a turn"), Turned::Idle);
        assert!(!is_readable(&worker), "nothing is to be done");
        let stopper = worker.stopper();
        std::thread::spawn(move || stopper.stop());
        wait(&worker);
        while worker.turn().expect("a turn") != Turned::Done {}
        assert_eq!(worker.turn().expect("another"), Turned::Done, "and stays so");
    }
}

#[test]
fn a_second_worker_of_a_thread_is_refused() {
    for driver in DRIVERS {
        let first = worker(driver);
        let second = Embedded::builder().build().expect_err("a second one");
        assert!(matches!(second, Error::SecondWorker), "{second}");
        let hosted = picows_uring::run(async {}).expect_err("a hosted one");
        assert!(matches!(hosted, Error::SecondWorker), "{hosted}");
        assert!(hosted.to_string().starts_with("a worker runs on this thread already"), "{hosted}");
        drop(first);
        drop(worker(driver));
        let inside = picows_uring::run(async { Embedded::builder().build().map(drop) });
        let inside = inside.expect("the loop runs").expect_err("one inside of it");
        assert!(matches!(inside, Error::SecondWorker), "{inside}");
    }
}

#[test]
fn a_runtime_that_was_built_before_does_not_run_beside_it() {
    let runtime = picows_uring::Runtime::builder().build().expect("a runtime");
    let _worker = worker(Driver::Epoll);
    let refused = runtime.block_on(async {}).expect_err("beside it");
    assert!(matches!(refused, Error::SecondWorker), "{refused}");
}

#[test]
fn what_needs_a_loop_of_ours_is_an_error_beside_it() {
    for driver in DRIVERS {
        let _worker = worker(driver);
        let refused = picows_uring::spawn(async {}).expect_err("no task runs here");
        assert!(refused.to_string().contains("embedded"), "{refused}");
        let connecting = Connect::new("ws://127.0.0.1:1/").connect(EchoListener);
        let mut connecting = std::pin::pin!(connecting);
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let std::task::Poll::Ready(outcome) = connecting.as_mut().poll(&mut context) else {
            panic!("it is refused at once");
        };
        let error = outcome.expect_err("no loop of ours");
        assert!(matches!(error.fault(), ConnectFault::NoRuntime), "{error}");
        assert!(error.to_string().contains("Embedded::connect"), "{error}");
    }
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let setting = |builder: EmbeddedBuilder| match builder.build() {
        Err(Error::Config { setting, .. }) => setting,
        outcome => panic!("{outcome:?}"),
    };
    assert_eq!(setting(Embedded::builder().turns_max(0)), "turns_max");
    assert_eq!(setting(Embedded::builder().memory_limit(0)), "memory_limit");
    let spread = Embedded::builder().drain_spread(Duration::from_secs(1));
    assert_eq!(setting(spread), "drain_spread");
}
