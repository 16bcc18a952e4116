//! The successor of a server: a process of the same program that takes over, started on SIGUSR2.
//!
//! Starts it and reports its end; what goes from one process to the next is the library's.

use crate::signals;
use crate::stdio::note;
use picows_uring::Monitor;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{self, Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

/// The server's answer to SIGUSR2. A handle: clones share the state.
#[derive(Clone)]
pub(crate) struct Successor(Arc<Shared>);

struct Shared {
    program: Program,
    state: Mutex<State>,
}

/// What SIGUSR2 finds.
enum State {
    /// No successor is started, for this reason.
    Refuses(&'static str),
    Serves(Monitor),
    /// A successor has been started, and has neither taken over nor ended.
    Starts(Monitor, Option<Process>),
    Stops,
}

/// A successor that starts.
struct Process {
    id: u32,
    /// Where the kernel has such descriptors.
    handle: Option<OwnedFd>,
}

/// The program that this process runs.
struct Program {
    path: io::Result<PathBuf>,
    arguments: Vec<OsString>,
}

impl Successor {
    /// Installs the handler of SIGUSR2, which refuses until the server [serves](Self::serves).
    ///
    /// # Errors
    ///
    /// When the handler cannot be installed.
    pub(crate) fn install() -> io::Result<Self> {
        let state = Mutex::new(State::Refuses("this server has not started yet"));
        let successor = Self(Arc::new(Shared { program: Program::of_this_process(), state }));
        let on_signal = successor.clone();
        signals::handle_restart(move || on_signal.on_signal())?;
        Ok(successor)
    }

    /// The server serves: from now on, the signal starts a successor if that can take over.
    pub(crate) fn serves(&self, monitor: Monitor, has_takeover: bool) {
        *self.lock() = match refusal(has_takeover, std::process::id()) {
            Some(reason) => State::Refuses(reason),
            None => State::Serves(monitor),
        };
    }

    /// The server stops: a successor that has not taken over is to stop as well.
    pub(crate) fn stops(&self) {
        if let State::Starts(monitor, Some(process)) =
            std::mem::replace(&mut *self.lock(), State::Stops)
            && monitor.successor().is_none()
        {
            process.stop();
        }
    }

    /// Starts a successor, on a thread of its own. Does not block.
    fn on_signal(&self) {
        let mut state = self.lock();
        let monitor = match &*state {
            State::Refuses(reason) => return note(format_args!("SIGUSR2 is ignored: {reason}")),
            State::Stops => return note(format_args!("SIGUSR2 is ignored: this server stops")),
            State::Starts(_, process) => {
                let it = process.as_ref().map_or_else(String::new, |it| format!(" {}", it.id));
                return note(format_args!(
                    "SIGUSR2 is ignored: process{it} starts already; end that if it hangs"
                ));
            }
            State::Serves(monitor) => monitor.clone(),
        };
        *state = State::Starts(monitor.clone(), None);
        drop(state);
        let it = self.clone();
        let thread = thread::Builder::new().name("picows-successor".to_owned());
        if let Err(error) = thread.spawn(move || it.start(&monitor)) {
            self.failed(format_args!("no thread can be started for it: {error}"));
        }
    }

    /// Starts a successor and waits for its end, or for that of this process where it takes over.
    fn start(&self, monitor: &Monitor) {
        let mut child = match self.0.program.start() {
            Ok(child) => child,
            Err(fault) => return self.failed(format_args!("{fault}")),
        };
        let id = child.id();
        let handle = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).ok();
        let process = Process { id, handle };
        match &mut *self.lock() {
            State::Starts(_, started) => *started = Some(process),
            _ => process.stop(),
        }
        note(format_args!("SIGUSR2: process {id} starts, and is to take over"));
        let outcome = child.wait();
        let is_failure = outcome.as_ref().is_ok_and(|status| !status.success());
        let ended = outcome.map_or_else(|error| error.to_string(), |status| status.to_string());
        if monitor.successor() == Some(id) && is_failure {
            // This process only finishes what it has, so that nothing would be said of it elsewhere.
            note(format_args!(
                "process {id} has failed after it took over ({ended}): start the server again, unless another \
                 process serves"
            ));
        }
        self.failed(format_args!("process {id} has ended before it took over ({ended})"));
    }

    /// Reports that there is no successor, unless this process ends anyway, and waits for the next signal.
    fn failed(&self, fault: fmt::Arguments<'_>) {
        let mut state = self.lock();
        if let State::Starts(monitor, _) = &*state
            && monitor.successor().is_none()
        {
            note(format_args!("SIGUSR2: {fault}: serving goes on"));
            *state = State::Serves(monitor.clone());
        }
    }

    /// A thread that panicked meanwhile leaves the state whole.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Process {
    fn stop(&self) {
        if let Some(handle) = &self.handle {
            // It may have ended.
            let _ = pidfd_send_signal(handle, Signal::TERM);
        }
    }
}

impl Program {
    fn of_this_process() -> Self {
        let mut arguments = std::env::args_os();
        let folders = std::env::var_os("PATH").unwrap_or_default();
        let path = arguments.next().and_then(|name| named(&name, &folders));
        let path = path.map_or_else(std::env::current_exe, Ok);
        Self { path, arguments: arguments.collect() }
    }

    /// Starts what is at the path now, with the same arguments.
    fn start(&self) -> Result<std::process::Child, String> {
        let unknown = |error| format!("the path of this program is not known: {error}");
        let path = self.path.as_ref().map_err(unknown)?;
        let mut command = Command::new(path);
        // systemd waits for signs of life of the process that takes over.
        command.args(&self.arguments).env_remove("WATCHDOG_PID");
        command.spawn().map_err(|error| format!("{} cannot be started: {error}", path.display()))
    }
}

/// The path by which this program was started as `name`, links in it included, which may lead elsewhere
/// since; `None` where `name` is only a name.
fn named(name: &OsStr, folders: &OsStr) -> Option<PathBuf> {
    let name = Path::new(name);
    let paths: Vec<_> = match name.parent() {
        None => return None,
        Some(folder) if folder.as_os_str().is_empty() => {
            std::env::split_paths(folders).map(|folder| folder.join(name)).collect()
        }
        Some(_) => vec![name.to_owned()],
    };
    paths.iter().filter_map(|path| path::absolute(path).ok()).find(|path| is_this_program(path))
}

fn is_this_program(path: &Path) -> bool {
    let identity = |path: &Path| std::fs::metadata(path).map(|it| (it.dev(), it.ino())).ok();
    let this = identity(Path::new("/proc/self/exe"));
    this.is_some() && this == identity(path)
}

/// The reason why a server starts no successor, with the cure.
fn refusal(has_takeover: bool, process: u32) -> Option<&'static str> {
    match (has_takeover, process) {
        (false, _) => Some(
            "this server was started without --takeover PATH, with which the signal starts a process that \
             takes over",
        ),
        (true, 1) => {
            Some("a container ends with its process 1, which this is: start another container")
        }
        (true, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_as_it_was_started() {
        let this = std::env::current_exe().unwrap();
        let folder = std::env::temp_dir().join(format!("picows-program-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let link = folder.join("it");
        std::os::unix::fs::symlink(&this, &link).unwrap();
        std::fs::write(folder.join("other"), "").unwrap();
        let folders = std::env::join_paths([Path::new("/nowhere"), &folder]).unwrap();
        let find = |name: &Path| named(name.as_os_str(), &folders);
        assert_eq!(find(&this), Some(this.clone()));
        // As a link, which may lead to the next version by then.
        assert_eq!(find(&link), Some(link.clone()));
        assert_eq!(find(Path::new("it")), Some(link));
        for name in ["other", "it2", "", "/", "./it"] {
            assert_eq!(find(Path::new(name)), None, "{name}");
        }
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_server_that_cannot_be_followed_names_the_reason() {
        assert!(refusal(false, 77).unwrap().contains("--takeover PATH"));
        assert!(refusal(true, 1).unwrap().contains("container"));
        assert_eq!(refusal(true, 77), None);
    }
}
