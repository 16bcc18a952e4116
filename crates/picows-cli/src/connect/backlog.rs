//! How far the input is ahead of the connection, for the thread that reads it.
//!
//! What was posted and not yet taken lies in the memory of this process, and what was taken in the
//! queue of the connection, which tells by itself when it is long.

use bytes::Bytes;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// What is on its way, as both threads see it.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    /// Messages that the connection's thread has not taken.
    posted: AtomicUsize,
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    /// More is queued than the server takes.
    is_congested: bool,
    /// The connection has ended.
    is_over: bool,
}

impl Backlog {
    /// A message that counts as posted for as long as it exists.
    pub(super) fn post(self: &Arc<Self>, payload: Vec<u8>) -> Bytes {
        self.posted.fetch_add(1, Ordering::SeqCst);
        Bytes::from_owner(Posted { payload, backlog: Arc::clone(self) })
    }

    /// Waits until everything was taken and the server has taken most of it, or never will.
    pub(super) fn catch_up(&self) {
        let mut queue = self.lock();
        while !queue.is_over && (queue.is_congested || self.posted.load(Ordering::SeqCst) > 0) {
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    pub(super) fn set_congested(&self, is_congested: bool) {
        self.lock().is_congested = is_congested;
        self.changed.notify_all();
    }

    /// The connection has ended: nobody is to wait any more.
    pub(super) fn end(&self) {
        self.lock().is_over = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Posted {
    payload: Vec<u8>,
    backlog: Arc<Backlog>,
}

impl AsRef<[u8]> for Posted {
    fn as_ref(&self) -> &[u8] {
        &self.payload
    }
}

impl Drop for Posted {
    fn drop(&mut self) {
        if self.backlog.posted.fetch_sub(1, Ordering::SeqCst) == 1 {
            // Not between the other thread's look at the count and its sleep.
            drop(self.backlog.lock());
            self.backlog.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;
    use std::thread;

    #[test]
    fn it_is_over_when_all_is_taken_and_the_queue_is_short() {
        let backlog = Arc::<Backlog>::default();
        backlog.catch_up();
        let messages = [backlog.post(b"one".to_vec()), backlog.post(b"two".to_vec())];
        backlog.set_congested(true);
        let (caught_up, catches) = channel();
        thread::scope(|scope| {
            scope.spawn(|| {
                backlog.catch_up();
                caught_up.send(()).unwrap();
            });
            assert_eq!(messages.concat(), b"onetwo");
            drop(messages);
            assert!(catches.try_recv().is_err());
            backlog.set_congested(false);
            catches.recv().unwrap();
        });
    }

    #[test]
    fn nobody_waits_for_a_connection_that_has_ended() {
        let backlog = Arc::<Backlog>::default();
        let _message = backlog.post(b"late".to_vec());
        backlog.set_congested(true);
        backlog.end();
        backlog.catch_up();
    }
}
