//! Measuring round trips: pings that a task asks for, one after the other.
//!
//! The task waits outside of the worker's turn; the worker sends the pings and sees the pongs.

use crate::foreign::Foreign;
use crate::session::Session;
use crate::status::RoundtripError;
use picows_uring_proto::Tick;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

/// A measurement that is under way.
#[derive(Debug)]
pub(crate) struct Roundtrip {
    stage: RoundtripState,
    waker: Option<Foreign<Waker>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RoundtripState {
    /// The worker is to send a ping.
    Wanted,
    /// It was sent.
    Sent(Tick),
    /// It was answered.
    Done(Duration),
}

impl Roundtrip {
    pub(crate) fn is_wanted(&self) -> bool {
        self.stage == RoundtripState::Wanted
    }

    pub(crate) fn is_pong_expected(&self) -> bool {
        matches!(self.stage, RoundtripState::Sent(_))
    }

    pub(crate) fn ping_sent(&mut self, now: Tick) {
        self.stage = RoundtripState::Sent(now);
    }

    /// It was not sent after all, and is wanted still.
    pub(crate) fn ping_refused(&mut self) {
        if self.is_pong_expected() {
            self.stage = RoundtripState::Wanted;
        }
    }

    /// How long ago the ping was sent whose answer is awaited.
    pub(crate) fn time_since_ping(&self, now: Tick) -> Option<Duration> {
        match self.stage {
            RoundtripState::Sent(at) => Some(now.duration_since(at)),
            RoundtripState::Wanted | RoundtripState::Done(_) => None,
        }
    }

    /// The ping was answered: returns the task to wake.
    pub(crate) fn pong_received(&mut self, now: Tick) -> Option<Foreign<Waker>> {
        let RoundtripState::Sent(at) = self.stage else { return None };
        self.stage = RoundtripState::Done(now.duration_since(at));
        self.take_waker()
    }

    /// The task that waits.
    pub(crate) fn take_waker(&mut self) -> Option<Foreign<Waker>> {
        self.waker.take()
    }
}

/// Ends the measurement also when its future is dropped.
struct Measuring(Rc<Session>);

impl Drop for Measuring {
    fn drop(&mut self) {
        self.0.set_roundtrip(None);
        self.0.hold_liveness(false);
    }
}

/// Sends `rounds` pings, each when the one before it was answered, and returns how long the
/// answers took.
pub(crate) async fn measure(
    session: &Rc<Session>,
    rounds: usize,
) -> Result<Vec<Duration>, RoundtripError> {
    if session.roundtrip().is_some() {
        return Err(RoundtripError::Busy);
    }
    let measuring = Measuring(Rc::clone(session));
    session.hold_liveness(true);
    let mut durations = Vec::with_capacity(rounds.min(ROUNDS_USUAL));
    for _ in 0..rounds {
        let wanted = Roundtrip { stage: RoundtripState::Wanted, waker: None };
        session.set_roundtrip(Some(wanted));
        session.mark_dirty();
        durations.push(one_round(&measuring.0).await?);
    }
    Ok(durations)
}

async fn one_round(session: &Session) -> Result<Duration, RoundtripError> {
    poll_fn(|context| {
        if session.is_disconnected.get() {
            return Poll::Ready(Err(RoundtripError::Disconnected(session.cause())));
        }
        let waker = Foreign::new(context.waker().clone());
        let Some(mut roundtrip) = session.roundtrip() else {
            return Poll::Ready(Err(RoundtripError::Disconnected(None)));
        };
        if let RoundtripState::Done(duration) = roundtrip.stage {
            return Poll::Ready(Ok(duration));
        }
        let replaced = roundtrip.waker.replace(waker);
        drop(roundtrip);
        drop(replaced);
        Poll::Pending
    })
    .await
}

/// Rounds for which there is room from the start.
const ROUNDS_USUAL: usize = 64;
