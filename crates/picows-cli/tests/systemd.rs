//! Socket activation and notification of systemd: `LISTEN_FDS`, `NOTIFY_SOCKET`, `WATCHDOG_USEC`.

#![allow(clippy::unwrap_used, reason = "a test that fails is to stop there")]

mod common;

use common::{RawPeer, Running, folder, picows};
use rustix::process::Signal;
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
    let path = folder(name).join("n");
    let notified = UnixDatagram::bind(&path).unwrap();
    notified.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut command = activated(socket, &format!("{OURS} {environment}"), "echo --workers 1");
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
