//! Relay: two listeners that pass what their connections receive on to each other.

use crate::foreign::StateCell;
use crate::listener::{Listener, ListenerResult};
use crate::status::{DisconnectCause, SendStatus};
use crate::transport::Transport;
use bytes::Bytes;
use picows_uring_proto::{CloseCode, Frame, FrameHead, MsgType};
use std::cell::Cell;
use std::fmt;
use std::rc::Rc;

/// One of the two listeners of [`relay`].
pub struct Relay {
    own: Rc<End>,
    other: Rc<End>,
}

/// Makes two listeners, each of which sends on what the other's connection receives: a proxy, between a
/// client and a server behind it, or any two connections of one worker.
///
/// - Frames are passed on as they are, fragments and RSV bits included, without joining messages. Large
///   ones of a server's connection are not copied.
/// - A connection that falls behind its high watermark pauses reading on the other, until it has caught up.
///   Nothing is received on a connection whose other one is not open yet; what had arrived before is kept.
/// - CLOSE is passed on with code and reason. Where a connection ends without one, the other gets CLOSE 1001
///   where the peer went away, and 1014 (bad gateway) where the second could not be made or was broken.
/// - PINGs are answered on each connection by itself, and PONGs end there; where both have
///   `auto_pong(false)`, both are passed on.
///
/// ```no_run
/// use picows_uring::{Connect, Server, Upgrade, relay, spawn};
///
/// Server::builder().serve(|request| {
///     let (near, far) = relay();
///     let url = format!("ws://127.0.0.1:9002{}", request.target());
///     // Dropping `far` unused, as a failure to connect does, ends the client's connection.
///     spawn(async move { Connect::new(url).connect(far).await })?;
///     Ok::<_, picows_uring::SpawnError>(Upgrade::accept(near))
/// })?;
/// # Ok::<(), picows_uring::Error>(())
/// ```
#[must_use]
pub fn relay() -> (Relay, Relay) {
    let (first, second) = (Rc::<End>::default(), Rc::<End>::default());
    let near = Relay { own: Rc::clone(&first), other: Rc::clone(&second) };
    (near, Relay { own: second, other: first })
}

/// One end of a relay, as both listeners know it.
#[derive(Default)]
struct End {
    transport: StateCell<Option<Transport>>,
    /// Frames for it that came before it was open.
    early: StateCell<Vec<Early>>,
    /// It ends as soon as it opens.
    ends_with: Cell<Option<CloseCode>>,
    is_over: Cell<bool>,
}

enum Early {
    Frame(FrameHead, Bytes),
    Close(Option<CloseCode>, String),
}

impl End {
    fn transport(&self) -> Option<Transport> {
        self.transport.borrow().clone()
    }

    /// Sends CLOSE, or what stands for it before the connection is open.
    fn close(&self, code: Option<CloseCode>, reason: &str) {
        match self.transport() {
            Some(transport) => close(&transport, code, reason),
            None => self.early.borrow_mut().push(Early::Close(code, reason.to_owned())),
        }
    }

    /// Ends with `code`, unless it has ended.
    fn end(&self, code: CloseCode) {
        match self.transport() {
            Some(transport) if !self.is_over.get() => close(&transport, Some(code), ""),
            Some(_) => {}
            None => self.ends_with.set(Some(code)),
        }
    }
}

fn close(transport: &Transport, code: Option<CloseCode>, reason: &str) {
    transport.send_close(code, reason);
    // The peer's answer, and what it sends before, has to be read.
    transport.resume_reading();
}

impl Relay {
    /// Passes a frame on.
    fn pass_on(&self, frame: &Frame<'_>) -> ListenerResult {
        let Some(other) = self.other.transport() else {
            let head = FrameHead::new(frame.msg_type());
            let head = head.with_fin(frame.fin()).with_rsv(frame.rsv());
            let early = Early::Frame(head, Bytes::copy_from_slice(frame.payload()));
            self.other.early.borrow_mut().push(early);
            return Ok(());
        };
        self.judge(other.forward(frame))
    }

    /// A frame that could not be sent leaves a hole in what the peer gets, unless the connection has
    /// ended anyway.
    fn judge(&self, status: SendStatus) -> ListenerResult {
        match status {
            SendStatus::Refused(misuse) => Err(misuse.into()),
            _ => Ok(()),
        }
    }
}

impl Listener for Relay {
    fn on_connected(&mut self, transport: &Transport) -> ListenerResult {
        drop(self.own.transport.replace(Some(transport.clone())));
        for early in self.own.early.take() {
            match early {
                Early::Frame(head, payload) => self.judge(transport.send_bytes(head, &payload))?,
                Early::Close(code, reason) => close(transport, code, &reason),
            }
        }
        if let Some(code) = self.own.ends_with.take() {
            close(transport, Some(code), "");
        } else if let Some(other) = self.other.transport() {
            other.resume_reading();
        } else {
            transport.pause_reading();
        }
        Ok(())
    }

    fn on_frame(&mut self, transport: &Transport, frame: &Frame<'_>) -> ListenerResult {
        match frame.msg_type() {
            MsgType::Close => {
                let reason = frame.close_reason().unwrap_or_default();
                self.other.close(frame.close_code(), reason);
                Ok(())
            }
            // An answer to a ping of ours, or to none.
            MsgType::Pong if transport.answers_pings() => Ok(()),
            _ => self.pass_on(frame),
        }
    }

    fn on_disconnected(&mut self, transport: &Transport) {
        self.own.is_over.set(true);
        let code = match transport.disconnect_cause() {
            Some(DisconnectCause::Closed | DisconnectCause::Application) | None => {
                CloseCode::NORMAL
            }
            Some(DisconnectCause::EndOfStream | DisconnectCause::Stopped) => CloseCode::GOING_AWAY,
            Some(_) if transport.is_client_side() => CloseCode::BAD_GATEWAY,
            Some(_) => CloseCode::GOING_AWAY,
        };
        self.other.end(code);
        // Each refers to the other no longer.
        drop(self.own.transport.take());
    }

    fn pause_writing(&mut self, _: &Transport) {
        if let Some(other) = self.other.transport() {
            other.pause_reading();
        }
    }

    fn resume_writing(&mut self, _: &Transport) {
        if let Some(other) = self.other.transport() {
            other.resume_reading();
        }
    }
}

impl Drop for Relay {
    /// A listener that never had a connection: there is nothing to relay to.
    fn drop(&mut self) {
        if !self.own.is_over.get() && self.own.transport.borrow().is_none() {
            self.own.is_over.set(true);
            self.other.end(CloseCode::BAD_GATEWAY);
        }
    }
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay").field("is_over", &self.own.is_over.get()).finish_non_exhaustive()
    }
}
