//! Each client example against our own echo server.

#![allow(clippy::unwrap_used, reason = "a test that fails is to stop there")]

use picows_uring::topics::{
    Format, History, Hub, Position, Post, Recovery, Start, SubscribeOptions, TopicSettings,
};
use picows_uring::{
    EchoListener, Frame, Listener, ListenerResult, MsgType, Prepared, Server, Transport, Upgrade,
    UpgradeRequest,
};
use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket};
use rustix::process::{Pid, Signal, kill_process};
use std::net::SocketAddr;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

/// A run that is longer than this has failed. Cargo may have to build, and to wait until others
/// have.
const PATIENCE: Duration = Duration::from_secs(300);

/// Runs an example to its end and returns the lines it printed.
fn lines(example: &str, arguments: &[&str]) -> Vec<String> {
    let builder = Server::builder().listen("127.0.0.1:0").workers(1);
    let server = builder.start(|_| Upgrade::accept(EchoListener)).unwrap();
    let url = server.addresses()[0].to_string();
    let outcome = output(command(example).arg(url).args(arguments));
    let errors = String::from_utf8_lossy(&outcome.stderr);
    assert!(outcome.status.success(), "{example} ended with {}: {errors}", outcome.status);
    server.stop().unwrap();
    String::from_utf8(outcome.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// Cargo builds it, if need be, and then becomes it.
fn command(example: &str) -> Command {
    let mut command = Command::new(env!("CARGO"));
    command.args(["run", "--quiet", "--package", "examples", "--example", example]);
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    command.arg("--");
    command
}

/// Runs it to its end.
fn output(command: &mut Command) -> Output {
    let pipes = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = pipes.spawn().unwrap();
    let pid = Pid::from_child(&child);
    let (told, outcome) = channel();
    std::thread::spawn(move || drop(told.send(child.wait_with_output().unwrap())));
    outcome.recv_timeout(PATIENCE).unwrap_or_else(|_| {
        let _ = kill_process(pid, Signal::KILL);
        panic!("{command:?} does not end");
    })
}

fn numbered(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("message {number}")).collect()
}

#[test]
fn echo_client() {
    let lines = lines("echo_client", &["0", "70000"]);
    assert_eq!(lines.len(), 5);
    assert_eq!(lines[4], "Text of 70000 bytes: as it was sent");
}

#[test]
fn echo_client_async_iteration() {
    assert_eq!(lines("echo_client_async_iteration", &["20"]), numbered(20));
}

#[test]
fn echo_client_tasks() {
    let mut numbers: Vec<usize> =
        lines("echo_client_tasks", &["20"]).iter().map(|line| line.parse().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..20).collect::<Vec<_>>());
}

#[test]
fn echo_client_threaded() {
    assert_eq!(lines("echo_client_threaded", &["20"]), numbered(20));
}

#[test]
fn loops_of_ones_own() {
    for example in ["own_loop", "own_loop_mio", "own_loop_calloop"] {
        assert_eq!(lines(example, &["20"]), numbered(20));
    }
}

#[test]
fn reconnecting_client() {
    let wanted: Vec<_> = (1..=3).map(|it| format!("subscribe, connection {it}")).collect();
    assert_eq!(lines("reconnecting_client", &["3"]), wanted);
}

#[test]
fn a_client_that_cannot_connect_says_why() {
    // Bound and not listening: no other socket can listen there either.
    let unheard = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&unheard, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = SocketAddr::try_from(getsockname(&unheard).unwrap()).unwrap();
    let outcome = output(command("echo_client").arg(format!("ws://{address}/")));
    assert!(!outcome.status.success());
    let errors = String::from_utf8_lossy(&outcome.stderr);
    assert!(errors.contains("nothing listens there"), "{errors}");
}

/// A server like `picows pubsub`, which publishes three messages to the first subscriber.
struct News(Hub);

impl Listener for News {
    fn on_connected(&mut self, transport: &Transport) -> ListenerResult {
        let query = transport.request().and_then(|request| request.query()).unwrap_or_default();
        let from: Option<Position> = query.strip_prefix("from=").map(str::parse).transpose()?;
        let format = Format::new(|publication| {
            let text = str::from_utf8(publication.payload()).unwrap_or_default();
            Prepared::new(MsgType::Text, format!("{} {text}", publication.position()))
        });
        let options = SubscribeOptions::new()
            .start(from.map_or(Start::New, Start::From))
            .format(format)
            .on_start(|transport, recovery| {
                let position = recovery.position();
                let count = match recovery {
                    Recovery::Recovered { count, .. } => *count,
                    _ => 0,
                };
                let text = format!(r#"{{"recovered":{count},"position":"{position}"}}"#);
                transport.send_text(&text);
            });
        self.0.subscribe(transport, "news", options)?.keep();
        if from.is_none() {
            for text in ["one", "two", "three"] {
                self.0.publish("news", Post::text(text))?;
            }
        }
        Ok(())
    }

    fn on_frame(&mut self, _: &Transport, _: &Frame<'_>) -> ListenerResult {
        Ok(())
    }
}

#[test]
fn topic_recovery() {
    let settings = TopicSettings::new().history(History::last(10));
    let hub = Hub::builder().settings(settings).build().unwrap();
    let builder = Server::builder().listen("127.0.0.1:0").workers(1);
    let server = builder
        .start(move |_: &UpgradeRequest| {
            Upgrade::accept(News(hub.clone())).with_subprotocol("picows.pubsub.1")
        })
        .unwrap();
    let url = server.addresses()[0].to_string();
    let outcome = output(command("topic_recovery").arg(url));
    let errors = String::from_utf8_lossy(&outcome.stderr);
    assert!(outcome.status.success(), "it ended with {}: {errors}", outcome.status);
    server.stop().unwrap();
    let text = String::from_utf8(outcome.stdout).unwrap();
    // Cut behind each message, it gets the others all the same, once each.
    let news: Vec<_> = text.lines().filter(|line| !line.starts_with("recovers")).collect();
    let parts: Vec<_> = news.iter().map(|line| line.split_once(": ").unwrap()).collect();
    assert_eq!(parts.iter().map(|(_, text)| *text).collect::<Vec<_>>(), ["one", "two", "three"]);
    assert_eq!(text.lines().count(), 5, "two recoveries: {text}");
}
