//! Restarts by `--takeover`: processes that follow each other while clients connect.
//!
//! `scripts/takeover` runs the same with more clients and more of them a second.

#![allow(clippy::unwrap_used, reason = "a test that fails is to stop there")]

#[cfg(feature = "tls")]
#[path = "../../picows-uring/tests/certificates/mod.rs"]
mod certificates;
mod common;

use common::{Running, eventually, folder, picows};
use picows_uring::{
    CloseCode, Connect, Frame, Listener, ListenerResult, MsgType, Transport, run, spawn,
};
use rustix::net::bind;
use rustix::process::{Pid, Resource, Rlimit, Signal, geteuid, getrlimit, prlimit};
use std::cell::{Cell, RefCell};
use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, sleep_until};

/// A process with the path of the takeover; it serves when this returns.
fn start(path: &Path, listen: &str, flags: &str) -> (Running, String) {
    let mut running = begin(path, listen, flags);
    let url = url_of(&mut running);
    (running, url)
}

/// A process that starts.
fn begin(path: &Path, listen: &str, flags: &str) -> Running {
    // Long enough for a busy machine.
    let times = "--drain-timeout 60s --handshake-timeout 50s --max-handshakes 0";
    let line = format!("echo --workers 2 {times} --listen {listen} {flags} --takeover");
    let mut command = picows(line.split_whitespace());
    command.arg(path).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Running::start(&mut command)
}

/// What it listens on, when it serves.
fn url_of(running: &mut Running) -> String {
    let line = running.line();
    line.strip_prefix("listening on ").unwrap_or_else(|| panic!("{line}")).to_owned()
}

/// How often the thread that answers a process that takes over has slept.
fn sleeps(process: u32) -> Option<u64> {
    let threads = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    threads.flatten().find_map(|thread| {
        let text = fs::read_to_string(thread.path().join("status")).ok()?;
        let of = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        if of("Name:") != Some("picows-takeover") {
            return None;
        }
        of("voluntary_ctxt_switches:")?.parse().ok()
    })
}

#[test]
fn a_process_without_descriptors_sleeps_until_it_can_answer() {
    let path = folder("takeover-short").join("t");
    let (first, url) = start(&path, "127.0.0.1:0", "");
    let process = Pid::from_child(&first.child);
    let limit = getrlimit(Resource::Nofile);
    // Those that are open stay.
    let none = Rlimit { current: Some(3), ..limit };
    let before = prlimit(Some(process), Resource::Nofile, none).unwrap();
    let slept = sleeps(first.child.id()).unwrap();
    let mut second = begin(&path, "127.0.0.1:0", "");
    let is_asleep = || (sleeps(first.child.id())? >= slept + 3).then_some(());
    eventually("it waits, and is not busy with that", is_asleep);
    prlimit(Some(process), Resource::Nofile, before).unwrap();
    assert_eq!(url_of(&mut second), url);
    let done = first.end();
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert_eq!(done.stderr.matches("a process that takes over has to wait").count(), 1);
    second.signal(Signal::TERM);
    assert_eq!(second.end().code, 0);
}

#[test]
fn processes_report_whom_they_follow_and_who_follows() {
    let path = folder("takeover").join("t");
    let (first, url) = start(&path, "127.0.0.1:0", "");
    let first_id = first.child.id();
    let (second, same) = start(&path, "127.0.0.1:0", "");
    assert_eq!(same, url);
    // What a script does that stops the old process by itself: it drains as before.
    first.signal(Signal::TERM);
    let second_id = second.child.id();
    let done = first.end();
    assert_eq!(done.code, 0, "{}", done.stderr);
    let note = format!("process {second_id} has taken over: closing 0 connections");
    // The signal may be the first that it hears of its end.
    assert!(done.stderr.contains(&note), "{}", done.stderr);
    second.signal(Signal::TERM);
    let done = second.end();
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(
        done.stderr.contains(&format!("taken over from process {first_id}\n")),
        "{}",
        done.stderr
    );
    assert!(!path.exists());
}

#[test]
fn a_process_that_cannot_take_over_names_the_cause() {
    let path = folder("takeover-cause").join("t");
    fs::write(&path, "a file").unwrap();
    let mut command = picows(["echo", "--listen", "127.0.0.1:0", "--takeover"]);
    command.arg(&path).stdout(Stdio::piped()).stderr(Stdio::piped());
    let done = Running::start(&mut command).end();
    assert_eq!(done.code, 1, "{}", done.stderr);
    assert!(
        done.stderr.contains("cannot take over by ") && done.stderr.contains("no socket"),
        "{}",
        done.stderr
    );
}

/// A program that every user may run, in a folder that every user may write to.
fn start_as(user: u32, folder: &Path) -> Running {
    let ours = picows([]);
    let mut command = Command::new(folder.join("picows"));
    command.envs(ours.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.args(["echo", "--workers", "1", "--driver", "epoll", "--listen", "127.0.0.1:0"]);
    command.arg("--takeover").arg(folder.join("t")).uid(user).gid(user);
    Running::start(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()))
}

#[test]
fn only_a_process_of_the_same_user_takes_over() {
    if !geteuid().is_root() {
        println!("skipped: only root starts processes of other users");
        return;
    }
    let folder = folder("takeover-users");
    let open = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    open(&folder, 0o777);
    fs::copy(picows([]).get_program(), folder.join("picows")).unwrap();
    let mut first = start_as(65_534, &folder);
    let url = url_of(&mut first);
    // By its mode the path is its user's; and also where that was changed.
    for (user, mode) in [(65_533, 0o600), (65_533, 0o666), (0, 0o600)] {
        open(&folder.join("t"), mode);
        let done = start_as(user, &folder).end();
        assert_eq!((done.code, done.stdout.as_str()), (1, ""), "{user}: {}", done.stderr);
        assert!(done.stderr.contains("is another user's"), "{user}: {}", done.stderr);
    }
    assert!(first.is_running());
    let mut next = start_as(65_534, &folder);
    assert_eq!(url_of(&mut next), url);
    let done = first.end();
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(done.stderr.contains("has taken over"), "{}", done.stderr);
    next.signal(Signal::TERM);
    assert_eq!(next.end().code, 0);
    fs::remove_dir_all(folder).unwrap();
}

/// How much is done at once.
struct Plan {
    takeovers: usize,
    /// Connections that stay, and come back when they are closed.
    open: usize,
    /// Connects a second; without it, a few clients each connect when their last connection has ended.
    rate: Option<u32>,
}

impl Plan {
    /// As the environment says, or small enough for every run.
    fn from_environment() -> Self {
        let number = |name: &str| {
            let value = std::env::var(format!("PICOWS_TAKEOVER_{name}")).ok()?;
            Some(value.parse().unwrap())
        };
        let rate = number("RATE").map(|rate| u32::try_from(rate).unwrap());
        let (takeovers, open) = (number("COUNT").unwrap_or(3), number("OPEN").unwrap_or(20));
        Self { takeovers, open, rate }
    }
}

/// What clients have seen.
#[derive(Debug, Default)]
struct Seen {
    connects: Cell<usize>,
    failed: RefCell<Vec<String>>,
    /// Open connections that got CLOSE 1001, and those that ended otherwise.
    drained: Cell<usize>,
    cut: RefCell<Vec<String>>,
    open: Cell<usize>,
    /// Connections that are made, or closed, at the moment.
    coming: Cell<usize>,
    is_over: Cell<bool>,
}

impl Seen {
    /// Waits until all that stay are there again, and some have come.
    async fn until_all_are_back(&self, plan: &Plan) {
        let enough = self.connects.get() + plan.rate.map_or(20, |rate| rate as usize / 4);
        while self.open.get() < plan.open || self.connects.get() < enough {
            let failed = self.failed.borrow().first().cloned();
            assert_eq!(failed, None);
            sleep(Duration::from_millis(1)).await;
        }
    }
}

/// Reports the CLOSE of a connection, or another end of it.
struct Witness {
    close: Option<CloseCode>,
    ended: Option<oneshot::Sender<Result<CloseCode, String>>>,
}

impl Listener for Witness {
    fn on_frame(&mut self, _: &Transport, frame: &Frame<'_>) -> ListenerResult {
        if frame.msg_type() == MsgType::Close {
            self.close = frame.close_code();
        }
        Ok(())
    }

    fn on_disconnected(&mut self, transport: &Transport) {
        let cause = || format!("{:?}", transport.disconnect_cause());
        if let Some(ended) = self.ended.take() {
            let _ = ended.send(self.close.ok_or_else(cause));
        }
    }
}

/// Clients of a server, each from an address of its own.
#[derive(Clone)]
struct Clients {
    connect: Connect,
    seen: Rc<Seen>,
    count: Rc<Cell<u32>>,
}

impl Clients {
    /// Connects from the next address of 127.0.0.0/8.
    async fn connect(&self) -> Option<(Transport, oneshot::Receiver<Result<CloseCode, String>>)> {
        let number = self.count.replace(self.count.get().wrapping_add(1)) % 60_000;
        let [_, _, high, low] = (number + 256).to_be_bytes();
        let source = SocketAddr::from(([127, 1, high, low], 0));
        let connect = self.connect.clone().socket_hook(move |socket| Ok(bind(socket, &source)?));
        let (ended, end) = oneshot::channel();
        let connected = connect.connect(Witness { close: None, ended: Some(ended) }).await;
        self.seen.connects.set(self.seen.connects.get() + 1);
        match connected {
            Ok(transport) => Some((transport, end)),
            Err(error) => {
                self.seen.failed.borrow_mut().push(error.to_string());
                None
            }
        }
    }

    /// A connection that stays, and comes back.
    async fn stay(self) {
        while !self.seen.is_over.get() {
            let Some((_transport, end)) = self.connect().await else { return };
            self.seen.open.set(self.seen.open.get() + 1);
            let end = end.await;
            self.seen.open.set(self.seen.open.get() - 1);
            match end {
                Ok(Ok(CloseCode::GOING_AWAY)) => self.seen.drained.set(self.seen.drained.get() + 1),
                other => self.seen.cut.borrow_mut().push(format!("{other:?}")),
            }
        }
    }

    /// Connects, and closes the connection.
    async fn come(&self) {
        self.seen.coming.set(self.seen.coming.get() + 1);
        if let Some((transport, end)) = self.connect().await {
            transport.send_close(CloseCode::NORMAL, "");
            let _ = end.await;
        }
        self.seen.coming.set(self.seen.coming.get() - 1);
    }

    /// Connects again and again, each time when the last connection has ended.
    async fn come_again(self) {
        while !self.seen.is_over.get() {
            self.come().await;
        }
    }

    /// Connects at even distances, as long as the machine keeps up: the descriptors are bounded.
    async fn come_at(self, rate: u32) {
        let mut due = Instant::now();
        while !self.seen.is_over.get() {
            if self.seen.coming.get() >= COMING_MAX {
                sleep(Duration::from_millis(1)).await;
                due = Instant::now();
                continue;
            }
            let clients = self.clone();
            drop(spawn(async move { clients.come().await }));
            due += Duration::from_secs(1) / rate;
            sleep_until(due).await;
        }
    }
}

/// Connections that are made at the same time, at the most.
const COMING_MAX: usize = 4000;

/// Takes over again and again while clients come; the rate of connects that was reached is in the output.
#[expect(clippy::print_stdout, reason = "what the rate of a long run is read from")]
fn take_over(name: &str, flags: &str, trust: impl FnOnce(Connect) -> Connect) {
    let plan = Plan::from_environment();
    let path = folder(name).join("t");
    let (mut running, url) = start(&path, "127.0.0.1:0", flags);
    let seen = Rc::new(Seen::default());
    let connect = trust(Connect::new(url).handshake_timeout(Duration::from_secs(50)));
    let clients = Clients { connect, seen: Rc::clone(&seen), count: Rc::default() };
    let begun = std::time::Instant::now();
    run(async {
        for _ in 0..plan.open {
            drop(spawn(clients.clone().stay()));
        }
        match plan.rate {
            Some(rate) => drop(spawn(clients.clone().come_at(rate))),
            None => (0..4).for_each(|_| drop(spawn(clients.clone().come_again()))),
        }
        for _ in 0..plan.takeovers {
            seen.until_all_are_back(&plan).await;
            let (path, flags) = (path.clone(), flags.to_owned());
            let next = tokio::task::spawn_blocking(move || start(&path, "127.0.0.1:0", &flags).0);
            let old = std::mem::replace(&mut running, next.await.unwrap());
            let done = tokio::task::spawn_blocking(move || old.end()).await.unwrap();
            assert_eq!(done.code, 0, "{}", done.stderr);
        }
        seen.until_all_are_back(&plan).await;
        seen.is_over.set(true);
        while seen.coming.get() > 0 {
            sleep(Duration::from_millis(1)).await;
        }
        running.signal(Signal::TERM);
        while seen.open.get() > 0 {
            sleep(Duration::from_millis(1)).await;
        }
    })
    .unwrap();
    let (connects, failed, cut) = (seen.connects.get(), seen.failed.borrow(), seen.cut.borrow());
    let rate = connects as f64 / begun.elapsed().as_secs_f64();
    println!(
        "{name}: {} takeovers, {connects} connects ({rate:.0} a second), {} connections drained, \
         {} failed, {} cut",
        plan.takeovers,
        seen.drained.get(),
        failed.len(),
        cut.len()
    );
    assert_eq!((failed.first(), cut.first()), (None, None));
    assert!(seen.drained.get() >= plan.takeovers * plan.open);
}

#[test]
fn no_connect_fails_and_no_connection_is_cut() {
    take_over("plain", "", |connect| connect);
}

#[cfg(feature = "tls")]
#[test]
fn no_connect_fails_and_no_connection_is_cut_over_tls() {
    let certificates = certificates::Certificates::new();
    drop(certificates.issue("server", &["127.0.0.1"]));
    let path = |name| certificates.path(name).display().to_string();
    let flags = format!("--tls-cert {} --tls-key {}", path("server.crt"), path("server.key"));
    let tls = picows_uring::ClientTls::builder().roots(certificates.ca()).build().unwrap();
    take_over("tls", &flags, |connect| connect.tls(&tls));
}
