//! Tasks that panic: reported to the task that awaits them, or else logged and counted; and the
//! connection of a stream's handler ends with 1011.

mod common;

use common::{Client, address, eventually, on_frame, run, workers};
use picows_uring::{
    CloseCode, Connect, DisconnectCause, EchoListener, Upgrade, WorkerState, spawn,
};
use std::fmt::{Debug, Write};
use std::panic::resume_unwind;
use std::sync::{Mutex, OnceLock};
use std::time::Duration;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber, span};

/// What was logged at WARN and above, by any thread.
static LOG: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Log;

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = write!(self.0, "{}={value:?} ", field.name());
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN
    }
    fn event(&self, event: &Event<'_>) {
        let mut line = Line(format!("{} ", event.metadata().level()));
        event.record(&mut line);
        LOG.lock().expect("no panic while it is held").push(line.0);
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

fn log() {
    static ONCE: OnceLock<()> = OnceLock::new();
    ONCE.get_or_init(|| tracing::subscriber::set_global_default(Log).expect("it is the only one"));
}

/// Lines with this text in them.
fn logged(text: &str) -> Vec<String> {
    let lines = LOG.lock().expect("no panic while it is held");
    lines.iter().filter(|line| line.contains(text)).cloned().collect()
}

/// A panic without a line of the panic hook.
fn bang(text: &'static str) -> ! {
    resume_unwind(Box::new(text))
}

#[test]
fn a_panic_of_a_task_that_no_other_awaits_is_logged_and_counted() {
    log();
    let server = workers(1)
        .start(|_| {
            Upgrade::accept(on_frame(|transport, frame| {
                drop(spawn(async { bang("alone in a task") })?);
                transport.send_like(frame, frame.payload());
                Ok(())
            }))
        })
        .unwrap();
    let mut client = Client::upgrade(address(&server));
    for count in 1..=3 {
        client.echo(b"start one");
        eventually(&server, "it is counted", |stats| stats.task_panics == count);
    }
    let lines = logged("alone in a task");
    // Limited: each message of a peer may cause one.
    assert!((1..=3).contains(&lines.len()), "{lines:?}");
    assert!(lines[0].starts_with("ERROR "), "{lines:?}");
    assert!(lines[0].contains("tests/task_panics.rs:"), "it says where: {lines:?}");
    server.stop_within(Duration::ZERO).unwrap();
}

#[test]
fn a_panic_of_a_task_that_is_awaited_is_its_outcome_and_not_logged() {
    log();
    let text = run(async {
        let first = spawn(async { bang("awaited by another") }).unwrap();
        // Polled before the other runs.
        first.await.unwrap_err().to_string()
    });
    assert_eq!(text.unwrap(), "the task did not finish: panic: awaited by another");
    assert!(logged("awaited by another").is_empty());
}

#[test]
fn a_panic_of_a_task_that_was_given_up_is_logged() {
    log();
    run(async {
        let task = spawn(async {
            tokio::task::yield_now().await;
            bang("given up")
        });
        let mut task = task.unwrap();
        // Awaited once, and then not any more.
        let waits = std::future::poll_fn(|context| {
            let polled = std::pin::Pin::new(&mut task).poll(context);
            std::task::Poll::Ready(polled.is_pending())
        });
        assert!(waits.await);
        for _ in 0..4 {
            tokio::task::yield_now().await;
        }
        assert!(logged("given up").is_empty(), "it may yet be awaited");
        drop(task);
        assert_eq!(logged("given up").len(), 1);
    })
    .unwrap();
}

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            bang("in a drop");
        }
    }
}

#[test]
fn what_a_task_holds_may_panic_when_it_is_dropped() {
    log();
    let stats = run(async {
        // Its result, which is never taken; what it held; and what it holds when it is aborted.
        drop(spawn(async { Bomb }).unwrap());
        let held = Bomb;
        let held = spawn(async move {
            let _held = &held;
        });
        // What was captured is dropped in the last poll of an async block.
        let failed = held.unwrap().await.unwrap_err().to_string();
        assert!(failed.contains("in a drop"), "{failed}");
        let aborted = Bomb;
        let aborted = spawn(async move {
            let _aborted = aborted;
            std::future::pending::<()>().await;
        });
        let aborted = aborted.unwrap();
        tokio::task::yield_now().await;
        aborted.abort();
        assert!(aborted.await.is_err());
        spawn(async { 7 }).unwrap().await.unwrap()
    });
    assert_eq!(stats.unwrap(), 7);
}

#[test]
fn the_connection_of_a_handler_that_panics_ends_with_1011() {
    log();
    let server = workers(1)
        .start(|request| match request.path() {
            "/echo" => Upgrade::accept(EchoListener),
            // The stream lives on in another place.
            "/moved" => Upgrade::accept_stream(async |mut stream| {
                stream.next().await;
                std::mem::forget(stream);
                bang("in a handler")
            }),
            _ => Upgrade::accept_stream(async |mut stream| {
                stream.next().await;
                bang("in a handler")
            }),
        })
        .unwrap();
    let mut neighbour = Client::upgrade_at(address(&server), "/echo");
    for (count, path) in [(1, "/"), (2, "/moved")] {
        let mut client = Client::upgrade_at(address(&server), path);
        client.send_text("panic");
        client.expect_close(CloseCode::INTERNAL_ERROR, "");
        client.send_close(1011, "");
        client.expect_eof();
        eventually(&server, path, |stats| stats.listener_errors == count);
        neighbour.echo(path.as_bytes());
    }
    let lines = logged("in a handler");
    assert!(lines.iter().all(|line| line.starts_with("ERROR ")) && !lines.is_empty(), "{lines:?}");
    assert!(server.monitor().workers().all(|worker| worker.state == WorkerState::Running));
    server.stop_within(Duration::ZERO).unwrap();
}

#[test]
fn a_socket_hook_that_panics_is_an_error_of_its_connect() {
    let server = workers(1).start(|_| Upgrade::accept(EchoListener)).unwrap();
    let url = server.addresses()[0].to_string();
    let text = run(async {
        let connect = Connect::new(url).socket_hook(|_| bang("in a hook"));
        connect.connect(EchoListener).await.unwrap_err().to_string()
    });
    assert!(text.as_ref().unwrap().contains("in a hook"), "{text:?}");
    server.stop_within(Duration::ZERO).unwrap();
}

#[test]
fn the_cause_of_a_handler_that_panics_is_known() {
    log();
    let (causes, told) = std::sync::mpsc::channel();
    let server = workers(1)
        .start(move |_| {
            let causes = causes.clone();
            Upgrade::accept_stream(async move |mut stream| {
                let transport = stream.transport().clone();
                drop(spawn(async move {
                    let _ = transport.wait_disconnected().await;
                    let _ = causes.send(transport.disconnect_cause());
                })?);
                stream.next().await;
                bang("with a cause")
            })
        })
        .unwrap();
    let mut client = Client::upgrade(address(&server));
    client.send_text("panic");
    client.expect_close(CloseCode::INTERNAL_ERROR, "");
    drop(client);
    let cause = common::next(&told);
    let Some(DisconnectCause::Listener(text)) = cause else { panic!("{cause:?}") };
    assert_eq!(text, "panic: with a cause");
    server.stop_within(Duration::ZERO).unwrap();
}
