//! Models of what threads share in picows-uring: the code itself, on the types of loom, in every
//! order that the memory model allows.
//!
//! `mailbox.rs` is compiled from where it is. It takes what it shares from `crate::sync`, which here is
//! made of loom's types, and the eventfd that wakes a worker is a flag with a condition.

#[allow(dead_code, reason = "the models use their own part")]
#[path = "../../crates/picows-uring/src/mailbox.rs"]
mod mailbox;

/// In the place of `picows_uring::command`.
mod command {
    use std::time::Duration;

    #[derive(Debug)]
    pub(crate) enum ConnectionCommand {
        Abort,
    }

    #[derive(Debug)]
    pub(crate) enum Command {
        #[allow(dead_code, reason = "as the real one")]
        Stop {
            drain: Duration,
        },
        #[allow(dead_code, reason = "as the real one")]
        LookAtMemory,
        #[allow(dead_code, reason = "as the real one")]
        CloseListener(u32),
        #[allow(dead_code, reason = "as the real one")]
        Adopt(u32),
        #[allow(dead_code, reason = "as the real one")]
        ListenMore,
        #[allow(dead_code, reason = "as the real one")]
        CloseListeners(u32),
        #[allow(dead_code, reason = "as the real one")]
        Topics,
        Connection(crate::ring::Token, ConnectionCommand),
    }
}

/// In the place of `picows_uring::ring`.
mod ring {
    #[derive(Clone, Copy, Debug)]
    #[allow(dead_code, reason = "as the real one")]
    pub(crate) struct Token {
        pub(crate) slot: u32,
        pub(crate) generation: u32,
    }
}

/// In the place of `picows_uring::sync`.
mod sync {
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    pub(crate) use loom::sync::{Mutex, MutexGuard};
    pub(crate) use std::sync::PoisonError;

    use loom::sync::{Arc, Condvar};

    /// An eventfd: raised once or more often, it wakes a wait once, before or after it began.
    #[derive(Clone, Debug, Default)]
    pub(crate) struct Signal(Arc<(Mutex<bool>, Condvar)>);

    impl Signal {
        pub(crate) fn raise(&self) {
            *self.0.0.lock().unwrap() = true;
            self.0.1.notify_one();
        }

        /// Sleeps until it has been raised.
        pub(crate) fn wait(&self) {
            let mut is_raised = self.0.0.lock().unwrap();
            while !std::mem::take(&mut *is_raised) {
                is_raised = self.0.1.wait(is_raised).unwrap();
            }
        }
    }
}

use command::Command;
use loom::sync::Arc;
use mailbox::Mailbox;
use sync::Signal;

/// Runs `model` in every order with at most so many preemptions: further ones multiply the runs, and
/// faults of such small machines show with two (Musuvathi and Qadeer, PLDI 2007).
fn run(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS_MAX);
    builder.check(model);
}

const PREEMPTIONS_MAX: usize = 3;

fn letter(slot: u32) -> Command {
    Command::Connection(ring::Token { slot, generation: 0 }, command::ConnectionCommand::Abort)
}

/// The slots of what was taken.
fn slots(letters: Vec<Command>) -> impl Iterator<Item = u32> {
    letters.into_iter().filter_map(|letter| match letter {
        Command::Connection(token, _) => Some(token.slot),
        _ => None,
    })
}

/// `posters` threads post `each` letters to a worker that takes them and sleeps in between, as in
/// `host.rs`. A wake-up that is lost is a deadlock, which loom reports. The worker gets each letter
/// once, and those of one thread in their order.
pub fn posts_against_sleep(posters: u32, each: u32) {
    run(move || {
        let signal = Signal::default();
        let mailbox = Arc::new(Mailbox::new(signal.clone()));
        let threads: Vec<_> = (0..posters)
            .map(|poster| {
                let mailbox = Arc::clone(&mailbox);
                loom::thread::spawn(move || {
                    (0..each).for_each(|count| mailbox.post(letter(poster * each + count)));
                })
            })
            .collect();
        let mut taken = Vec::new();
        loop {
            taken.extend(slots(mailbox.take()));
            if taken.len() as u32 >= posters * each {
                break;
            }
            if mailbox.before_sleep() {
                signal.wait();
                mailbox.after_sleep();
            }
        }
        for poster in 0..posters {
            let of_poster = taken.iter().filter(|slot| **slot / each == poster);
            let wanted = poster * each..(poster + 1) * each;
            assert!(of_poster.copied().eq(wanted), "of {poster}: {taken:?}");
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

/// A worker that is woken by something else, as by its ring, while a letter is posted: it must not
/// sleep again without it.
pub fn post_against_another_wake() {
    run(|| {
        let signal = Signal::default();
        let mailbox = Arc::new(Mailbox::new(signal.clone()));
        let poster = {
            let mailbox = Arc::clone(&mailbox);
            loom::thread::spawn(move || mailbox.post(letter(0)))
        };
        // The first sleep ends at once, by either wake-up.
        if mailbox.before_sleep() {
            mailbox.after_sleep();
        }
        let mut taken = mailbox.take().len();
        while taken == 0 {
            if mailbox.before_sleep() {
                signal.wait();
                mailbox.after_sleep();
            }
            taken = mailbox.take().len();
        }
        assert_eq!(taken, 1);
        poster.join().unwrap();
        assert!(mailbox.take().is_empty());
    });
}
