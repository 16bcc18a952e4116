//! Streams of carriers: what was received, what is to be sent, and what carriers are to be asked for.

use super::pieces::{Piece, Spare};
use super::{Completion, ReceiveResult, SendBatch, Socket, Token};
use crate::foreign::{self, Foreign, StateCell, StateMut};
use std::any::Any;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

/// Carries the bytes of a stream to the peer, and says by [`Carried`] what comes from there. Its methods are
/// called in a turn of the worker, and never inside of a callback.
pub trait Carrier: 'static {
    /// Reads from the peer, or stops: what was received in spite of that is kept, and stops it again.
    fn set_reading(&self, is_on: bool);
    /// Takes all of `bytes`. Returns whether everything taken so far has been passed on; if not,
    /// [`Carried::drained`] has to be called when it has.
    fn write(&self, bytes: &[u8]) -> bool;
    /// Ends this side of the stream behind what was written, as far as that can be done without ending the
    /// other: else it closes, and [`Carried::ended`] follows.
    fn shut_down(&self);
    /// Closes the stream, and drops what was not passed on. The last call.
    fn close(&self);
    /// Itself, for callers that know its type.
    fn as_any(&self) -> &dyn Any;
}

pub(crate) type SharedCarrier = Rc<Foreign<Box<dyn Carrier>>>;

/// The end of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    OfStream,
    Failed(io::ErrorKind),
}

/// The streams of a worker.
#[derive(Default)]
pub(crate) struct Streams {
    places: StateCell<Vec<Place>>,
    /// The streams that receive, by token.
    receiving: StateCell<HashMap<u64, usize>>,
    done: StateCell<VecDeque<Done>>,
    actions: StateCell<VecDeque<Action>>,
    pub(super) spare: StateCell<Spare>,
}

/// An outcome that no poll has returned yet.
pub(super) enum Done {
    Received { token: Token, piece: Piece, more: bool },
    Other(Completion),
}

impl fmt::Debug for Streams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streams").field("done", &self.done_len()).finish_non_exhaustive()
    }
}

/// Room for one stream.
#[derive(Default)]
struct Place {
    /// Of the stream that is in it.
    generation: u32,
    stream: Option<Stream>,
}

struct Stream {
    carrier: SharedCarrier,
    peer: Option<SocketAddr>,
    receive: Option<Receive>,
    /// Received while nothing receives.
    waiting: VecDeque<Piece>,
    end: Option<End>,
    /// The carrier was asked not to read.
    is_paused: bool,
    sending: Option<(Token, Box<SendBatch>)>,
    /// The batch is being written.
    is_writing: bool,
    /// Everything was passed on, since that began.
    is_drained: bool,
}

#[derive(Clone, Copy)]
struct Receive {
    token: Token,
    is_single: bool,
}

/// A call that a carrier is to get.
enum Action {
    SetReading(SharedCarrier, bool),
    Write(Socket, u32),
    ShutDown(SharedCarrier),
    Close(SharedCarrier),
}

impl Streams {
    /// Takes a carrier, which reads nothing yet, or is asked to stop.
    pub(crate) fn open(&self, carrier: Box<dyn Carrier>, peer: Option<SocketAddr>) -> Socket {
        let stream = Some(Stream {
            carrier: Rc::new(Foreign::new(carrier)),
            peer,
            receive: None,
            waiting: VecDeque::new(),
            end: None,
            is_paused: false,
            sending: None,
            is_writing: false,
            is_drained: false,
        });
        let mut places = self.places.borrow_mut();
        let free = places.iter().position(|place| place.stream.is_none());
        let index = free.unwrap_or_else(|| {
            places.push(Place::default());
            places.len() - 1
        });
        places[index].stream = stream;
        Socket(-2 - index as i32)
    }

    /// The handle of the carrier behind `socket`.
    /// `wake` has the worker take a turn.
    pub(crate) fn handle(self: &Rc<Self>, wake: Rc<dyn Fn()>, socket: Socket) -> Carried {
        let places = self.places.borrow();
        let generation = places.get(socket.stream_index()).map_or(0, |place| place.generation);
        Carried { streams: Rc::clone(self), wake, socket, generation }
    }

    pub(crate) fn carrier(&self, socket: Socket) -> Option<SharedCarrier> {
        if !socket.is_stream() {
            return None;
        }
        let places = self.places.borrow();
        Some(Rc::clone(&places.get(socket.stream_index())?.stream.as_ref()?.carrier))
    }

    fn stream(&self, socket: Socket) -> Option<StateMut<'_, Stream>> {
        let places = self.places.borrow_mut();
        places.filter_map(|places| places.get_mut(socket.stream_index())?.stream.as_mut())
    }

    pub(super) fn receive(&self, socket: Socket, token: Token, is_single: bool) {
        let Some(mut stream) = self.stream(socket) else { return };
        stream.receive = Some(Receive { token, is_single });
        self.receiving.borrow_mut().insert(token.pack(), socket.stream_index());
        self.serve(&mut stream);
        if stream.is_paused && stream.receive.is_some() {
            stream.is_paused = false;
            self.act(Action::SetReading(Rc::clone(&stream.carrier), true));
        }
    }

    /// Hands on what was received, as far as it is asked for.
    fn serve(&self, stream: &mut Stream) {
        while let Some(Receive { token, is_single }) = stream.receive {
            let (done, more) = match (stream.waiting.pop_front(), stream.end) {
                (Some(piece), _) => (Done::Received { token, piece, more: !is_single }, !is_single),
                (None, Some(end)) => {
                    let result = match end {
                        End::OfStream => ReceiveResult::EndOfStream,
                        End::Failed(kind) => ReceiveResult::Failed(kind.into()),
                    };
                    let end = Completion::Received { token, result, more: false };
                    (Done::Other(end), false)
                }
                (None, None) => return,
            };
            if !more {
                stream.receive = None;
                self.receiving.borrow_mut().remove(&token.pack());
            }
            self.done.borrow_mut().push_back(done);
        }
    }

    fn received(&self, socket: Socket, piece: Piece) {
        let Some(mut stream) = self.stream(socket) else { return };
        stream.waiting.push_back(piece);
        self.serve(&mut stream);
        if stream.receive.is_none() && !stream.is_paused {
            stream.is_paused = true;
            self.act(Action::SetReading(Rc::clone(&stream.carrier), false));
        }
    }

    fn end(&self, socket: Socket, end: End) {
        let Some(mut stream) = self.stream(socket) else { return };
        stream.end.get_or_insert(end);
        self.serve(&mut stream);
        if let Some((token, batch)) = stream.sending.take() {
            // What was written may have arrived, and nothing more does.
            let result = Err(io::ErrorKind::BrokenPipe.into());
            self.finish(Completion::Sent { token, result, batch });
        }
    }

    pub(super) fn send(&self, socket: Socket, token: Token, batch: Box<SendBatch>) {
        let Some(mut stream) = self.stream(socket) else {
            let result = Err(io::ErrorKind::BrokenPipe.into());
            return self.finish(Completion::Sent { token, result, batch });
        };
        stream.sending = Some((token, batch));
        drop(stream);
        let generation = self.generation(socket);
        self.act(Action::Write(socket, generation));
    }

    fn generation(&self, socket: Socket) -> u32 {
        self.places.borrow().get(socket.stream_index()).map_or(0, |place| place.generation)
    }

    /// Has the carrier take the batch.
    fn write(&self, socket: Socket, generation: u32) {
        if self.generation(socket) != generation {
            return;
        }
        let Some(mut stream) = self.stream(socket) else { return };
        let Some((token, batch)) = stream.sending.take() else { return };
        let has_ended = stream.end.is_some();
        (stream.is_writing, stream.is_drained) = (true, false);
        let carrier = Rc::clone(&stream.carrier);
        drop(stream);
        let mut is_passed_on = false;
        if !has_ended {
            for segment in batch.segments() {
                foreign::run("call", "write of a carrier", || {
                    is_passed_on = carrier.write(segment);
                });
            }
        }
        let still_there = self.generation(socket) == generation;
        let mut done = Some((token, batch));
        if let Some(mut stream) = self.stream(socket).filter(|_| still_there) {
            stream.is_writing = false;
            if !is_passed_on && !stream.is_drained && stream.end.is_none() {
                stream.sending = done.take();
            } else if stream.end.is_none() {
                is_passed_on = true;
            }
        }
        if let Some((token, batch)) = done {
            let result =
                if is_passed_on { Ok(batch.len()) } else { Err(io::ErrorKind::BrokenPipe.into()) };
            self.finish(Completion::Sent { token, result, batch });
        }
    }

    fn drained(&self, socket: Socket) {
        let Some(mut stream) = self.stream(socket) else { return };
        stream.is_drained |= stream.is_writing;
        // Not before the carrier was given it.
        let Some((token, batch)) = stream.sending.take_if(|_| !self.is_to_write(socket)) else {
            return;
        };
        let result = Ok(batch.len());
        self.finish(Completion::Sent { token, result, batch });
    }

    /// Whether the batch of a stream still waits to be written.
    fn is_to_write(&self, socket: Socket) -> bool {
        let actions = self.actions.borrow();
        actions.iter().any(|action| matches!(action, Action::Write(it, _) if *it == socket))
    }

    /// Whether `token` is that of a stream that receives; then it does not any more.
    pub(super) fn cancel_receive(&self, token: Token) -> bool {
        let index = self.receiving.borrow_mut().remove(&token.pack());
        let Some(index) = index else { return false };
        if let Some(mut stream) = self.stream(Socket(-2 - index as i32)) {
            stream.receive = None;
        }
        let result = ReceiveResult::Cancelled;
        self.finish(Completion::Received { token, result, more: false });
        true
    }

    pub(super) fn cancel(&self, socket: Socket) {
        let Some(mut stream) = self.stream(socket) else { return };
        let (receive, sending) = (stream.receive, stream.sending.take());
        drop(stream);
        if let Some(Receive { token, .. }) = receive {
            self.cancel_receive(token);
        }
        if let Some((token, batch)) = sending {
            let result = Err(io::Error::from_raw_os_error(libc::ECANCELED));
            self.finish(Completion::Sent { token, result, batch });
        }
    }

    pub(super) fn shut_down(&self, socket: Socket) {
        if let Some(carrier) = self.carrier(socket) {
            self.act(Action::ShutDown(carrier));
        }
    }

    pub(crate) fn close(&self, socket: Socket) {
        let mut places = self.places.borrow_mut();
        let Some(place) = places.get_mut(socket.stream_index()) else { return };
        let Some(stream) = place.stream.take() else { return };
        place.generation = place.generation.wrapping_add(1);
        drop(places);
        if let Some(Receive { token, .. }) = stream.receive {
            self.receiving.borrow_mut().remove(&token.pack());
        }
        self.act(Action::Close(stream.carrier));
    }

    /// Closes all streams at once: the worker ends.
    pub(super) fn close_all(&self) {
        let count = self.places.borrow().len();
        for index in 0..count {
            self.close(Socket(-2 - index as i32));
        }
        self.call_carriers();
    }

    pub(super) fn unread(&self, socket: Socket) -> usize {
        self.stream(socket).map_or(0, |stream| stream.waiting.iter().map(Piece::len).sum())
    }

    pub(crate) fn peer_addr(&self, socket: Socket) -> Option<SocketAddr> {
        self.stream(socket)?.peer
    }

    fn finish(&self, completion: Completion) {
        self.done.borrow_mut().push_back(Done::Other(completion));
    }

    fn act(&self, action: Action) {
        self.actions.borrow_mut().push_back(action);
    }

    /// Makes the calls that carriers are to get.
    pub(super) fn call_carriers(&self) {
        loop {
            let Some(action) = self.actions.borrow_mut().pop_front() else { return };
            match action {
                Action::SetReading(carrier, is_on) => {
                    foreign::run("call", "a carrier", || carrier.set_reading(is_on));
                }
                Action::Write(socket, generation) => self.write(socket, generation),
                Action::ShutDown(carrier) => {
                    foreign::run("call", "a carrier", || carrier.shut_down());
                }
                Action::Close(carrier) => foreign::run("call", "a carrier", || carrier.close()),
            }
        }
    }

    pub(super) fn next_done(&self) -> Option<Done> {
        self.done.borrow_mut().pop_front()
    }

    pub(super) fn done_len(&self) -> usize {
        self.done.borrow().len()
    }

    pub(super) fn has_work(&self) -> bool {
        !self.done.borrow().is_empty() || !self.actions.borrow().is_empty()
    }
}

/// A stream, for its carrier: what came from the peer, and what has become of what was written. Calls after
/// the stream was closed do nothing.
pub struct Carried {
    streams: Rc<Streams>,
    wake: Rc<dyn Fn()>,
    socket: Socket,
    generation: u32,
}

impl Carried {
    /// Memory for the next bytes of the peer: to be filled, from its beginning, before anything else of the
    /// worker is called, and handed on by [`filled`](Self::filled).
    pub fn buffer(&self) -> (*mut u8, usize) {
        self.streams.spare.borrow_mut().scratch()
    }

    /// So many bytes of the buffer are from the peer.
    pub fn filled(&self, count: usize) {
        if count > 0 && self.is_open() {
            let piece = self.streams.spare.borrow_mut().cut(count);
            self.streams.received(self.socket, piece);
            (self.wake)();
        }
    }

    /// The peer sends no more, or the stream has failed.
    pub fn ended(&self, failure: Option<io::ErrorKind>) {
        if self.is_open() {
            self.streams.end(self.socket, failure.map_or(End::OfStream, End::Failed));
            (self.wake)();
        }
    }

    /// Everything that was written has been passed on.
    pub fn drained(&self) {
        if self.is_open() {
            self.streams.drained(self.socket);
            (self.wake)();
        }
    }

    /// Whether the worker has not closed the stream.
    pub fn is_open(&self) -> bool {
        self.streams.generation(self.socket) == self.generation
    }
}

impl fmt::Debug for Carried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Carried").field("socket", &self.socket).finish_non_exhaustive()
    }
}
