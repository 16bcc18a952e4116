//! Backlog between the input and the connection, for the thread that reads the input.
//!
//! Counts the messages posted to the connection's thread and not yet taken by it. Messages taken
//! are in the connection's queue, whose length the watermarks report.

use bytes::Bytes;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Messages between the two threads.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    /// Posted messages that the connection's thread has not taken.
    posted: AtomicUsize,
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    /// The connection's queue is above its high watermark.
    is_congested: bool,
    /// The connection has ended.
    is_over: bool,
}

impl Backlog {
    /// Makes a message that counts as posted until it is dropped.
    pub(super) fn post(self: &Arc<Self>, payload: Vec<u8>) -> Bytes {
        self.posted.fetch_add(1, Ordering::SeqCst);
        Bytes::from_owner(Posted { payload, backlog: Arc::clone(self) })
    }

    /// Waits until all posted messages are taken and the queue is below its watermark, or the
    /// connection has ended.
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

    /// Ends all waiting: the connection has ended.
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
            // The lock keeps the notification out of the gap between the reader's check and its
            // wait.
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
    fn a_connection_that_has_ended_is_not_waited_for() {
        let backlog = Arc::<Backlog>::default();
        let _message = backlog.post(b"late".to_vec());
        backlog.set_congested(true);
        backlog.end();
        backlog.catch_up();
    }
}
