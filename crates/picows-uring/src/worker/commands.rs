//! Handles commands of other threads, graceful shutdown included.
//!
//! What a stop leads to is in `shutdown.rs`.

use super::Worker;
use crate::command::{Command, ConnectionCommand};
use crate::foreign::log::{LogLine, log_limited, peer_field};
use crate::ring::{Ring, Token};
use crate::status::SendStatus;

impl<R: Ring> Worker<R> {
    /// Handles the commands in the mailbox.
    #[inline]
    pub(super) fn handle_commands(&mut self) {
        self.memory.on_mailbox_read();
        if self.local.mailbox.has_mail() {
            self.handle_mail();
        }
    }

    #[inline(never)] // Most turns have none, and would have it in the middle of their way.
    fn handle_mail(&mut self) {
        for command in self.local.mailbox.take() {
            match command {
                Command::Stop { drain } => self.stop(drain),
                Command::Beat => self.local.counters.pulse.answer(),
                Command::LookAtMemory => self.memory.on_asked(),
                Command::CloseListener(listener) => self.close_listener(listener),
                Command::Topics => self.local.note_publications(),
                Command::Adopt(adopted) => self.adopt_from_elsewhere(*adopted),
                Command::ListenMore => self.listen_more(),
                Command::CloseListeners(name) => self.close_listeners(name),
                Command::HandOver(handed) => self.hand_over(*handed),
                Command::Connection(token, action) => self.act(token, action),
            }
        }
    }

    /// Carries out the command of a handle in another thread.
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
            // The caller has got "posted", so the log is all that is left.
            let peer = connection.session().peer.get();
            log_limited!(warn, self.local, LogLine::PostRefused, peer = peer_field(peer), %misuse);
        }
    }
}
