//! SIGUSR2: a server starts its successor, from what is at the path of its program by then.

#![allow(clippy::unwrap_used, reason = "a test that fails is to stop there")]

mod common;

use common::{Follower, RawPeer, eventually, folder, picows};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::{BufRead, BufReader, Lines};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};

/// A server that follows itself, and the lines of all of its processes.
struct Serving {
    folder: PathBuf,
    child: Child,
    out: Lines<BufReader<ChildStdout>>,
    err: Lines<BufReader<ChildStderr>>,
}

impl Serving {
    /// Starts a command by a link to the program.
    fn start(name: &str, command: &str) -> Self {
        let folder = folder(name);
        link(&folder, picows([]).get_program().as_ref());
        // The environment is that of `picows`, the path is the link.
        let mut it = Command::new(folder.join("picows"));
        it.envs(picows([]).get_envs().filter_map(|(name, value)| Some((name, value?))));
        it.args(command.split_whitespace()).args(["--workers", "1", "--drain-timeout", "60s"]);
        it.args(["--listen", &format!("unix:{}", folder.join("s").display())]);
        it.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = it.spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap()).lines();
        let err = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut serving = Self { folder, child, out, err };
        serving.expect_listening(command);
        serving
    }

    fn with_takeover(name: &str, command: &str) -> Self {
        let path = folder(name).join("t");
        Self::start(name, &format!("{command} --takeover {}", path.display()))
    }

    fn expect_listening(&mut self, command: &str) {
        let line = self.out.next().unwrap().unwrap();
        assert!(line.starts_with("listening on ws+unix:"), "{line}");
        if command.starts_with("pubsub") {
            assert!(self.out.next().unwrap().unwrap().starts_with("publish "));
        }
    }

    /// The rest of the next line of standard error that has `part`.
    fn err(&mut self, part: &str) -> String {
        for line in self.err.by_ref() {
            if let Some((_, rest)) = line.unwrap().split_once(part) {
                return rest.to_owned();
            }
        }
        panic!("all have ended, and no line has `{part}`");
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// The next process, as standard error names it, and its number.
    fn follower(&mut self) -> (Follower, String) {
        let rest = self.err("SIGUSR2: process ");
        let (number, rest) = rest.split_once(' ').unwrap();
        assert_eq!(rest, "starts, and is to take over");
        let process = Pid::from_raw(number.parse().unwrap()).unwrap();
        (Follower::new(process), number.to_owned())
    }

    fn peer(&self) -> RawPeer {
        RawPeer::connect(&self.folder.join("s"))
    }

    /// Waits for the end of the first process.
    fn end(&mut self) -> Option<i32> {
        eventually("it ends", || self.child.try_wait().unwrap()).code()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Puts a program where the server was started, as a package manager does.
fn link(folder: &Path, program: &Path) {
    symlink(program, folder.join("next")).unwrap();
    fs::rename(folder.join("next"), folder.join("picows")).unwrap();
}

/// The same with a script, in which `$0` is the link, and `PICOWS` the program.
fn put_script(folder: &Path, text: &str) {
    let program = picows([]).get_program().to_string_lossy().into_owned();
    let next = folder.join("next");
    fs::write(&next, format!("#!/bin/sh\nPICOWS='{program}'\n{text}\n")).unwrap();
    fs::set_permissions(&next, fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(next, folder.join("picows")).unwrap();
}

#[test]
fn the_signal_starts_what_is_at_the_path_by_then_and_that_takes_over() {
    let mut serving = Serving::with_takeover("successor-echo", "echo");
    let mut open = serving.peer();
    open.echo();
    put_script(&serving.folder, "echo the next version\nexec \"$PICOWS\" \"$@\"");
    serving.signal(Signal::USR2);
    let (second, number) = serving.follower();
    assert_eq!(serving.out.next().unwrap().unwrap(), "the next version");
    serving.expect_listening("echo");
    open.expect_going_away();
    assert_eq!(serving.end(), Some(0));
    serving.err(&format!("process {number} has taken over: closing "));
    let mut open = serving.peer();
    open.echo();
    // And so on: the script runs the program itself, which is started by its own path.
    second.signal(Signal::USR2);
    let (third, _) = serving.follower();
    serving.expect_listening("echo");
    open.expect_going_away();
    serving.peer().echo();
    third.signal(Signal::TERM);
    serving.err("stopping: closing ");
    assert!(serving.out.next().is_none(), "all have ended");
    for name in ["t", "s"] {
        assert!(!serving.folder.join(name).exists(), "{name}");
    }
}

#[test]
fn a_server_of_topics_is_followed_as_well() {
    let mut serving = Serving::with_takeover("successor-pubsub", "pubsub");
    serving.signal(Signal::USR2);
    let (second, _) = serving.follower();
    serving.expect_listening("pubsub");
    assert_eq!(serving.end(), Some(0));
    second.signal(Signal::TERM);
    assert!(serving.out.next().is_none(), "all have ended");
}

#[test]
fn a_successor_that_fails_is_named_and_serving_goes_on() {
    let mut serving = Serving::with_takeover("successor-fails", "echo");
    let mut open = serving.peer();
    put_script(&serving.folder, "exit 3");
    for _ in 0..2 {
        serving.signal(Signal::USR2);
        let (_process, number) = serving.follower();
        let line = serving.err(&format!("process {number} has ended before it took over "));
        assert_eq!(line, "(exit status: 3): serving goes on");
        open.echo();
    }
    fs::remove_file(serving.folder.join("picows")).unwrap();
    serving.signal(Signal::USR2);
    let line = serving.err("/picows cannot be started: ");
    assert!(line.starts_with("No such file") && line.ends_with(": serving goes on"), "{line}");
    open.echo();
    // A link again, that leads elsewhere or not.
    link(&serving.folder, picows([]).get_program().as_ref());
    serving.signal(Signal::USR2);
    let (second, _) = serving.follower();
    open.expect_going_away();
    assert_eq!(serving.end(), Some(0));
    second.signal(Signal::TERM);
    assert!(serving.out.next().is_some(), "it listened");
    assert!(serving.out.next().is_none(), "all have ended");
}

#[test]
fn a_successor_that_fails_after_it_took_over_is_named() {
    let mut serving = Serving::with_takeover("successor-fails-late", "echo");
    let mut open = serving.peer();
    open.echo();
    serving.signal(Signal::USR2);
    let (second, number) = serving.follower();
    serving.expect_listening("echo");
    // The first process waits for the answer to CLOSE.
    serving.err(&format!("process {number} has taken over: closing "));
    second.signal(Signal::KILL);
    let line = serving.err(&format!("process {number} has failed after it took over "));
    assert!(line.starts_with("(signal: 9") && line.contains("start the server again"), "{line}");
    open.expect_going_away();
    assert_eq!(serving.end(), Some(0));
}

#[test]
fn a_successor_that_hangs_is_not_started_twice_and_stops_with_the_server() {
    let mut serving = Serving::with_takeover("successor-hangs", "echo");
    // A pipe that no process writes to.
    put_script(&serving.folder, "exec 3<>\"$0.pipe\"\nread -r line <&3");
    let pipe = serving.folder.join("picows.pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let mut open = serving.peer();
    open.echo();
    serving.signal(Signal::USR2);
    let (_process, number) = serving.follower();
    serving.signal(Signal::USR2);
    let line = serving.err("SIGUSR2 is ignored: ");
    assert_eq!(line, format!("process {number} starts already; end that if it hangs"));
    open.echo();
    // What it has inherited: the standard streams, beside its own.
    for entry in fs::read_dir(format!("/proc/{number}/fd")).unwrap() {
        let Ok(kind) = fs::read_link(entry.unwrap().path()) else { continue };
        let kind = kind.to_string_lossy();
        assert!(!kind.starts_with("socket:") && !kind.starts_with("anon_inode:"), "{kind}");
    }
    serving.signal(Signal::TERM);
    open.expect_going_away();
    assert_eq!(serving.end(), Some(0));
    assert!(serving.out.next().is_none(), "both have ended");
}

#[test]
fn a_server_without_takeover_names_the_cure_and_serves_on() {
    for command in ["echo", "pubsub"] {
        let mut serving = Serving::start(&format!("successor-none-{command}"), command);
        let mut open = (command == "echo").then(|| serving.peer());
        serving.signal(Signal::USR2);
        let line = serving.err("SIGUSR2 is ignored: ");
        assert!(line.contains("--takeover PATH"), "{line}");
        open.iter_mut().for_each(RawPeer::echo);
        serving.signal(Signal::TERM);
        open.iter_mut().for_each(RawPeer::expect_going_away);
        assert_eq!(serving.end(), Some(0));
    }
}
