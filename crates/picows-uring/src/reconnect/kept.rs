//! One listener for all connections of a [`Reconnect`](super::Reconnect), and the error that it ends with.

use crate::foreign;
use crate::listener::{Listener, ListenerError, ListenerResult};
use crate::status::DisconnectCause;
use crate::transport::Transport;
use picows_uring_proto::{Frame, FramePiece};
use std::cell::Cell;
use std::error::Error;
use std::rc::Rc;

/// Passes callbacks on to a listener that outlives its connections, and takes its errors.
pub(super) struct Kept<L> {
    /// Absent while it is called.
    listener: Rc<Cell<Option<Box<L>>>>,
    failure: Rc<Cell<Failure>>,
}

/// How a callback has failed last.
#[derive(Default)]
enum Failure {
    /// It has not, or it panicked.
    #[default]
    Unknown,
    /// With a CLOSE of its choice, or by what the peer has sent: that is about this connection only.
    OfConnection,
    /// With an error of the application.
    OfApplication(ListenerError),
}

impl<L: Listener> Kept<L> {
    pub(super) fn new(listener: L) -> Self {
        Self { listener: Rc::new(Cell::new(Some(Box::new(listener)))), failure: Rc::default() }
    }

    /// The error, if one of the application ended the connection.
    pub(super) fn take_failure(
        &self,
        transport: &Transport,
    ) -> Option<Box<dyn Error + Send + Sync>> {
        let failure = self.failure.take();
        let Some(DisconnectCause::Listener(text)) = transport.disconnect_cause() else {
            return None;
        };
        match failure {
            Failure::Unknown => Some(text.into()),
            Failure::OfConnection => None,
            Failure::OfApplication(error) => Some(error.into_error()),
        }
    }

    /// Calls the listener, which is put back also where it panics.
    fn call<T>(&self, callback: impl FnOnce(&mut L) -> T) -> Option<T> {
        let mut called = Called { listener: self.listener.take(), place: &self.listener };
        called.listener.as_mut().map(|listener| callback(listener))
    }

    /// Calls it, and keeps its error, as [`kept`](Self::kept) does.
    fn try_call<T>(
        &self,
        callback: impl FnOnce(&mut L) -> Result<T, ListenerError>,
    ) -> Result<T, ListenerError> {
        self.kept(self.call(callback).unwrap_or_else(|| Err("it is being called".into())))
    }

    /// Keeps the error of a callback, and returns one of the same text for the connection.
    fn kept<T>(&self, result: Result<T, ListenerError>) -> Result<T, ListenerError> {
        result.map_err(|error| {
            if !error.is_of_application() {
                self.failure.set(Failure::OfConnection);
                return error;
            }
            let text = foreign::text(&error);
            self.failure.set(Failure::OfApplication(error));
            text.into()
        })
    }
}

/// The listener during a callback.
struct Called<'a, L> {
    listener: Option<Box<L>>,
    place: &'a Cell<Option<Box<L>>>,
}

impl<L> Drop for Called<'_, L> {
    fn drop(&mut self) {
        if self.listener.is_some() {
            self.place.set(self.listener.take());
        }
    }
}

impl<L> Clone for Kept<L> {
    fn clone(&self) -> Self {
        Self { listener: Rc::clone(&self.listener), failure: Rc::clone(&self.failure) }
    }
}

impl<L: Listener> Listener for Kept<L> {
    fn on_connected(&mut self, transport: &Transport) -> ListenerResult {
        self.try_call(|listener| listener.on_connected(transport))
    }

    fn on_frame(&mut self, transport: &Transport, frame: &Frame<'_>) -> ListenerResult {
        self.try_call(|listener| listener.on_frame(transport, frame))
    }

    fn pieces_of_frames_above(&self) -> Option<u64> {
        self.call(|listener| listener.pieces_of_frames_above())?
    }

    fn on_piece(&mut self, transport: &Transport, piece: &FramePiece<'_>) -> ListenerResult {
        self.try_call(|listener| listener.on_piece(transport, piece))
    }

    fn on_batch_end(&mut self, transport: &Transport) -> ListenerResult {
        self.try_call(|listener| listener.on_batch_end(transport))
    }

    fn on_disconnected(&mut self, transport: &Transport) {
        self.call(|listener| listener.on_disconnected(transport));
    }

    fn send_user_specific_ping(&mut self, transport: &Transport) -> ListenerResult {
        self.try_call(|listener| listener.send_user_specific_ping(transport))
    }

    fn is_user_specific_pong(
        &mut self,
        transport: &Transport,
        frame: &Frame<'_>,
    ) -> Result<bool, ListenerError> {
        self.try_call(|listener| listener.is_user_specific_pong(transport, frame))
    }

    fn pause_writing(&mut self, transport: &Transport) {
        self.call(|listener| listener.pause_writing(transport));
    }

    fn resume_writing(&mut self, transport: &Transport) {
        self.call(|listener| listener.resume_writing(transport));
    }
}
