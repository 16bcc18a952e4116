//! Queue of messages between the worker and the task that reads a stream.

use super::{OwnedMessage, StreamOptions, WhenFull, WsStream};
use crate::foreign::{self, Foreign, StateCell};
use crate::listener::{Listener, ListenerResult};
use crate::messages::MessageBytes;
use crate::status::DisconnectCause;
use crate::task::SpawnError;
use crate::transport::Transport;
use bytes::Bytes;
use picows_uring_proto::{Assembled, Frame, MessageAssembler, MsgType};
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::Waker;

/// Messages that were not taken yet, and who waits for them.
#[derive(Debug)]
pub(crate) struct Inbox {
    messages: VecDeque<OwnedMessage>,
    /// Sum of the lengths of `messages`.
    bytes: usize,
    told: MessageBytes,
    options: StreamOptions,
    /// We asked the transport to pause.
    is_pausing: bool,
    /// Nothing will be added.
    pub(super) is_ended: bool,
    /// What arrives is dropped: a CLOSE was sent, or no reader is left to take it.
    pub(super) is_discarding: bool,
    pub(super) dropped: u64,
    pub(super) reader: Option<Foreign<Waker>>,
}

impl Inbox {
    fn new(options: StreamOptions) -> Rc<StateCell<Self>> {
        Rc::new(StateCell::new(Self {
            messages: VecDeque::new(),
            bytes: 0,
            told: MessageBytes::default(),
            options,
            is_pausing: false,
            is_ended: false,
            is_discarding: false,
            dropped: 0,
            reader: None,
        }))
    }

    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    /// Takes the next message, and has reading resumed once half of the queue was taken.
    pub(super) fn take(&mut self, transport: &Transport) -> Option<OwnedMessage> {
        let message = self.pop()?;
        self.tell(transport);
        let is_half_empty = self.messages.len() <= self.options.messages_max / 2
            && self.bytes <= self.options.bytes_max / 2;
        if self.is_pausing && is_half_empty {
            self.is_pausing = false;
            transport.resume_reading();
        }
        Some(message)
    }

    /// The stream was dropped. Returns the task that waited, to be dropped outside of the borrow.
    pub(super) fn abandon(&mut self, transport: &Transport) -> Option<Foreign<Waker>> {
        self.is_discarding = true;
        self.messages = VecDeque::new();
        self.bytes = 0;
        self.tell(transport);
        self.reader.take()
    }

    /// Drops what was not taken: its memory is wanted.
    fn give_up(&mut self, transport: &Transport) {
        self.dropped += self.messages.len() as u64;
        self.messages = VecDeque::new();
        self.bytes = 0;
        self.tell(transport);
    }

    fn tell(&mut self, transport: &Transport) {
        let messages = self.messages.len() * size_of::<OwnedMessage>();
        self.told.tell(transport, self.bytes + messages);
    }

    fn pop(&mut self) -> Option<OwnedMessage> {
        let message = self.messages.pop_front()?;
        self.bytes -= message.len();
        Some(message)
    }

    fn is_full(&self) -> bool {
        self.messages.len() >= self.options.messages_max || self.bytes >= self.options.bytes_max
    }

    fn push(&mut self, message: OwnedMessage, transport: &Transport) {
        if self.is_discarding {
            return;
        }
        match self.options.when_full {
            WhenFull::DropNewest if self.is_full() => {
                self.dropped += 1;
                return;
            }
            WhenFull::DropOldest => {
                while self.is_full() && self.pop().is_some() {
                    self.dropped += 1;
                }
            }
            WhenFull::DropNewest | WhenFull::PauseReading => {}
        }
        self.bytes += message.len();
        self.messages.push_back(message);
        self.tell(transport);
        let pauses = self.options.when_full == WhenFull::PauseReading;
        if pauses && !self.is_pausing && self.is_full() {
            self.is_pausing = true;
            transport.pause_reading();
        }
    }
}

/// The listener behind a [`WsStream`].
pub(crate) struct StreamListener {
    inbox: Rc<StateCell<Inbox>>,
    assembler: MessageAssembler,
    bytes: MessageBytes,
    /// What to do with the stream, where that is known before there is one.
    start: Option<Start>,
}

type Start = Box<dyn FnOnce(WsStream) -> Result<(), SpawnError>>;

impl StreamListener {
    /// A listener, and where it leaves what it hears.
    pub(crate) fn new(options: StreamOptions) -> (Self, Rc<StateCell<Inbox>>) {
        let inbox = Inbox::new(options);
        let assembler = MessageAssembler::new(options.message_bytes_max);
        let bytes = MessageBytes::default();
        (Self { inbox: Rc::clone(&inbox), assembler, bytes, start: None }, inbox)
    }

    /// A listener that hands its stream to `start` once it is connected.
    pub(super) fn starting(
        options: StreamOptions,
        start: impl FnOnce(WsStream) -> Result<(), SpawnError> + 'static,
    ) -> Self {
        let (mut listener, _) = Self::new(options);
        listener.start = Some(Box::new(start));
        listener
    }

    fn wake(&self) {
        // Not while the inbox is borrowed: what is woken may look into it.
        let reader = self.inbox.borrow_mut().reader.take();
        foreign::wake(reader);
    }
}

impl Listener for StreamListener {
    fn on_connected(&mut self, transport: &Transport) -> ListenerResult {
        if let Some(start) = self.start.take() {
            start(WsStream::new(transport.clone(), Rc::clone(&self.inbox)))?;
        }
        Ok(())
    }

    fn on_frame(&mut self, transport: &Transport, frame: &Frame<'_>) -> ListenerResult {
        let message = match self.assembler.push(frame)? {
            Some(_) if self.inbox.borrow().is_discarding => None,
            Some(Assembled::Message(message)) => Some(OwnedMessage::copy_of(message)?),
            Some(Assembled::Control(frame)) => {
                let payload = || Bytes::copy_from_slice(frame.payload());
                match frame.msg_type() {
                    MsgType::Ping => Some(OwnedMessage::Ping(payload())),
                    MsgType::Pong => Some(OwnedMessage::Pong(payload())),
                    _ => None,
                }
            }
            None => None,
        };
        self.assembler.trim();
        self.bytes.tell(transport, self.assembler.capacity());
        if let Some(message) = message {
            self.inbox.borrow_mut().push(message, transport);
            self.wake();
        }
        Ok(())
    }

    fn on_disconnected(&mut self, transport: &Transport) {
        self.bytes.tell(transport, 0);
        if transport.disconnect_cause() == Some(DisconnectCause::MemoryLimit) {
            self.inbox.borrow_mut().give_up(transport);
        }
        self.inbox.borrow_mut().is_ended = true;
        self.wake();
    }
}
