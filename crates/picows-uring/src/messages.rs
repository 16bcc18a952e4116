//! Whole messages instead of frames, for those who want them: joined on the way in, and cut on the
//! way out.
//!
//! A layer on frames and no more: connections know nothing of it.

mod bytes;
mod writer;

pub(crate) use bytes::MessageBytes;
pub use writer::MessageWriter;

use crate::listener::{Listener, ListenerError, ListenerResult};
use crate::transport::Transport;
use picows_uring_proto::{Assembled, Frame, Message, MessageAssembler, MsgType};
use std::cell::RefCell;
use std::rc::Rc;

/// Receives the events of one connection, with messages joined from their fragments.
///
/// The rules of [`Listener`] hold: all calls come from the thread of the worker, an error or a panic ends
/// this connection alone. [`Messages`] makes a listener of it.
///
/// ```
/// use picows_uring::{ListenerResult, Message, MessageListener, Messages, Transport, Upgrade};
///
/// struct Count(usize);
///
/// impl MessageListener for Count {
///     fn on_message(&mut self, transport: &Transport, message: Message<'_>) -> ListenerResult {
///         self.0 += 1;
///         transport.send_text(format!("message {}: {} bytes", self.0, message.payload().len()));
///         Ok(())
///     }
/// }
///
/// let upgrade = Upgrade::accept(Messages::new(Count(0)));
/// ```
pub trait MessageListener {
    /// The handshake is done. What is sent here leaves after the response.
    ///
    /// # Errors
    ///
    /// Ends the connection.
    fn on_connected(&mut self, transport: &Transport) -> ListenerResult {
        let _ = transport;
        Ok(())
    }

    /// A message arrived. It is lent for the time of the call; copy what must outlive it.
    ///
    /// # Errors
    ///
    /// Ends the connection, unless `disconnect_on_error(false)`: then it is logged.
    fn on_message(&mut self, transport: &Transport, message: Message<'_>) -> ListenerResult;

    /// A control frame arrived: PONG, CLOSE, and PING if `auto_pong(false)`. It may stand between
    /// the fragments of a message, which is then delivered after it.
    ///
    /// # Errors
    ///
    /// Ends the connection, unless `disconnect_on_error(false)`: then it is logged.
    fn on_control(&mut self, transport: &Transport, frame: &Frame<'_>) -> ListenerResult {
        let _ = (transport, frame);
        Ok(())
    }

    /// See [`Listener::send_user_specific_ping`].
    ///
    /// # Errors
    ///
    /// Ends the connection.
    fn send_user_specific_ping(&mut self, transport: &Transport) -> ListenerResult {
        transport.send_auto_ping();
        Ok(())
    }

    /// See [`Listener::is_user_specific_pong`]. Asked of whole frames only.
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

    /// See [`Listener::on_batch_end`].
    ///
    /// # Errors
    ///
    /// Ends the connection.
    fn on_batch_end(&mut self, transport: &Transport) -> ListenerResult {
        let _ = transport;
        Ok(())
    }

    /// The connection is over. See [`Listener::on_disconnected`].
    fn on_disconnected(&mut self, transport: &Transport) {
        let _ = transport;
    }

    /// See [`Listener::pause_writing`].
    fn pause_writing(&mut self, transport: &Transport) {
        let _ = transport;
    }

    /// See [`Listener::resume_writing`].
    fn resume_writing(&mut self, transport: &Transport) {
        let _ = transport;
    }
}

/// A listener that joins frames into messages, and hands them to a [`MessageListener`].
///
/// A message of one frame is lent from the receive buffer as a frame is; only fragments are
/// copied, each once. A message beyond [`max_message_size`](Self::max_message_size) ends the
/// connection with CLOSE 1009, text that is not UTF-8 with CLOSE 1007, as soon as the fragment
/// arrives that shows it; [`DisconnectCause::PeerMisbehaved`](crate::DisconnectCause) says which.
///
/// To refuse broken text even inside a frame that has not arrived whole, turn on
/// `validate_text` of the server or of [`Connect`](crate::Connect), too. Frames have a limit of
/// their own, `max_frame_size`, which refuses a message of one frame by its header.
///
/// ```
/// use picows_uring::{
///     ListenerResult, Message, MessageListener, Messages, Server, Transport, Upgrade,
/// };
///
/// struct Echo;
///
/// impl MessageListener for Echo {
///     fn on_message(&mut self, transport: &Transport, message: Message<'_>) -> ListenerResult {
///         transport.send(message.msg_type(), message.payload());
///         Ok(())
///     }
/// }
///
/// let builder = Server::builder().listen("127.0.0.1:0").workers(1);
/// let handle = builder.start(|_| Upgrade::accept(Messages::new(Echo)))?;
/// handle.stop()?;
/// # Ok::<(), picows_uring::Error>(())
/// ```
#[derive(Debug)]
pub struct Messages<H> {
    handler: H,
    assembler: MessageAssembler,
    bytes: MessageBytes,
}

impl<H: MessageListener> Messages<H> {
    /// Joins messages of at most 10 MiB for `handler`.
    pub fn new(handler: H) -> Self {
        let (assembler, bytes) = (MessageAssembler::default(), MessageBytes::default());
        Self { handler, assembler, bytes }
    }

    /// Largest message that is accepted, in bytes, all fragments together. Default: 10 MiB.
    #[must_use]
    pub fn max_message_size(mut self, bytes: usize) -> Self {
        self.assembler = MessageAssembler::new(bytes);
        self
    }

    /// The handler.
    pub fn handler(&self) -> &H {
        &self.handler
    }

    /// The handler.
    pub fn handler_mut(&mut self) -> &mut H {
        &mut self.handler
    }
}

impl<H: MessageListener> Listener for Messages<H> {
    fn on_connected(&mut self, transport: &Transport) -> ListenerResult {
        self.handler.on_connected(transport)
    }

    #[inline]
    fn on_frame(&mut self, transport: &Transport, frame: &Frame<'_>) -> ListenerResult {
        let result = match self.assembler.push(frame)? {
            Some(Assembled::Message(message)) => self.handler.on_message(transport, message),
            Some(Assembled::Control(frame)) => self.handler.on_control(transport, &frame),
            None => Ok(()),
        };
        self.assembler.trim();
        self.bytes.tell(transport, self.assembler.capacity());
        result
    }

    fn on_batch_end(&mut self, transport: &Transport) -> ListenerResult {
        self.handler.on_batch_end(transport)
    }

    fn send_user_specific_ping(&mut self, transport: &Transport) -> ListenerResult {
        self.handler.send_user_specific_ping(transport)
    }

    fn is_user_specific_pong(
        &mut self,
        transport: &Transport,
        frame: &Frame<'_>,
    ) -> Result<bool, ListenerError> {
        // A fragment that was taken away would leave a hole in its message.
        let is_whole = frame.fin() && frame.msg_type() != MsgType::Continuation;
        Ok(is_whole && self.handler.is_user_specific_pong(transport, frame)?)
    }

    fn on_disconnected(&mut self, transport: &Transport) {
        // It goes with the listener, which goes now.
        self.bytes.tell(transport, 0);
        self.handler.on_disconnected(transport);
    }

    fn pause_writing(&mut self, transport: &Transport) {
        self.handler.pause_writing(transport);
    }

    fn resume_writing(&mut self, transport: &Transport) {
        self.handler.resume_writing(transport);
    }
}

/// A message listener that the application can reach into while the connection lives: keep a
/// clone. The rules are those of `Rc<RefCell<…>>` as a [`Listener`].
impl<H: MessageListener> MessageListener for Rc<RefCell<H>> {
    fn on_connected(&mut self, transport: &Transport) -> ListenerResult {
        self.try_borrow_mut()?.on_connected(transport)
    }

    fn on_message(&mut self, transport: &Transport, message: Message<'_>) -> ListenerResult {
        self.try_borrow_mut()?.on_message(transport, message)
    }

    fn on_control(&mut self, transport: &Transport, frame: &Frame<'_>) -> ListenerResult {
        self.try_borrow_mut()?.on_control(transport, frame)
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

    fn on_batch_end(&mut self, transport: &Transport) -> ListenerResult {
        self.try_borrow_mut()?.on_batch_end(transport)
    }

    fn on_disconnected(&mut self, transport: &Transport) {
        self.borrow_mut().on_disconnected(transport);
    }

    fn pause_writing(&mut self, transport: &Transport) {
        self.borrow_mut().pause_writing(transport);
    }

    fn resume_writing(&mut self, transport: &Transport) {
        self.borrow_mut().resume_writing(transport);
    }
}
