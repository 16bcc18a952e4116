//! Waiting for the epoll driver, in a loop that polls its descriptor or in `epoll_wait`.

use super::in_loop::InLoop;
use super::sockets::{Reading, Receive};
use super::{EpollRing, Found};
use crate::ring::{Completion, ReceiveResult, Wait};
use rustix::fd::OwnedFd;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

impl Wait for EpollRing {
    fn descriptor(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.epoll)
    }

    fn signal(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.event)
    }

    fn set_signals(&mut self, on: bool) {
        // The owner has slept: what woke it is still to be fetched, unless the loop has done so.
        if !on {
            self.fresh_polls = u8::from(self.found_in_loop == Some(Found::Sockets));
        }
    }

    fn join_loop(&mut self) {
        self.in_loop = Some(InLoop::default());
    }

    fn leave_loop(&mut self) {
        let Some(in_loop) = self.in_loop.take() else { return };
        let watched: Vec<_> = in_loop.sockets().collect();
        // The kernel knows a socket in one epoll descriptor more only for a moment.
        drop(in_loop);
        for socket in watched {
            let Err(error) = self.register(socket) else { continue };
            let Some(entry) = self.sockets.get_mut(socket.0 as u64) else { continue };
            if let Some(Reading::Bytes(Receive { token, .. })) = entry.reading.take() {
                let result = ReceiveResult::Failed(error);
                self.done.push_back(Completion::Received { token, result, more: false });
            }
        }
    }

    fn poll_sockets(&mut self, context: &mut Context<'_>, is_signalled: bool) -> Poll<()> {
        let Self { in_loop, sockets, ready, .. } = self;
        let has_ready = in_loop.as_ref().is_some_and(|it| it.take(context, sockets, ready));
        self.found_in_loop = match (is_signalled, has_ready) {
            (true, _) => Some(Found::Descriptor),
            (false, true) => Some(Found::Sockets),
            (false, false) => None,
        };
        if self.found_in_loop.is_some() { Poll::Ready(()) } else { Poll::Pending }
    }

    fn look(&mut self) {
        if !self.is_ready() {
            // A failure comes again with the next poll.
            let _ = self.fetch(Some(Duration::ZERO));
        }
    }

    fn wait(&mut self) -> io::Result<()> {
        // The alarm ends it at the deadline. A timeout would have the kernel set a timer for each sleep.
        let timeout = self.is_ready().then_some(Duration::ZERO);
        self.fetch(timeout)?;
        // One that returns the events, and one that finds nothing more to do.
        self.fresh_polls = 2;
        Ok(())
    }

    fn dedicate(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn enters(&self) -> u64 {
        self.looks
    }

    fn is_io_uring(&self) -> bool {
        false
    }
}
