//! Words from other threads to a worker.
//!
//! A queue, and a wake-up that costs a system call only while the worker sleeps. Its length is bounded
//! where letters are posted: frames by their bytes and ends by their kinds, for each connection
//! (`remote.rs`), and of the others there is one each.

use crate::command::Letter;
use crate::sync::{AtomicBool, AtomicUsize, Mutex, MutexGuard, Ordering, PoisonError, Signal};

/// Letters for one worker.
#[derive(Debug)]
pub(crate) struct Mailbox {
    letters: Mutex<Vec<Letter>>,
    /// Whether there are letters: read by the worker in every turn, without the lock.
    has_mail: AtomicBool,
    /// Bytes of payloads in the letters. Written under the lock, and read by the worker in every turn.
    posted: AtomicUsize,
    /// Whether the worker sleeps, or is about to, so that it must be woken.
    is_sleeping: AtomicBool,
    /// What wakes it.
    signal: Signal,
}

impl Mailbox {
    pub(crate) fn new(signal: impl Into<Signal>) -> Self {
        Self {
            letters: Mutex::default(),
            has_mail: AtomicBool::new(false),
            posted: AtomicUsize::new(0),
            is_sleeping: AtomicBool::new(false),
            signal: signal.into(),
        }
    }

    /// Posts a letter, and wakes the worker if it sleeps.
    pub(crate) fn post(&self, letter: Letter) {
        self.post_payload(letter, 0);
    }

    /// [`post`](Self::post), of a letter that keeps `bytes` of memory.
    pub(crate) fn post_payload(&self, letter: Letter, bytes: usize) {
        let mut letters = self.lock();
        put(&mut letters, letter);
        if bytes > 0 {
            self.posted.store(self.posted() + bytes, Ordering::Relaxed);
        }
        drop(letters);
        // The worker says that it sleeps and then looks for mail; we leave mail and then look
        // whether it sleeps. In one total order, at least one of us sees the other.
        self.has_mail.store(true, Ordering::SeqCst);
        if self.is_sleeping.swap(false, Ordering::SeqCst) {
            self.signal.raise();
        }
    }

    /// Takes all letters. Cheap when there are none.
    pub(crate) fn take(&self) -> Vec<Letter> {
        if !self.has_mail() {
            return Vec::new();
        }
        let mut letters = self.lock();
        self.has_mail.store(false, Ordering::SeqCst);
        self.posted.store(0, Ordering::Relaxed);
        std::mem::take(&mut letters)
    }

    /// Bytes of memory that the letters keep.
    pub(crate) fn posted(&self) -> usize {
        self.posted.load(Ordering::Relaxed)
    }

    /// How many letters there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether there are letters.
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
    fn lock(&self) -> MutexGuard<'_, Vec<Letter>> {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Appends a letter. One that stops takes the place of another that waits: the shorter time is what
/// comes of both.
fn put(letters: &mut Vec<Letter>, letter: Letter) {
    if let Letter::Stop { drain } = letter {
        let waiting = letters.iter_mut().find_map(|waiting| match waiting {
            Letter::Stop { drain } => Some(drain),
            Letter::Remote(..) | Letter::LookAtMemory => None,
        });
        if let Some(waiting) = waiting {
            *waiting = drain.min(*waiting);
            return;
        }
    }
    letters.push(letter);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::RemoteAction;
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

    fn letter() -> Letter {
        Letter::Remote(Token { slot: 0, generation: 0 }, RemoteAction::Abort)
    }

    #[test]
    fn one_stop_waits_and_the_shorter_time_is_what_it_says() {
        let mailbox = mailbox();
        for seconds in [7, 3, 5].into_iter().cycle().take(10_000) {
            mailbox.post(Letter::Stop { drain: Duration::from_secs(seconds) });
        }
        mailbox.post(letter());
        let letters = mailbox.take();
        let [Letter::Stop { drain }, Letter::Remote(..)] = letters[..] else {
            panic!("{} letters", letters.len());
        };
        assert_eq!(drain, Duration::from_secs(3));
    }

    #[test]
    fn only_a_sleeper_is_woken_and_once() {
        let mailbox = mailbox();
        mailbox.post(letter());
        assert_eq!(wakes(&mailbox), 0, "awake: it looks by itself");
        assert_eq!(mailbox.take().len(), 1);
        assert!(mailbox.before_sleep());
        mailbox.post(letter());
        mailbox.post(letter());
        assert_eq!(wakes(&mailbox), 1);
        assert_eq!(mailbox.take().len(), 2);
    }

    #[test]
    fn mail_keeps_the_worker_awake() {
        let mailbox = mailbox();
        mailbox.post(letter());
        assert!(!mailbox.before_sleep());
        mailbox.take();
        assert!(mailbox.before_sleep());
        mailbox.after_sleep();
        mailbox.post(letter());
        assert_eq!(wakes(&mailbox), 0);
    }

    #[test]
    fn no_letter_is_lost_between_threads() {
        const LETTERS: usize = 10_000;
        let mailbox = mailbox();
        std::thread::scope(|scope| {
            scope.spawn(|| (0..LETTERS).for_each(|_| mailbox.post(letter())));
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
