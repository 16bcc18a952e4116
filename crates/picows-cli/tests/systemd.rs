//! Socket activation and notification of systemd: `LISTEN_FDS`, `NOTIFY_SOCKET`, `WATCHDOG_USEC`.

#![allow(clippy::unwrap_used, reason = "a test that fails is to stop there")]

mod common;

use common::{Follower, RawPeer, Running, eventually, folder, picows};
use rustix::process::{Pid, Signal};
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// `picows` with `socket` as descriptor 3, as systemd starts it; `environment` is shell.
fn activated(socket: impl Into<OwnedFd>, environment: &str, line: &str) -> Command {
    let program = picows([]).get_program().to_owned();
    let mut command = Command::new("sh");
    command
        .arg("-c")
        .arg(format!("{environment} exec \"$0\" {line} 3<&0 0</dev/null"))
        .arg(program);
    command.stdin(Stdio::from(socket.into())).env("NO_COLOR", "1").env("RUST_LOG", "warn");
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

const OURS: &str = "LISTEN_FDS=1 LISTEN_PID=$$";

#[test]
fn a_socket_that_is_handed_over_is_served_in_place_of_the_default() {
    for command in ["echo --workers 1", "pubsub --workers 1"] {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        // Blocking or not, both are fine.
        socket.set_nonblocking(command.starts_with("echo")).unwrap();
        let mut running = Running::start(&mut activated(socket, OURS, command));
        assert_eq!(running.line(), format!("listening on ws://{address}"));
        drop(TcpStream::connect(address).unwrap());
        // Children get neither descriptors nor variables.
        let process = format!("/proc/{}", running.child.id());
        let pid = running.child.id();
        assert!(Path::new(&process).exists());
        let flags = std::fs::read_to_string(format!("/proc/{pid}/fdinfo/3"));
        if let Ok(flags) = flags {
            let flags = flags.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim();
            assert_ne!(i32::from_str_radix(flags, 8).unwrap() & 0o2_000_000, 0, "close-on-exec");
        }
        running.signal(Signal::TERM);
        let done = running.end();
        assert_eq!((done.code, done.stdout.contains("listening")), (0, false), "{}", done.stderr);
    }
}

/// What may be published to a socket that all machines reach is judged before the process that serves it stops.
#[test]
fn a_pubsub_that_may_not_take_over_leaves_the_socket_to_the_one_that_serves() {
    let path = folder("systemd-pubsub").join("t");
    let pubsub =
        |publish: &str| format!("pubsub --workers 1 --takeover {} {publish}", path.display());
    let socket = TcpListener::bind("0.0.0.0:0").unwrap();
    let address = socket.local_addr().unwrap();
    // Without a predecessor neither.
    let refused = |socket: TcpListener| {
        let done = Running::start(&mut activated(socket, OURS, &pubsub(""))).end();
        assert_eq!((done.code, done.stdout.as_str()), (2, ""), "{}", done.stderr);
        let fault = format!("cannot listen on \"ws://{address}\": it is not loopback");
        assert!(done.stderr.contains(&fault), "{}", done.stderr);
        assert!(done.stderr.contains("--publish none, all or token"), "{}", done.stderr);
    };
    refused(socket.try_clone().unwrap());
    let mut first = Running::start(&mut activated(socket, OURS, &pubsub("--publish none")));
    assert_eq!(first.line(), format!("listening on ws://{address}"));
    let next = |publish: &str| {
        let line = pubsub(publish);
        let mut command = picows(line.split_whitespace());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Running::start(&mut command)
    };
    let done = next("").end();
    assert_eq!((done.code, done.stdout.as_str()), (2, ""), "{}", done.stderr);
    assert!(done.stderr.contains(&format!("\"ws://{address}\": it is not")), "{}", done.stderr);
    assert!(first.is_running());
    let mut second = next("--publish none");
    assert_eq!(second.line(), format!("listening on ws://{address}"));
    let done = first.end();
    assert!(done.code == 0 && done.stderr.contains("has taken over"), "{}", done.stderr);
    second.signal(Signal::TERM);
    assert_eq!(second.end().code, 0);
}

#[test]
fn a_unix_socket_and_an_address_beside_it_are_served() {
    let path = folder("systemd-unix").join("s");
    let socket = UnixListener::bind(&path).unwrap();
    let line = "echo --workers 1 --listen 127.0.0.1:0";
    let mut running = Running::start(&mut activated(socket, OURS, line));
    let lines = [running.line(), running.line()];
    assert!(lines.iter().any(|line| line.starts_with("listening on ws://127.0.0.1:")), "{lines:?}");
    assert!(
        lines.iter().any(|line| line.contains("ws+unix") || line.contains("unix")),
        "{lines:?}"
    );
    RawPeer::connect(&path).echo();
    running.signal(Signal::TERM);
    assert_eq!(running.end().code, 0);
    assert!(path.exists(), "it is systemd's");
}

#[test]
fn sockets_of_another_process_are_none() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let line = "echo --workers 1 --listen 127.0.0.1:0";
    let command = &mut activated(socket, "LISTEN_FDS=1 LISTEN_PID=1", line);
    let mut running = Running::start(command);
    assert_ne!(running.line(), format!("listening on ws://{address}"));
    running.signal(Signal::TERM);
    assert_eq!(running.end().code, 0);
}

#[test]
fn a_descriptor_that_does_not_fit_is_an_error_at_the_start() {
    let unbound = UnixDatagram::unbound().unwrap();
    let file = std::fs::File::open("/dev/null").unwrap();
    for socket in [OwnedFd::from(unbound), file.into()] {
        let done = Running::start(&mut activated(socket, OURS, "echo --workers 1")).end();
        assert_eq!((done.code, done.stdout.as_str()), (1, ""), "{}", done.stderr);
        assert!(done.stderr.contains("number 1 of the descriptors"), "{}", done.stderr);
        assert!(done.stderr.contains("ListenStream="), "{}", done.stderr);
    }
}

/// A socket for notifications, and `picows echo` that sends them.
fn notifying(name: &str, environment: &str) -> (UnixDatagram, Running) {
    notifying_with(name, environment, "")
}

fn notifying_with(name: &str, environment: &str, flags: &str) -> (UnixDatagram, Running) {
    let path = folder(name).join("n");
    let notified = UnixDatagram::bind(&path).unwrap();
    notified.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let line = format!("echo --workers 1 {flags}");
    let mut command = activated(socket, &format!("{OURS} {environment}"), &line);
    (notified, Running::start(command.env("NOTIFY_SOCKET", &path)))
}

fn next(notified: &UnixDatagram) -> String {
    let mut bytes = [0; 200];
    let count = notified.recv(&mut bytes).unwrap();
    String::from_utf8(bytes[..count].to_vec()).unwrap()
}

#[test]
fn systemd_is_notified_of_the_start_and_the_end() {
    let (notified, mut running) = notifying("systemd-notify", "");
    assert_eq!(next(&notified), "READY=1\n");
    assert!(running.line().starts_with("listening on "), "before it is ready");
    running.signal(Signal::TERM);
    assert_eq!(next(&notified), "STOPPING=1\n");
    assert_eq!(running.end().code, 0);
}

#[test]
fn systemd_is_notified_of_a_reload() {
    let file = folder("systemd-reload").join("filter");
    std::fs::write(&file, "warn").unwrap();
    let flags = format!("--log-filter-file {}", file.display());
    let (notified, running) = notifying_with("systemd-reload", "", &flags);
    assert_eq!(next(&notified), "READY=1\n");
    for text in ["info", "a=b=c"] {
        std::fs::write(&file, text).unwrap();
        running.signal(Signal::HUP);
        let text = next(&notified);
        let time = text.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        assert!(time.trim_end().parse::<u64>().unwrap() > 0, "{text}");
        assert_eq!(next(&notified), "READY=1\n");
    }
    running.signal(Signal::TERM);
    assert_eq!(next(&notified), "STOPPING=1\n");
    let done = running.end();
    assert_eq!(done.code, 0);
    assert_eq!(done.stderr.matches("log filter read again").count(), 1, "{}", done.stderr);
    assert_eq!(done.stderr.matches("the old one stays").count(), 1, "{}", done.stderr);
}

/// The service goes on in another process, with the socket that systemd handed to the first.
#[test]
fn systemd_is_notified_of_the_process_that_takes_over() {
    let flags = format!("--takeover {}", folder("systemd-follow").join("t").display());
    let watchdog = "WATCHDOG_USEC=100000 WATCHDOG_PID=$$";
    let (notified, mut running) = notifying_with("systemd-follow", watchdog, &flags);
    let alive = "WATCHDOG=1\n";
    // Bounded, as signs of life come for ever.
    let after = |skipped: &str| {
        let mut texts = std::iter::repeat_with(|| next(&notified)).take(1000);
        texts.find(|text| text != skipped).expect("something else than signs of life")
    };
    assert_eq!(next(&notified), "READY=1\n");
    let listening = running.line();
    running.signal(Signal::USR2);
    // Both send, and each in its order.
    let texts = [after(alive), after(alive)];
    assert!(texts.contains(&"READY=1\n".to_owned()), "{texts:?}");
    let main = texts.iter().find_map(|text| text.strip_prefix("MAINPID=")).unwrap();
    let second = Follower::new(Pid::from_raw(main.trim_end().parse().unwrap()).unwrap());
    assert_eq!(running.line(), listening, "the same address");
    let address = listening.strip_prefix("listening on ws://").unwrap();
    eventually("the first process ends", || (!running.is_running()).then_some(()));
    drop(TcpStream::connect(address).unwrap());
    while next(&notified) != alive {}
    for _ in 0..3 {
        assert_eq!(next(&notified), alive, "of the second process");
    }
    second.signal(Signal::TERM);
    assert_eq!(after(alive), "STOPPING=1\n");
    assert_eq!(running.end().code, 0);
}

/// SIGUSR2 may come as soon as a server has said that it is ready.
#[test]
fn a_server_that_says_that_it_is_ready_can_be_followed() {
    let folder = folder("systemd-at-once");
    let path = folder.join("n");
    let notified = UnixDatagram::bind(&path).unwrap();
    // So full that READY=1 waits: the server stands between its line and that.
    let sender = UnixDatagram::unbound().unwrap();
    sender.set_nonblocking(true).unwrap();
    while sender.send_to(b"full", &path).is_ok() {}
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let line = format!("echo --workers 1 --takeover {}", folder.join("t").display());
    let mut command = activated(socket, OURS, &line);
    let mut running = Running::start(command.env("NOTIFY_SOCKET", &path));
    let listening = running.line();
    running.signal(Signal::USR2);
    let mut log = BufReader::new(running.child.stderr.take().unwrap()).lines();
    let started = log.find_map(|line| {
        let line = line.unwrap();
        assert!(!line.contains("SIGUSR2 is ignored"), "{line}");
        line.split_once("SIGUSR2: process ").map(|(_, rest)| rest.to_owned())
    });
    let number = started.unwrap().split(' ').next().unwrap().parse().unwrap();
    let second = Follower::new(Pid::from_raw(number).unwrap());
    while next(&notified) == "full" {}
    assert_eq!(running.line(), listening, "the same address");
    eventually("the first process ends", || (!running.is_running()).then_some(()));
    second.signal(Signal::TERM);
    assert_eq!(running.end().code, 0);
}

#[test]
fn systemd_gets_signs_of_life() {
    let (notified, running) = notifying("systemd-alive", "WATCHDOG_USEC=100000 WATCHDOG_PID=$$");
    assert_eq!(next(&notified), "READY=1\n");
    for _ in 0..3 {
        assert_eq!(next(&notified), "WATCHDOG=1\n");
    }
    running.signal(Signal::TERM);
    assert_eq!(running.end().code, 0);
}

#[test]
fn a_socket_that_cannot_be_notified_is_reported_and_serving_goes_on() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut command = activated(socket, OURS, "echo --workers 1");
    let mut running = Running::start(command.env("NOTIFY_SOCKET", "/nowhere/n"));
    assert!(running.line().starts_with("listening on "));
    running.signal(Signal::TERM);
    let done = running.end();
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(done.stderr.contains("systemd cannot be notified: "), "{}", done.stderr);
}
