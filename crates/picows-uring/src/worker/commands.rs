//! What other threads ask for; above all the end: saying goodbye to everybody, and waiting for
//! them, but not for ever.

use super::{Accept, ShutdownPacer, Timer, Worker};
use crate::command::{Command, ConnectionCommand};
use crate::connection::Connection;
use crate::foreign::log::{LogLine, log_limited};
use crate::ring::{Ring, Token};
use crate::status::{DisconnectCause, SendStatus};
use picows_uring_proto::{CloseCode, Phase, Tick};
use std::time::Duration;

impl<R: Ring> Worker<R> {
    pub(super) fn handle_commands(&mut self) {
        self.posted_to_evicted = 0;
        for command in self.local.mailbox.take() {
            match command {
                Command::Stop { drain } => self.stop(drain),
                Command::LookAtMemory => self.memory.asked(),
                Command::Connection(token, action) => self.act(token, action),
            }
        }
    }

    /// Does what a handle in another thread asked for.
    fn act(&mut self, token: Token, action: ConnectionCommand) {
        // A connection that has ended since is not found: its token is of the past.
        let Some(connection) = self.slots.get_mut(token) else { return };
        let transport = &connection.transport;
        connection.session().remote().read(&action);
        let status = match action {
            ConnectionCommand::Send(head, payload) => transport.send_bytes(head, &payload),
            ConnectionCommand::SendLatest(key, head, payload) => {
                transport.send_latest_bytes(key, head, &payload)
            }
            ConnectionCommand::Close(frame) => {
                // Where it is refused, another CLOSE was sent, or the end has come.
                transport.send_close_frame(frame);
                return;
            }
            ConnectionCommand::ResumeReading => return transport.resume_reading(),
            ConnectionCommand::Disconnect => return transport.disconnect(),
            ConnectionCommand::Abort => return transport.abort(),
            ConnectionCommand::QueueFull => return connection.session().close_as_full(),
        };
        if let SendStatus::Refused(misuse) = status {
            // The caller was told that it was posted, so the log is all that is left.
            let peer = &connection.session().peer;
            log_limited!(warn, self.local, LogLine::PostRefused, ?peer, %misuse);
        }
    }

    /// Is done as soon as no connection is left.
    pub(crate) fn end_when_empty(&mut self) {
        self.is_ending = true;
    }

    /// Accepts no more, ends every connection with CLOSE 1001, one after the other, and without it
    /// after `drain`.
    pub(crate) fn stop(&mut self, drain: Duration) {
        let now = self.local.now.get();
        self.drain_at(now + drain);
        if self.is_stopping {
            self.shutdown.hurry(now, self.local.config.drain_spread, drain);
            return self.close_due();
        }
        self.is_stopping = true;
        self.leave_port(now, drain);
        let mut open = Vec::new();
        for connection in self.slots.iter_mut() {
            let session = connection.session();
            match connection.phase() {
                Phase::Handshake if session.is_client => {
                    session.set_cause(DisconnectCause::Stopped);
                    session.conversation.borrow_mut().end();
                }
                // Answered when it is complete, or else with 503 when that is over.
                Phase::Handshake => {
                    session.conversation.borrow_mut().expire(now + HANDSHAKE_GRACE);
                }
                Phase::Open => open.push(session.token),
                Phase::Finishing | Phase::Lingering | Phase::Ended => {}
            }
            connection.session().mark_dirty();
        }
        self.shutdown = ShutdownPacer::new(open, now, self.local.config.drain_spread, drain);
        self.close_due();
    }

    /// Stops accepting: at once, or, where another server takes over the port, when the connections
    /// that have begun are there, which the kernel would reset with the socket.
    fn leave_port(&mut self, now: Tick, drain: Duration) {
        if !self.local.config.leaves_port || drain.is_zero() {
            return self.stop_accepting();
        }
        for listener in self.accept.iter().flat_map(Accept::listeners) {
            self.ring.drop_new_connections(listener);
        }
        let at = now + HANDSHAKE_GRACE.min(drain / 2);
        self.wheel.insert(at, Timer::StopAccepting.pack());
    }

    /// Sees to it that those who are left are dropped at `time`, unless they are before. One timer
    /// does, however often the worker is stopped.
    fn drain_at(&mut self, time: Tick) {
        match self.drain {
            Some((_, armed)) if armed <= time => return,
            Some((timer, _)) => drop(self.wheel.cancel(timer)),
            None => {}
        }
        self.drain = Some((self.wheel.insert(time, Timer::Drain.pack()), time));
    }

    /// Tells those whose turn it is that the server stops.
    pub(super) fn close_due(&mut self) {
        let now = self.local.now.get();
        while let Some(token) = self.shutdown.next(now) {
            // It may have ended meanwhile.
            let Some(connection) = self.slots.get_mut(token) else { continue };
            if connection.phase() == Phase::Open {
                send_going_away(connection);
            }
        }
        if let Some(timer) = self.shutdown.timer.take() {
            self.wheel.cancel(timer);
        }
        if let Some(next) = self.shutdown.next_at() {
            self.shutdown.timer = Some(self.wheel.insert(next, Timer::Shutdown.pack()));
        }
    }
}

/// Tells a connection that the server stops.
pub(super) fn send_going_away(connection: &Connection) {
    connection.session().set_cause(DisconnectCause::Stopped);
    connection.transport.send_close(CloseCode::GOING_AWAY, "server is shutting down");
    connection.session().mark_dirty();
}

/// How long a server that stops waits for the rest of a request: a few round trips.
pub(super) const HANDSHAKE_GRACE: Duration = Duration::from_millis(250);
