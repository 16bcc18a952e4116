//! Offering the listening sockets of a server to the process that takes over from it.
//!
//! A thread answers that process, and has the workers stop when it is ready; until then nothing changes
//! here. How sockets get from process to process is in `socket/takeover.rs`.

use super::builder::ServerBuilder;
use super::handle::{ServerHandle, WorkerThread};
use super::monitor::ServerState;
use crate::command::{Command, HandOver, ListenName};
use crate::error::Error;
use crate::foreign::log;
use crate::health::{Counters, WorkerState};
use crate::mailbox::Mailbox;
use crate::socket::{
    Asker, Control, GroupName, Heard, OfferedSockets, Part, Predecessor, Takeover,
};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::{Errno, write};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// What is offered to a process that takes over.
#[derive(Debug)]
pub(super) struct Offer {
    /// `None` when it is over: the server stops, or another process has its sockets.
    groups: Mutex<Option<Vec<Offered>>>,
    /// Wakes the thread that answers.
    ended: OwnedFd,
}

/// One address.
#[derive(Debug)]
struct Offered {
    name: GroupName,
    sockets: OfferedSockets,
}

/// The workers that stop, and those of the admin address, which only leave their socket.
struct Answering {
    main: Vec<Notified>,
    admin: Vec<Notified>,
    state: Arc<ServerState>,
    drain_timeout: Duration,
}

/// A worker that is notified.
type Notified = (Arc<Mailbox>, Arc<Counters>);

/// Both sides of a takeover, of a server that starts.
pub(super) struct Handover {
    /// As errors show it.
    path: String,
    takeover: Takeover,
    offer: Arc<Offer>,
    /// Starts the thread, which waits for it.
    start: Sender<(Control, Answering)>,
    thread: JoinHandle<()>,
}

impl ServerBuilder {
    /// Takes over the listening sockets of the process that serves with the same path, if there is one, and
    /// offers this server's to the next: a restart for which no client notices more than a CLOSE 1001.
    ///
    /// The process that starts asks the other one by this Unix socket. When all of its workers are ready, it
    /// says so: the other stops accepting, finishes the handshakes that it has accepted, and drains, as in
    /// [`ServerHandle::stop`](crate::ServerHandle::stop). Clients that connect meanwhile wait in the backlog,
    /// which goes along. If the new process fails before, the other one serves on. Addresses that both listen
    /// on are handed over, that of [`admin`](Self::admin) included, in whatever number of workers; others are
    /// bound, or closed when what waits there has been accepted. Port 0 is that of the other process. Sockets
    /// that it inherited go along always, as their parent keeps them open: in place of the default address, and
    /// beside others.
    ///
    /// Both have to run as the same user. Guide "Restarting". Default: none.
    ///
    /// ```
    /// use picows_uring::{EchoListener, Server, Upgrade};
    ///
    /// let path = std::env::temp_dir().join(format!("takeover-{}", std::process::id()));
    /// let start = || {
    ///     let builder = Server::builder().listen("127.0.0.1:0").takeover(&path).workers(1);
    ///     builder.start(|_| Upgrade::accept(EchoListener))
    /// };
    /// let first = start()?;
    /// let second = start()?; // In another process, as a rule.
    /// assert_eq!(first.local_addr(), second.local_addr());
    /// first.join()?; // It has stopped.
    /// second.stop()?;
    /// # Ok::<(), picows_uring::Error>(())
    /// ```
    pub fn takeover(mut self, path: impl Into<PathBuf>) -> Self {
        self.takeover = Some(path.into());
        self
    }
}

impl Offer {
    fn new() -> Result<Self, Errno> {
        let ended = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { groups: Mutex::new(Some(Vec::new())), ended })
    }

    /// Offers the sockets of an address.
    pub(super) fn add(&self, part: Part, ListenName(number): ListenName, sockets: OfferedSockets) {
        if let Some(groups) = &mut *self.lock() {
            groups.push(Offered { name: GroupName { part, number }, sockets });
        }
    }

    /// Does not offer an address any more.
    pub(super) fn remove(&self, part: Part, ListenName(number): ListenName) {
        if let Some(groups) = &mut *self.lock() {
            groups.retain(|it| it.name != GroupName { part, number });
        }
    }

    /// Offers nothing any more: the server stops, and its sockets are to be closed with it.
    pub(super) fn withdraw(&self) {
        drop(self.lock().take());
        // Fails only where it is set already.
        let _ = write(&self.ended, &1u64.to_ne_bytes());
    }

    /// A thread that panicked meanwhile leaves the list whole.
    fn lock(&self) -> MutexGuard<'_, Option<Vec<Offered>>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers until another process has taken over, or the server stops.
    fn answer(&self, control: &Control, answering: &Answering) {
        let mut asker = None;
        let (mut is_short, mut has_warned) = (false, false);
        loop {
            let ready = match self.wait((!is_short).then_some(control), asker.as_ref()) {
                Ok(ready) => ready,
                Err(error) => return log::error!(%error, "no process can take over any more"),
            };
            if ready.has_ended {
                asker.iter().for_each(|it: &Asker| it.refuse("it is stopping: start again"));
                return;
            }
            if ready.has_message
                && let Some(mut it) = asker.take()
            {
                match self.answer_one(&mut it, control, answering) {
                    Answered::Waits => asker = Some(it),
                    Answered::HasGone => {}
                    Answered::HasTakenOver => return control.give_up(),
                }
            }
            is_short = false;
            if !ready.has_asker {
                continue;
            }
            match control.accept() {
                Ok(next) => {
                    has_warned = false;
                    // One that hangs does not keep another from taking over.
                    if let Some(before) = asker.replace(next) {
                        before.refuse("another process that takes over has started since");
                    }
                }
                Err(error) => {
                    if !std::mem::replace(&mut has_warned, true) {
                        log::warn!(%error, "a process that takes over has to wait");
                    }
                    is_short = true;
                }
            }
        }
    }

    /// Waits for what is next. Without `control` for a while only: a process that cannot be accepted,
    /// as descriptors are short, would end each wait at once.
    fn wait(&self, control: Option<&Control>, asker: Option<&Asker>) -> io::Result<Awaited> {
        let short = control.is_none().then_some(SHORT_WAIT);
        // One that is sent more when it has read, and is given up when it does not read.
        let to_read = asker.and_then(Asker::time_to_read);
        let limit = short.into_iter().chain(to_read).min();
        let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
        let mut on = vec![PollFd::new(&self.ended, PollFlags::IN)];
        // One that has no events is never ready.
        let ended = PollFd::new(&self.ended, PollFlags::empty());
        on.push(control.map_or(ended, |control| PollFd::new(control, PollFlags::IN)));
        let events = if to_read.is_some() { PollFlags::OUT } else { PollFlags::IN };
        on.extend(asker.map(|asker| PollFd::new(asker, events)));
        loop {
            match poll(&mut on, limit.as_ref()) {
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
                Ok(_) => break,
            }
        }
        let is_ready = |index: usize| on.get(index).is_some_and(|it| !it.revents().is_empty());
        let is_late = asker.and_then(Asker::time_to_read).is_some_and(|left| left.is_zero());
        let (has_ended, has_asker) = (is_ready(0), is_ready(1));
        Ok(Awaited { has_ended, has_asker, has_message: is_ready(2) || is_late })
    }

    /// Answers what a process says next, when it has read what it was sent.
    fn answer_one(&self, asker: &mut Asker, control: &Control, answering: &Answering) -> Answered {
        if asker.time_to_read().is_some() {
            return Self::send(asker, control);
        }
        match asker.hear() {
            Ok(Some(Heard::Ask)) => {
                let groups = self.lock();
                asker.offer(groups.iter().flatten().map(|it| (it.name, &it.sockets)), control);
                drop(groups);
                Self::send(asker, control)
            }
            Ok(Some(Heard::Take(names))) => self.hand_over(asker, &names, answering),
            Ok(None) => {
                log::warn!(process = asker.process(), "a process ended before it took over");
                Answered::HasGone
            }
            Err(fault) => {
                log::warn!(fault, process = asker.process(), "a process cannot take over");
                Answered::HasGone
            }
        }
    }

    /// Sends a process what waits for it.
    fn send(asker: &mut Asker, control: &Control) -> Answered {
        match asker.send(control) {
            Ok(()) => Answered::Waits,
            Err(error) => {
                log::warn!(%error, process = asker.process(), "the sockets were not offered");
                Answered::HasGone
            }
        }
    }

    /// Has the workers leave what another process has taken, and stop.
    fn hand_over(&self, asker: &Asker, names: &[GroupName], answering: &Answering) -> Answered {
        let Some(groups) = self.lock().take() else {
            asker.refuse("it is stopping: start again");
            return Answered::HasGone;
        };
        log::info!(process = asker.process(), "another process takes over");
        let is_taken = |offered: &Offered| names.contains(&offered.name);
        let (taken, left): (Vec<_>, Vec<_>) = groups.into_iter().partition(is_taken);
        // Their sockets are to be closed with those of the workers.
        drop(left);
        let (released, all_released) = mpsc::channel();
        answering.state.hand_over(asker.process());
        for (part, workers) in [(Part::Main, &answering.main), (Part::Admin, &answering.admin)] {
            let of_part = taken.iter().filter(|it| it.name.part == part);
            let handed = HandOver {
                names: of_part.map(|it| ListenName(it.name.number)).collect(),
                drain: (part == Part::Main).then_some(answering.drain_timeout),
                released: released.clone(),
            };
            for (mailbox, counters) in workers {
                if counters.pulse.state() == WorkerState::Running {
                    mailbox.post(Command::HandOver(Box::new(handed.clone())));
                }
            }
        }
        taken.into_iter().for_each(|it| it.sockets.give_up());
        drop(released);
        if all_released.recv_timeout(RELEASE_MAX) == Err(RecvTimeoutError::Timeout) {
            log::warn!("a worker is blocked: another process accepts already");
        }
        // It knows what it has, whether or not it still hears this.
        let _ = asker.confirm();
        Answered::HasTakenOver
    }
}

impl Handover {
    /// Asks the process that serves at `path`, and makes what answers the next one.
    pub(super) fn begin(path: &Path) -> Result<Self, Error> {
        let takeover = Takeover::begin(path)?;
        let failed = |error: io::Error| Error::Takeover {
            path: path.display().to_string(),
            fault: format!("what answers the next process could not be started: {error}"),
        };
        let offer = Arc::new(Offer::new().map_err(|errno| failed(errno.into()))?);
        let (start, started) = mpsc::channel::<(Control, Answering)>();
        let answering = Arc::clone(&offer);
        let thread = thread::Builder::new().name("picows-takeover".to_owned()).spawn(move || {
            if let Ok((control, workers)) = started.recv() {
                answering.answer(&control, &workers);
            }
        });
        let (path, thread) = (path.display().to_string(), thread.map_err(failed)?);
        Ok(Self { path, takeover, offer, start, thread })
    }

    pub(super) fn has_predecessor(&self) -> bool {
        self.takeover.predecessor.is_some()
    }

    /// The error of a start, which may be that the process that serves offers nothing.
    pub(super) fn explain(&self, error: Error) -> Error {
        match error {
            Error::Listen { address, source }
                if source.kind() == io::ErrorKind::AddrInUse && !self.has_predecessor() =>
            {
                let fault = format!(
                    "no process answers there, and {address} is in use: the process that serves has to be \
                     started with this path as well; stop it once"
                );
                Error::Takeover { path: self.path.clone(), fault }
            }
            error => error,
        }
    }

    /// Where sockets are offered, and where they come from.
    pub(super) fn parts(&mut self) -> (Arc<Offer>, Option<&mut Predecessor>) {
        (Arc::clone(&self.offer), self.takeover.predecessor.as_mut())
    }

    /// All is ready: has the predecessor stop accepting.
    pub(super) fn commit(&mut self) -> Result<(), Error> {
        self.takeover.commit()
    }

    /// The server has started: begins to answer the process that takes over from it.
    pub(super) fn answer_for(self, handle: &mut ServerHandle, drain_timeout: Duration) {
        let (predecessor, control) = self.takeover.finish();
        let notified = |it: &WorkerThread| (Arc::clone(&it.mailbox), Arc::clone(&it.counters));
        let admin = handle.admin().map(|admin| &admin.workers[..]).unwrap_or_default();
        let workers = Answering {
            main: handle.workers.iter().map(notified).collect(),
            admin: admin.iter().map(notified).collect(),
            state: handle.state(),
            drain_timeout,
        };
        // The thread waits for this, and does nothing else.
        let _ = self.start.send((control, workers));
        handle.set_takeover(predecessor, self.thread);
    }
}

/// What the thread that answers was woken by.
struct Awaited {
    has_ended: bool,
    has_asker: bool,
    /// It has sent something, may be sent more, or has taken too long to read.
    has_message: bool,
}

/// What has become of a process that wants to take over.
enum Answered {
    Waits,
    HasGone,
    HasTakenOver,
}

/// How long a process that asks waits while descriptors are short.
const SHORT_WAIT: Duration = Duration::from_millis(200);
/// How long a new process waits for workers to leave their sockets: a turn, as a rule.
const RELEASE_MAX: Duration = Duration::from_secs(5);
