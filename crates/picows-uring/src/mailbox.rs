//! Words from other threads to a worker.
//!
//! A queue, and a wake-up that costs a system call only while the worker sleeps. Its length is bounded
//! where commands are posted: frames by their bytes and ends by their kinds, for each connection
//! (`remote.rs`), and of the others there is one each.

use crate::command::Command;
use crate::sync::{AtomicBool, AtomicUsize, Mutex, MutexGuard, Ordering, PoisonError, Signal};

/// Letters for one worker.
#[derive(Debug)]
pub(crate) struct Mailbox {
    commands: Mutex<Vec<Command>>,
    /// Whether there are commands: read by the worker in every turn, without the lock.
    has_mail: AtomicBool,
    /// Bytes of payloads in the commands. Written under the lock, and read by the worker in every turn.
    posted: AtomicUsize,
    /// Whether the worker sleeps, or is about to, so that it must be woken.
    is_sleeping: AtomicBool,
    /// What wakes it.
    signal: Signal,
}

impl Mailbox {
    pub(crate) fn new(signal: impl Into<Signal>) -> Self {
        Self {
            commands: Mutex::default(),
            has_mail: AtomicBool::new(false),
            posted: AtomicUsize::new(0),
            is_sleeping: AtomicBool::new(false),
            signal: signal.into(),
        }
    }

    /// Posts a command, and wakes the worker if it sleeps.
    pub(crate) fn post(&self, command: Command) {
        self.post_payload(command, 0);
    }

    /// [`post`](Self::post), of a command that keeps `bytes` of memory.
    pub(crate) fn post_payload(&self, command: Command, bytes: usize) {
        let mut commands = self.lock();
        put(&mut commands, command);
        if bytes > 0 {
            self.posted.store(self.posted() + bytes, Ordering::Relaxed);
        }
        drop(commands);
        // The worker says that it sleeps and then looks for mail; we leave mail and then look
        // whether it sleeps. In one total order, at least one of us sees the other.
        self.has_mail.store(true, Ordering::SeqCst);
        if self.is_sleeping.swap(false, Ordering::SeqCst) {
            self.signal.raise();
        }
    }

    /// Makes the descriptor of the worker readable, whether it sleeps or not.
    pub(crate) fn raise(&self) {
        self.signal.raise();
    }

    /// Takes all commands. Cheap when there are none.
    pub(crate) fn take(&self) -> Vec<Command> {
        if !self.has_mail() {
            return Vec::new();
        }
        let mut commands = self.lock();
        self.has_mail.store(false, Ordering::SeqCst);
        self.posted.store(0, Ordering::Relaxed);
        std::mem::take(&mut commands)
    }

    /// Bytes of memory that the commands keep.
    pub(crate) fn posted(&self) -> usize {
        self.posted.load(Ordering::Relaxed)
    }

    /// How many commands there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether there are commands.
    pub(crate) fn has_mail(&self) -> bool {
        self.has_mail.load(Ordering::Relaxed)
    }

    /// The worker is about to sleep. `false` when there is mail, and it should not.
    pub(crate) fn before_sleep(&self) -> bool {
        // An exchange: it sees what a thread left that has exchanged before, and that thread sees it
        // if it comes later (`models/`).
        self.is_sleeping.swap(true, Ordering::SeqCst);
        if self.has_mail.load(Ordering::SeqCst) {
            self.after_sleep();
            return false;
        }
        true
    }

    /// The worker is awake.
    pub(crate) fn after_sleep(&self) {
        self.is_sleeping.store(false, Ordering::SeqCst);
    }

    /// A thread that panicked while posting leaves the queue whole.
    fn lock(&self) -> MutexGuard<'_, Vec<Command>> {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Appends a command. One that stops takes the place of another that waits: the shorter time is what
/// comes of both.
fn put(commands: &mut Vec<Command>, command: Command) {
    if let Command::Stop { drain } = command {
        let waiting = commands.iter_mut().find_map(|waiting| match waiting {
            Command::Stop { drain } => Some(drain),
            _ => None,
        });
        if let Some(waiting) = waiting {
            *waiting = drain.min(*waiting);
            return;
        }
    }
    commands.push(command);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::ConnectionCommand;
    use crate::ring::Token;
    use rustix::event::{EventfdFlags, eventfd};
    use std::sync::Arc;
    use std::time::Duration;

    fn mailbox() -> Mailbox {
        Mailbox::new(Arc::new(eventfd(0, EventfdFlags::NONBLOCK).unwrap()))
    }

    fn wakes(mailbox: &Mailbox) -> u64 {
        let mut count = [0; 8];
        match rustix::io::read(&mailbox.signal.0, &mut count) {
            Ok(_) => u64::from_ne_bytes(count),
            Err(_) => 0,
        }
    }

    fn command() -> Command {
        Command::Connection(Token { slot: 0, generation: 0 }, ConnectionCommand::Abort)
    }

    #[test]
    fn one_stop_waits_and_the_shorter_time_is_what_it_says() {
        let mailbox = mailbox();
        for seconds in [7, 3, 5].into_iter().cycle().take(10_000) {
            mailbox.post(Command::Stop { drain: Duration::from_secs(seconds) });
        }
        mailbox.post(command());
        let commands = mailbox.take();
        let [Command::Stop { drain }, Command::Connection(..)] = commands[..] else {
            panic!("{} commands", commands.len());
        };
        assert_eq!(drain, Duration::from_secs(3));
    }

    #[test]
    fn only_a_sleeper_is_woken_and_once() {
        let mailbox = mailbox();
        mailbox.post(command());
        assert_eq!(wakes(&mailbox), 0, "awake: it looks by itself");
        assert_eq!(mailbox.take().len(), 1);
        assert!(mailbox.before_sleep());
        mailbox.post(command());
        mailbox.post(command());
        assert_eq!(wakes(&mailbox), 1);
        assert_eq!(mailbox.take().len(), 2);
    }

    #[test]
    fn a_command_keeps_the_worker_awake() {
        let mailbox = mailbox();
        mailbox.post(command());
        assert!(!mailbox.before_sleep());
        mailbox.take();
        assert!(mailbox.before_sleep());
        mailbox.after_sleep();
        mailbox.post(command());
        assert_eq!(wakes(&mailbox), 0);
    }

    #[test]
    fn no_command_is_lost_between_threads() {
        const LETTERS: usize = 10_000;
        let mailbox = mailbox();
        std::thread::scope(|scope| {
            scope.spawn(|| (0..LETTERS).for_each(|_| mailbox.post(command())));
            let mut taken = 0;
            while taken < LETTERS {
                taken += mailbox.take().len();
                if taken < LETTERS && mailbox.before_sleep() {
                    let mut wait = [rustix::event::PollFd::new(
                        &mailbox.signal.0,
                        rustix::event::PollFlags::IN,
                    )];
                    rustix::event::poll(&mut wait, None).unwrap();
                    assert!(wakes(&mailbox) > 0);
                    mailbox.after_sleep();
                }
            }
        });
    }
}
