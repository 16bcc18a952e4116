//! What other threads ask for; above all the end: saying goodbye to everybody, and waiting for
//! them, but not for ever.

use super::{Accept, Alarm, Farewells, Worker};
use crate::command::{Letter, RemoteAction};
use crate::connection::Connection;
use crate::foreign::log::{LogLine, log_limited};
use crate::ring::{Ring, Token};
use crate::status::{DisconnectCause, SendStatus};
use picows_uring_proto::{CloseCode, Phase, Tick};
use std::time::Duration;

impl<R: Ring> Worker<R> {
    pub(super) fn read_mail(&mut self) {
        self.posted_to_evicted = 0;
        for letter in self.shared.mailbox.take() {
            match letter {
                Letter::Stop { drain } => self.stop(drain),
                Letter::LookAtMemory => self.memory.asked(),
                Letter::Remote(token, action) => self.act(token, action),
            }
        }
    }

    /// Does what a handle in another thread asked for.
    fn act(&mut self, token: Token, action: RemoteAction) {
        // A connection that has ended since is not found: its token is of the past.
        let Some(connection) = self.slots.get_mut(token) else { return };
        let transport = &connection.transport;
        connection.session().remote().read(&action);
        let status = match action {
            RemoteAction::Send(head, payload) => transport.send_bytes(head, &payload),
            RemoteAction::SendLatest(key, head, payload) => {
                transport.send_latest_bytes(key, head, &payload)
            }
            RemoteAction::Close(frame) => {
                // Where it is refused, another CLOSE was sent, or the end has come.
                transport.send_close_frame(frame);
                return;
            }
            RemoteAction::ResumeReading => return transport.resume_reading(),
            RemoteAction::Disconnect => return transport.disconnect(),
            RemoteAction::Abort => return transport.abort(),
            RemoteAction::QueueFull => return connection.session().close_as_full(),
        };
        if let SendStatus::Refused(misuse) = status {
            // The caller was told that it was posted, so the log is all that is left.
            let peer = &connection.session().peer;
            log_limited!(warn, self.shared, LogLine::PostRefused, ?peer, %misuse);
        }
    }

    /// Is done as soon as no connection is left.
    pub(crate) fn end_when_empty(&mut self) {
        self.is_ending = true;
    }

    /// Accepts no more, ends every connection with CLOSE 1001, one after the other, and without it
    /// after `drain`.
    pub(crate) fn stop(&mut self, drain: Duration) {
        let now = self.shared.now.get();
        self.drain_at(now + drain);
        if self.is_stopping {
            self.farewells.hurry(now, self.shared.config.drain_spread, drain);
            return self.say_farewells();
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
            connection.session().touch();
        }
        self.farewells = Farewells::new(open, now, self.shared.config.drain_spread, drain);
        self.say_farewells();
    }

    /// Stops accepting: at once, or, where another server takes over the port, when the connections
    /// that have begun are there, which the kernel would reset with the socket.
    fn leave_port(&mut self, now: Tick, drain: Duration) {
        if !self.shared.config.leaves_port || drain.is_zero() {
            return self.stop_accepting();
        }
        for listener in self.accept.iter().flat_map(Accept::listeners) {
            self.ring.drop_new_connections(listener);
        }
        let at = now + HANDSHAKE_GRACE.min(drain / 2);
        self.wheel.insert(at, Alarm::StopAccepting.pack());
    }

    /// Sees to it that those who are left are dropped at `time`, unless they are before. One timer
    /// does, however often the worker is stopped.
    fn drain_at(&mut self, time: Tick) {
        match self.drain {
            Some((_, armed)) if armed <= time => return,
            Some((timer, _)) => drop(self.wheel.cancel(timer)),
            None => {}
        }
        self.drain = Some((self.wheel.insert(time, Alarm::Drain.pack()), time));
    }

    /// Tells those whose turn it is that the server stops.
    pub(super) fn say_farewells(&mut self) {
        let now = self.shared.now.get();
        while let Some(token) = self.farewells.next(now) {
            // It may have ended meanwhile.
            let Some(connection) = self.slots.get_mut(token) else { continue };
            if connection.phase() == Phase::Open {
                say_farewell(connection);
            }
        }
        if let Some(timer) = self.farewells.timer.take() {
            self.wheel.cancel(timer);
        }
        if let Some(next) = self.farewells.next_at() {
            self.farewells.timer = Some(self.wheel.insert(next, Alarm::Farewell.pack()));
        }
    }
}

/// Tells a connection that the server stops.
pub(super) fn say_farewell(connection: &Connection) {
    connection.session().set_cause(DisconnectCause::Stopped);
    connection.transport.send_close(CloseCode::GOING_AWAY, "server is shutting down");
    connection.session().touch();
}

/// How long a server that stops waits for the rest of a request: a few round trips.
pub(super) const HANDSHAKE_GRACE: Duration = Duration::from_millis(250);
