//! Calls that would block a runtime: errors with a cure, and never a panic.

mod common;

use common::{Client, address, eventually, on_frame, workers};
use picows_uring::{EchoListener, Error, Runtime, Server, Upgrade, run};
use std::sync::Mutex;
use std::time::Duration;

/// A loop of tokio alone.
fn tokio_runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("it can be made")
}

#[track_caller]
fn is_refused<T>(outcome: Result<T, Error>) {
    let Err(error) = outcome else { panic!("it was run") };
    assert!(matches!(error, Error::InsideRuntime), "{error}");
    let text = error.to_string();
    assert!(text.contains("a thread of its own") && text.contains("spawn_blocking"), "{text}");
}

#[test]
fn a_loop_inside_of_tokio_is_an_error() {
    let outer = Runtime::builder().build().unwrap();
    let dedicated = Runtime::builder().build().unwrap();
    let dropped = Runtime::builder().build().unwrap();
    tokio_runtime().block_on(async {
        is_refused(run(async { 1 }));
        is_refused(Runtime::builder().build());
        is_refused(outer.block_on(async { 1 }));
        is_refused(dedicated.run_dedicated(async { Ok::<(), Error>(()) }));
        drop(dropped);
        // The task goes on.
        tokio::task::yield_now().await;
        tokio::time::sleep(Duration::from_micros(1)).await;
    });
    assert_eq!(run(async { 2 }).unwrap(), 2);
}

#[test]
fn a_loop_inside_of_a_task_of_tokio_is_an_error() {
    tokio_runtime().block_on(async {
        tokio::spawn(async { is_refused(run(async { 1 })) }).await.unwrap();
        // Here tokio bounds nothing, which does not make it right.
        tokio::task::unconstrained(async { is_refused(run(async { 1 })) }).await;
        let local = tokio::task::LocalSet::new();
        local.run_until(async { is_refused(run(async { 1 })) }).await;
    });
}

#[test]
fn a_loop_inside_of_a_loop_is_an_error() {
    let seen = run(async {
        is_refused(run(async { 1 }));
        picows_uring::spawn(async { is_refused(run(async { 1 })) }).unwrap().await
    });
    assert!(seen.unwrap().is_ok());
    for dedicated in [false, true] {
        let server = workers(1).dedicated(dedicated).start(move |_| {
            Upgrade::accept(on_frame(move |transport, frame| {
                if !dedicated {
                    is_refused(run(async { 1 }));
                }
                transport.send_like(frame, frame.payload());
                Ok(())
            }))
        });
        let server = server.unwrap();
        Client::upgrade(address(&server)).echo(b"from a callback");
        assert_eq!(server.stop().unwrap().listener_errors, 0);
    }
}

#[test]
fn a_loop_runs_on_a_thread_that_may_be_blocked() {
    let runtime = tokio_runtime();
    let handle = runtime.handle().clone();
    let blocking = runtime.block_on(async {
        tokio::task::spawn_blocking(|| run(async { 1 }).unwrap()).await.unwrap()
    });
    let thread = std::thread::spawn(|| run(async { 2 }).unwrap()).join().unwrap();
    // Known on this thread, but not at work.
    let entered = {
        let _guard = handle.enter();
        run(async { 3 }).unwrap()
    };
    assert_eq!((blocking, thread, entered), (1, 2, 3));
}

#[test]
fn a_server_inside_of_tokio_is_served_and_stopped() {
    tokio_runtime().block_on(async {
        let server = workers(2).start(|_| Upgrade::accept(EchoListener)).unwrap();
        Client::upgrade(address(&server)).echo(b"hello");
        server.stop().unwrap();
        let server = workers(1).start(|_| Upgrade::accept(EchoListener)).unwrap();
        let stopper = server.stopper();
        stopper.stop();
        server.join().unwrap();
        // An error of the start comes before anything blocks.
        let refused = Server::builder().listen("nowhere").serve(|_| Upgrade::not_found());
        assert!(refused.is_err());
        drop(workers(1).start(|_| Upgrade::accept(EchoListener)).unwrap());
    });
}

#[test]
fn a_worker_that_is_to_wait_for_itself_says_so_and_stops() {
    for dedicated in [false, true] {
        let (handles, taken) = std::sync::mpsc::channel();
        let (outcomes, told) = std::sync::mpsc::channel();
        let taken = Mutex::new(Some(taken));
        let server = workers(1).dedicated(dedicated).start(move |_| {
            let taken = taken.lock().expect("one at a time").take();
            let outcomes = outcomes.clone();
            Upgrade::accept(on_frame(move |_, _| {
                if let Some(taken) = &taken {
                    let server: picows_uring::ServerHandle = taken.recv()?;
                    let _ = outcomes.send(server.stop().map(drop));
                }
                Ok(())
            }))
        });
        let server = server.unwrap();
        let monitor = server.monitor();
        let mut client = Client::upgrade(address(&server));
        eventually(&server, "it is upgraded", |stats| stats.upgraded == 1);
        handles.send(server).unwrap();
        client.send_text("stop");
        let error = common::next(&told).unwrap_err().to_string();
        assert!(error.contains("use Stopper::stop"), "{error}");
        assert_eq!(client.receive().head.msg_type, picows_uring::MsgType::Close);
        drop(client);
        common::patiently("it ends", || (!monitor.is_running()).then_some(()));
    }
}
