//! Callbacks that an application implements, for the events of one connection.
//!
//! Called by the worker that owns the connection, on its thread, one at a time.

use crate::error::shown;
use crate::foreign::Foreign;
use crate::transport::Transport;
use picows_uring_proto::{CloseCode, Frame, FramePiece, MsgType, PeerMisbehaved};
use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

/// Receives the events of one connection.
///
/// A listener is made by the server's factory on the thread of the worker that owns the
/// connection, and never leaves it: it need not be `Send`, and `Rc` and `RefCell` are the tools to
/// share state between the connections of a worker. The order is `on_connected`, any number of
/// `on_frame`, `on_disconnected`; the last is called exactly once, and only after the first.
///
/// Callbacks run on the data path: while one runs, no other connection of this worker is served.
/// Slow work belongs into another thread.
///
/// An error that is returned, and a panic, end the connection with CLOSE 1011, or with the code
/// and reason that the error carries ([`ListenerError::close`]). The worker and its other
/// connections live on.
///
/// ```
/// use picows_uring::{Frame, Listener, ListenerResult, MsgType, Transport};
///
/// struct Echo;
///
/// impl Listener for Echo {
///     fn on_frame(&mut self, transport: &Transport, frame: &Frame<'_>) -> ListenerResult {
///         if matches!(frame.msg_type(), MsgType::Text | MsgType::Binary) {
///             transport.send(frame.msg_type(), frame.payload());
///         }
///         Ok(())
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no listener",
    label = "needs `impl Listener for {Self}`, or a closure with the types of its arguments",
    note = "a closure is a listener as `|transport: &Transport, frame: &Frame<'_>| -> ListenerResult {{ … }}`"
)]
pub trait Listener {
    /// The handshake is done. What is sent here leaves after the response.
    ///
    /// # Errors
    ///
    /// Ends the connection.
    fn on_connected(&mut self, transport: &Transport) -> ListenerResult {
        let _ = transport;
        Ok(())
    }

    /// A frame arrived. It is lent for the time of the call; copy what must outlive it.
    ///
    /// PING is answered before and not delivered, and CLOSE is answered after this returned if the
    /// listener did not, unless the server was built with `auto_pong(false)`, `auto_close(false)`.
    ///
    /// # Errors
    ///
    /// Ends the connection, unless `disconnect_on_error(false)`: then it is logged.
    fn on_frame(&mut self, transport: &Transport, frame: &Frame<'_>) -> ListenerResult;

    /// Frames of more than so many bytes come in pieces, through
    /// [`on_piece`](Self::on_piece) and not [`on_frame`](Self::on_frame): nothing of them is
    /// collected. Asked once, before `on_connected`. By default `None`: all frames come whole.
    ///
    /// Control frames never come in pieces, and on a connection that has agreed on
    /// permessage-deflate no frame does. The limit on frames
    /// ([`max_frame_size`](crate::ServerBuilder::max_frame_size)) is that of the whole frame.
    fn pieces_of_frames_above(&self) -> Option<u64> {
        None
    }

    /// The next piece of a large frame arrived: unmasked, and checked as a whole frame is. It is
    /// lent for the time of the call.
    ///
    /// Pieces of a frame come in order, from offset 0 to the [last](FramePiece::is_last) one, and
    /// nothing else comes between them. How long they are is how much of the frame was in a receive
    /// buffer. A frame that the connection does not live to see the end of has no last piece.
    ///
    /// # Errors
    ///
    /// As [`on_frame`](Self::on_frame).
    ///
    /// ```
    /// use picows_uring::{
    ///     Frame, FramePiece, FrameWriter, Listener, ListenerResult, SendStatus, Transport,
    /// };
    ///
    /// /// Echoes frames of any length, and keeps none of them.
    /// #[derive(Default)]
    /// struct Relay {
    ///     writer: Option<FrameWriter>,
    /// }
    ///
    /// impl Listener for Relay {
    ///     fn on_frame(&mut self, transport: &Transport, frame: &Frame<'_>) -> ListenerResult {
    ///         transport.send_like(frame, frame.payload());
    ///         Ok(())
    ///     }
    ///
    ///     fn pieces_of_frames_above(&self) -> Option<u64> {
    ///         Some(64 * 1024)
    ///     }
    ///
    ///     fn on_piece(&mut self, transport: &Transport, piece: &FramePiece<'_>) -> ListenerResult {
    ///         if piece.offset() == 0 {
    ///             self.writer = Some(transport.write_frame_like(piece)?);
    ///         }
    ///         let Some(writer) = &mut self.writer else { return Ok(()) };
    ///         if writer.write(piece.payload()) == SendStatus::Congested {
    ///             transport.pause_reading();
    ///         }
    ///         if piece.is_last() {
    ///             self.writer = None;
    ///         }
    ///         Ok(())
    ///     }
    ///
    ///     fn resume_writing(&mut self, transport: &Transport) {
    ///         transport.resume_reading();
    ///     }
    /// }
    /// ```
    fn on_piece(&mut self, transport: &Transport, piece: &FramePiece<'_>) -> ListenerResult {
        let _ = (transport, piece);
        Ok(())
    }

    /// All frames of a batch were handled: what the kernel had received in one go, as far as the share
    /// that a connection has of a turn. Called once for each batch in which
    /// [`on_frame`](Self::on_frame) or [`on_piece`](Self::on_piece) was, unless that failed: one answer for many frames, one write to a
    /// database. A peer decides how many frames there are.
    ///
    /// # Errors
    ///
    /// Ends the connection.
    ///
    /// ```
    /// use picows_uring::{Frame, Listener, ListenerResult, Transport};
    ///
    /// /// Acknowledges what it has got, not every piece of it.
    /// #[derive(Default)]
    /// struct Collector {
    ///     received: u64,
    /// }
    ///
    /// impl Listener for Collector {
    ///     fn on_frame(&mut self, _: &Transport, frame: &Frame<'_>) -> ListenerResult {
    ///         self.received += frame.payload().len() as u64;
    ///         Ok(())
    ///     }
    ///
    ///     fn on_batch_end(&mut self, transport: &Transport) -> ListenerResult {
    ///         transport.send_text(self.received.to_string());
    ///         Ok(())
    ///     }
    /// }
    /// ```
    fn on_batch_end(&mut self, transport: &Transport) -> ListenerResult {
        let _ = transport;
        Ok(())
    }

    /// An automatic ping is due, or a round trip is measured: sends something that the peer
    /// answers. By default a PING that carries a number. Where nothing is queued on `transport`
    /// here, as a message is refused between the fragments of another, such a PING is sent in its
    /// place, and its PONG is not delivered.
    ///
    /// # Errors
    ///
    /// Ends the connection.
    ///
    /// ```
    /// use picows_uring::{Frame, Listener, ListenerError, ListenerResult, MsgType, Transport};
    ///
    /// /// An exchange that wants its pings as text.
    /// struct Exchange;
    ///
    /// impl Listener for Exchange {
    ///     fn on_frame(&mut self, transport: &Transport, frame: &Frame<'_>) -> ListenerResult {
    ///         Ok(())
    ///     }
    ///
    ///     fn send_user_specific_ping(&mut self, transport: &Transport) -> ListenerResult {
    ///         transport.send_text("ping");
    ///         Ok(())
    ///     }
    ///
    ///     fn is_user_specific_pong(
    ///         &mut self,
    ///         _transport: &Transport,
    ///         frame: &Frame<'_>,
    ///     ) -> Result<bool, ListenerError> {
    ///         Ok(frame.msg_type() == MsgType::Text && frame.payload() == b"pong")
    ///     }
    /// }
    /// ```
    fn send_user_specific_ping(&mut self, transport: &Transport) -> ListenerResult {
        transport.send_auto_ping();
        Ok(())
    }

    /// Whether `frame` answers the last ping. Asked before `on_frame`, and only while an answer is
    /// awaited; a frame that does is not delivered. By default a PONG with the number of the ping.
    ///
    /// A listener that knows only after parsing says `false` here, and calls
    /// [`Transport::notify_user_specific_pong_received`] in `on_frame`.
    ///
    /// # Errors
    ///
    /// Ends the connection.
    fn is_user_specific_pong(
        &mut self,
        transport: &Transport,
        frame: &Frame<'_>,
    ) -> Result<bool, ListenerError> {
        Ok(transport.is_auto_pong(frame))
    }

    /// The connection is over: nothing arrives and nothing can be sent any more.
    ///
    /// [`Transport::close_handshake`] returns how it ended.
    fn on_disconnected(&mut self, transport: &Transport) {
        let _ = transport;
    }

    /// More bytes are queued than the high watermark, and the socket does not take them. Stop sending
    /// until `resume_writing`, which follows once for each `pause_writing`.
    fn pause_writing(&mut self, transport: &Transport) {
        let _ = transport;
    }

    /// The queue has drained to the low watermark.
    fn resume_writing(&mut self, transport: &Transport) {
        let _ = transport;
    }
}

/// The result of a callback.
pub type ListenerResult = Result<(), ListenerError>;

/// The reason why a callback failed.
///
/// Made from any error or text with `?` or `into()`, and then CLOSE 1011 is sent without a reason:
/// the text is logged, and the peer does not see it. [`ListenerError::close`] chooses what it gets.
/// Made from [`PeerMisbehaved`], as a [`MessageAssembler`](crate::MessageAssembler) returns it, it
/// is the peer's fault and not the listener's: its CLOSE says what it did, with the right code.
///
/// ```
/// use picows_uring::{Frame, Listener, ListenerResult, Transport};
///
/// struct Numbers(i64);
///
/// impl Listener for Numbers {
///     fn on_frame(&mut self, _: &Transport, frame: &Frame<'_>) -> ListenerResult {
///         let text = std::str::from_utf8(frame.payload())?;
///         self.0 += text.parse::<i64>()?; // No number: CLOSE 1011, and the error in the log.
///         Ok(())
///     }
/// }
/// ```
pub struct ListenerError {
    cause: Cause,
}

enum Cause {
    Error(Foreign<Box<dyn std::error::Error + Send + Sync>>),
    Close(CloseCode, String),
    Peer(PeerMisbehaved),
}

impl ListenerError {
    /// Ends the connection with this code and reason. A reason of more than 123 bytes is cut.
    ///
    /// ```
    /// use picows_uring::{CloseCode, ListenerError, ListenerResult};
    ///
    /// fn authorize(token: &[u8]) -> ListenerResult {
    ///     if token != b"sesame" {
    ///         return Err(ListenerError::close(CloseCode::POLICY_VIOLATION, "wrong token"));
    ///     }
    ///     Ok(())
    /// }
    /// assert!(authorize(b"open").is_err());
    /// ```
    #[must_use]
    pub fn close(code: CloseCode, reason: impl Into<String>) -> Self {
        Self { cause: Cause::Close(code, reason.into()) }
    }

    /// The CLOSE for the peer: 1011 without a reason, unless the error says otherwise.
    pub(crate) fn close_code_and_reason(&self) -> (CloseCode, &str) {
        match &self.cause {
            Cause::Error(_) | Cause::Peer(_) => (CloseCode::INTERNAL_ERROR, ""),
            Cause::Close(code, reason) => (*code, reason),
        }
    }

    /// What the peer did, if it is to blame.
    pub(crate) fn peer_misbehaved(&self) -> Option<PeerMisbehaved> {
        match self.cause {
            Cause::Peer(error) => Some(error),
            Cause::Error(_) | Cause::Close(..) => None,
        }
    }

    /// Whether it was made from an error or a text of the application.
    pub(crate) fn is_of_application(&self) -> bool {
        matches!(self.cause, Cause::Error(_))
    }

    /// The error of the application, or the text of this one.
    pub(crate) fn into_error(self) -> Box<dyn std::error::Error + Send + Sync> {
        match self.cause {
            Cause::Error(error) => error.into_inner(),
            Cause::Close(..) | Cause::Peer(_) => self.to_string().into(),
        }
    }

    /// Whether it was made to choose the close code.
    pub(crate) fn is_close(&self) -> bool {
        matches!(self.cause, Cause::Close(..))
    }
}

impl<E: Into<Box<dyn std::error::Error + Send + Sync>>> From<E> for ListenerError {
    fn from(error: E) -> Self {
        let cause = match error.into().downcast::<PeerMisbehaved>() {
            Ok(misbehaved) => Cause::Peer(*misbehaved),
            Err(error) => Cause::Error(Foreign::new(error)),
        };
        Self { cause }
    }
}

impl fmt::Display for ListenerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            Cause::Error(error) => error.fmt(f),
            Cause::Close(code, reason) => {
                write!(f, "close {code} {}", shown(reason).quoted())
            }
            Cause::Peer(error) => error.fmt(f),
        }
    }
}

impl fmt::Debug for ListenerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ListenerError({self})")
    }
}

/// Echoes every frame as it came: type, FIN, RSV bits and payload.
///
/// The listener of the echo benchmark server; CLOSE is left to the automatic answer.
///
/// ```
/// use picows_uring::{EchoListener, Server, Upgrade};
///
/// let builder = Server::builder().listen("127.0.0.1:0");
/// let handle = builder.workers(1).start(|_| Upgrade::accept(EchoListener))?;
/// handle.stop()?;
/// # Ok::<(), picows_uring::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct EchoListener;

impl Listener for EchoListener {
    fn on_frame(&mut self, transport: &Transport, frame: &Frame<'_>) -> ListenerResult {
        // Unsolicited PONGs are not echoed: two such endpoints would do so for ever.
        if !matches!(frame.msg_type(), MsgType::Close | MsgType::Pong) {
            transport.forward(frame);
        }
        Ok(())
    }
}

/// A listener that the application can reach into while the connection lives: keep a clone.
///
/// While it is borrowed outside, its callbacks cannot be called: one that is due then fails, which
/// ends the connection. Do not hold a borrow across an `await`.
impl<L: Listener> Listener for Rc<RefCell<L>> {
    fn on_connected(&mut self, transport: &Transport) -> ListenerResult {
        self.try_borrow_mut()?.on_connected(transport)
    }

    fn on_frame(&mut self, transport: &Transport, frame: &Frame<'_>) -> ListenerResult {
        self.try_borrow_mut()?.on_frame(transport, frame)
    }

    fn pieces_of_frames_above(&self) -> Option<u64> {
        self.try_borrow().ok()?.pieces_of_frames_above()
    }

    fn on_piece(&mut self, transport: &Transport, piece: &FramePiece<'_>) -> ListenerResult {
        self.try_borrow_mut()?.on_piece(transport, piece)
    }

    fn on_batch_end(&mut self, transport: &Transport) -> ListenerResult {
        self.try_borrow_mut()?.on_batch_end(transport)
    }

    fn on_disconnected(&mut self, transport: &Transport) {
        self.borrow_mut().on_disconnected(transport);
    }

    fn send_user_specific_ping(&mut self, transport: &Transport) -> ListenerResult {
        self.try_borrow_mut()?.send_user_specific_ping(transport)
    }

    fn is_user_specific_pong(
        &mut self,
        transport: &Transport,
        frame: &Frame<'_>,
    ) -> Result<bool, ListenerError> {
        self.try_borrow_mut()?.is_user_specific_pong(transport, frame)
    }

    fn pause_writing(&mut self, transport: &Transport) {
        self.borrow_mut().pause_writing(transport);
    }

    fn resume_writing(&mut self, transport: &Transport) {
        self.borrow_mut().resume_writing(transport);
    }
}

/// A listener behind a pointer, for factories that choose among several kinds.
impl Listener for Box<dyn Listener> {
    fn on_connected(&mut self, transport: &Transport) -> ListenerResult {
        (**self).on_connected(transport)
    }

    fn on_frame(&mut self, transport: &Transport, frame: &Frame<'_>) -> ListenerResult {
        (**self).on_frame(transport, frame)
    }

    fn pieces_of_frames_above(&self) -> Option<u64> {
        (**self).pieces_of_frames_above()
    }

    fn on_piece(&mut self, transport: &Transport, piece: &FramePiece<'_>) -> ListenerResult {
        (**self).on_piece(transport, piece)
    }

    fn on_batch_end(&mut self, transport: &Transport) -> ListenerResult {
        (**self).on_batch_end(transport)
    }

    fn on_disconnected(&mut self, transport: &Transport) {
        (**self).on_disconnected(transport);
    }

    fn send_user_specific_ping(&mut self, transport: &Transport) -> ListenerResult {
        (**self).send_user_specific_ping(transport)
    }

    fn is_user_specific_pong(
        &mut self,
        transport: &Transport,
        frame: &Frame<'_>,
    ) -> Result<bool, ListenerError> {
        (**self).is_user_specific_pong(transport, frame)
    }

    fn pause_writing(&mut self, transport: &Transport) {
        (**self).pause_writing(transport);
    }

    fn resume_writing(&mut self, transport: &Transport) {
        (**self).resume_writing(transport);
    }
}

/// A closure is called as [`on_frame`](Listener::on_frame), where no other callback is wanted. The types
/// of its arguments have to be written:
///
/// ```
/// use picows_uring::{Frame, Transport, Upgrade};
///
/// let upgrade = Upgrade::accept(|transport: &Transport, frame: &Frame<'_>| {
///     transport.send_text(frame.text()?.to_uppercase());
///     Ok(())
/// });
/// ```
impl<F> Listener for F
where
    F: FnMut(&Transport, &Frame<'_>) -> ListenerResult,
{
    fn on_frame(&mut self, transport: &Transport, frame: &Frame<'_>) -> ListenerResult {
        self(transport, frame)
    }
}
