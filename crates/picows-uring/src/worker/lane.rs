//! One connection, and what serving it takes, borrowed together: it is looked up once.
//!
//! What is done with it is in the files of the services: `receive.rs`, `deferred.rs`, `flush.rs`,
//! `deadlines.rs`, `refusals.rs`.

use super::Worker;
use super::deadlines::Deadlines;
use super::flush::Flush;
use super::receive::Receive;
use super::timers::Timers;
use crate::connection::Connection;
use crate::local::Local;
use crate::ring::{Ring, Token};

/// A connection of a worker, with those parts of the worker that it needs.
pub(super) struct Lane<'a, R: Ring> {
    pub(super) token: Token,
    pub(super) connection: &'a mut Connection,
    pub(super) ring: &'a mut R,
    pub(super) local: &'a Local,
    pub(super) timers: &'a mut Timers,
    pub(super) deadlines: &'a mut Deadlines,
    pub(super) receive: &'a mut Receive,
    pub(super) flush: &'a mut Flush,
    pub(super) is_stopping: bool,
}

impl<R: Ring> Lane<'_, R> {
    /// Works inside the span of the connection, if a subscriber of the log may want it.
    pub(super) fn in_span<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> T {
        let _span = self.connection.session().enter_span();
        work(self)
    }
}

impl<R: Ring> Worker<R> {
    /// The connection behind a token, unless it has ended.
    #[inline]
    pub(super) fn lane(&mut self, token: Token) -> Option<Lane<'_, R>> {
        Some(Lane {
            token,
            connection: self.slots.get_mut(token)?,
            ring: &mut self.ring,
            local: &self.local,
            timers: &mut self.timers,
            deadlines: &mut self.deadlines,
            receive: &mut self.receive,
            flush: &mut self.flush,
            is_stopping: self.shutdown.is_stopping,
        })
    }
}
