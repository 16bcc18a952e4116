//! Context of a worker: what its connections share, and which worker runs on a thread.
//!
//! Belongs to one thread; other threads reach a worker through its mailbox.

mod topics;

use crate::config::Config;
use crate::foreign::StateCell;
use crate::foreign::log::LogLimits;
use crate::health::{CallbackTimer, Counters};
use crate::identity;
use crate::keys::KeySource;
use crate::mailbox::Mailbox;
use crate::pool::Pool;
use crate::ring::{Loan, Outlet, Stamp, Streams, Token, monotonic_clock};
use picows_uring_proto::Tick;
use std::cell::{Cell, OnceCell};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};
pub(crate) use topics::{Publications, TopicService};

/// The context that all connections of a worker share.
#[derive(Debug)]
pub(crate) struct Local {
    /// The number of the worker in the ids of its connections.
    pub(crate) worker: u32,
    pub(crate) config: Arc<Config>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) pool: Pool,
    /// The time of the current turn, or of the last one.
    pub(crate) now: Cell<Tick>,
    /// When the last turn was over, while the worker waits for the next.
    pub(crate) idle_since: Cell<Option<Instant>>,
    /// Connections that want to be looked at before the turn ends.
    pub(crate) dirty: StateCell<Vec<Token>>,
    /// Masks frames of clients, and makes the nonces of their handshakes.
    pub(crate) keys: StateCell<KeySource>,
    /// How work that is queued between two turns makes the owner of the worker take the next.
    pub(crate) wake: StateCell<Wake>,
    /// The loop that hosts the worker is to give it back.
    pub(crate) is_released: Cell<bool>,
    pub(crate) callback_timer: CallbackTimer,
    pub(crate) budget_rules: BudgetRules,
    /// Of the lines that peers can cause.
    pub(crate) log_limits: LogLimits,
    pub(crate) lent: LentPiece,
    /// When the kernel received the piece that was handled last in this turn, and whose that is, if it
    /// came with a stamp. `None` once all have been handled.
    pub(crate) stamp: Cell<Option<(Token, Stamp)>>,
    /// States that connections share to expand messages with.
    #[cfg(feature = "deflate")]
    pub(crate) inflaters: StateCell<picows_uring_proto::Inflaters>,
    /// The same, to compress messages with.
    #[cfg(feature = "deflate")]
    pub(crate) deflaters: StateCell<picows_uring_proto::Deflaters>,
    /// Bytes that frames may still be expanded to, before the memory limit is looked at.
    #[cfg(feature = "deflate")]
    pub(crate) expansion_left: Cell<usize>,
    /// Something that is held here is in the sum of the memory budget.
    pub(crate) is_in_budget: Cell<bool>,
    /// The way to sockets from inside a callback; the worker sees to it.
    pub(crate) outlet: OnceCell<Rc<dyn Outlet>>,
    /// Streams of carriers, beside the sockets; an embedded worker has them.
    pub(crate) streams: OnceCell<Rc<Streams>>,
    /// The subscriptions of its connections to topics.
    pub(crate) topics: OnceCell<Rc<dyn TopicService>>,
    /// Publications that wait for subscriptions of its connections.
    pub(crate) publications: Cell<Publications>,
    /// Counted around: how often the ring has had what it was given, and told what came of it.
    pub(crate) polls: Cell<u8>,
    /// Steps of TLS handshakes that are left in this turn.
    #[cfg(feature = "_tls")]
    pub(crate) tls_steps: TlsSteps,
}

impl Local {
    pub(crate) fn new(
        config: Arc<Config>,
        counters: Arc<Counters>,
        mailbox: Arc<Mailbox>,
    ) -> Rc<Self> {
        let callback_timer = CallbackTimer::new(config.slow_callback);
        Rc::new(Self {
            worker: identity::next_worker(),
            callback_timer,
            budget_rules: BudgetRules::default(),
            log_limits: LogLimits::new(),
            config,
            counters,
            mailbox,
            pool: Pool::default(),
            now: Cell::new(Tick::ZERO),
            idle_since: Cell::new(None),
            dirty: StateCell::default(),
            keys: StateCell::default(),
            wake: StateCell::default(),
            is_released: Cell::new(false),
            lent: LentPiece::default(),
            stamp: Cell::new(None),
            #[cfg(feature = "deflate")]
            inflaters: StateCell::new(picows_uring_proto::Inflaters::new(INFLATERS_MAX)),
            #[cfg(feature = "deflate")]
            deflaters: StateCell::new(picows_uring_proto::Deflaters::new(DEFLATERS_MAX)),
            #[cfg(feature = "deflate")]
            expansion_left: Cell::new(usize::MAX),
            is_in_budget: Cell::new(false),
            outlet: OnceCell::new(),
            streams: OnceCell::new(),
            topics: OnceCell::new(),
            publications: Cell::new(Publications::None),
            polls: Cell::new(0),
            #[cfg(feature = "_tls")]
            tls_steps: TlsSteps::default(),
        })
    }
}

impl Local {
    /// The time, also for a task that runs while the worker waits, and behind a callback that took
    /// long: a deadline that begins in the middle of a turn is as long as any.
    pub(crate) fn now(&self) -> Tick {
        match self.idle_since.get() {
            Some(since) => self.now.get() + since.elapsed(),
            None => self.now.get() + self.callback_timer.late(),
        }
    }

    /// Has the owner of the worker take its turn, if it waits: once for each wait.
    pub(crate) fn wake(&self) {
        let wake = self.wake.take();
        match wake {
            Wake::None => {}
            Wake::Task(waker) => waker.wake(),
            Wake::Hook(hook) => hook(),
        }
    }

    /// Whether frames may be expanded to nothing more, before the memory limit is looked at.
    pub(crate) fn is_expansion_spent(&self) -> bool {
        #[cfg(feature = "deflate")]
        return self.expansion_left.get() == 0;
        #[cfg(not(feature = "deflate"))]
        false
    }

    /// Bytes of memory of the states that connections share to compress and expand messages with.
    pub(crate) fn codec_bytes(&self) -> usize {
        #[cfg(feature = "deflate")]
        return self.inflaters.borrow().memory() + self.deflaters.borrow().memory();
        #[cfg(not(feature = "deflate"))]
        0
    }

    /// Gives up such states that were not used since the last call, or all.
    pub(crate) fn trim_codecs(&self, all: bool) {
        #[cfg(feature = "deflate")]
        {
            self.inflaters.borrow_mut().trim(all);
            self.deflaters.borrow_mut().trim(all);
        }
        let _ = all;
    }

    /// Whether something is there for the worker that its ring does not know of.
    pub(crate) fn has_work(&self) -> bool {
        let has_publications = self.publications.get() == Publications::Due;
        !self.dirty.borrow().is_empty() || has_publications || self.pool.has_discarded()
    }
}

/// The way in which the owner of a worker that waits is woken by its own thread.
#[derive(Default)]
pub(crate) enum Wake {
    /// It does not wait.
    #[default]
    None,
    /// A task of a loop waits.
    Task(Waker),
    /// A loop of the application waits. The hook runs inside of the call that queues something, with
    /// no state of ours borrowed.
    Hook(Rc<dyn Fn()>),
}

impl fmt::Debug for Wake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Task(_) => "Task",
            Self::Hook(_) => "Hook",
        })
    }
}

/// The piece that a connection of the worker is handling, while it can be lent.
///
/// A callback forwards a frame through any handle of its thread: that of another connection as well,
/// which knows neither where the frame came from nor which piece it lies in. So this is one cell for
/// the worker, which handles one piece at a time. It is set for the time of a call only.
#[derive(Debug, Default)]
pub(crate) struct LentPiece(StateCell<Option<Loan>>);

/// Ends the loan of a piece when it is dropped, also by a panic.
#[derive(Debug)]
pub(crate) struct Lending<'a>(&'a LentPiece);

impl LentPiece {
    /// Lends parts of `piece` until the guard is dropped.
    pub(crate) fn begin(&self, piece: Loan) -> Lending<'_> {
        debug_assert!(self.0.borrow().is_none(), "one piece at a time");
        self.0.replace(Some(piece));
        Lending(self)
    }

    /// A loan of `bytes`, if they lie in the piece.
    pub(crate) fn part(&self, bytes: &[u8]) -> Option<Loan> {
        self.0.borrow().as_ref()?.part(bytes)
    }

    /// Whether a piece is lent.
    #[cfg(test)]
    pub(crate) fn is_lent(&self) -> bool {
        self.0.borrow().is_some()
    }
}

impl Drop for Lending<'_> {
    fn drop(&mut self) {
        self.0.0.take();
    }
}

/// Steps of TLS handshakes in a turn, each of which takes as long as many frames. Those for which the turn
/// has none are deferred, and come first in the next.
#[cfg(feature = "_tls")]
#[derive(Debug, Default)]
pub(crate) struct TlsSteps {
    left: Cell<u16>,
    /// Some were deferred: they come before those of new connections.
    has_deferred: Cell<bool>,
}

#[cfg(feature = "_tls")]
impl TlsSteps {
    /// A turn of `max` steps begins.
    pub(crate) fn begin_turn(&self, max: u16) {
        self.left.set(if self.has_deferred.get() { 0 } else { max });
    }

    /// Connections with deferred input come next, in a turn of `max` steps.
    pub(crate) fn begin_deferred(&self, max: u16) {
        if self.has_deferred.take() {
            self.left.set(max);
        }
    }

    /// Takes a step, if there is one left.
    pub(crate) fn take(&self) -> bool {
        let left = self.left.get();
        self.has_deferred.set(self.has_deferred.get() || left == 0);
        self.left.set(left.saturating_sub(1));
        left > 0
    }
}

/// The rules of the budget, the same for all connections of a worker.
#[derive(Debug)]
pub(crate) struct BudgetRules {
    /// Frames, if they are small.
    pub(crate) units: Cell<u16>,
    /// Measures the callbacks of a share.
    pub(crate) clock: Cell<fn() -> Duration>,
}

impl Default for BudgetRules {
    fn default() -> Self {
        Self { units: Cell::new(UNITS_PER_TURN), clock: Cell::new(monotonic_clock) }
    }
}

/// The kind of host that runs a worker on its thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HostKind {
    /// In a tokio loop, beside tasks.
    Loop,
    /// Alone.
    Dedicated,
    /// In a loop of the application.
    Embedded,
}

thread_local! {
    /// The worker that runs on this thread.
    static CURRENT: StateCell<Option<(Rc<Local>, HostKind)>> = const { StateCell::new(None) };
}

/// The worker that the tokio loop of this thread hosts, if it does.
pub(crate) fn current() -> Option<Rc<Local>> {
    // Not while the thread ends: what its other variables drop may ask.
    let current = CURRENT.try_with(|current| current.borrow().clone()).ok().flatten();
    current.filter(|(_, kind)| *kind == HostKind::Loop).map(|(local, _)| local)
}

/// The worker that runs on this thread, in whatever way.
pub(crate) fn here() -> Option<Rc<Local>> {
    let current = CURRENT.try_with(|current| current.borrow().clone()).ok().flatten();
    current.map(|(local, _)| local)
}

/// Whether a worker runs on this thread, in whatever way.
pub(crate) fn has_worker() -> bool {
    CURRENT.try_with(|current| current.borrow().is_some()).unwrap_or(false)
}

/// Makes the worker known to this thread for as long as it lives.
#[derive(Debug)]
pub(crate) struct Hosting(());

impl Hosting {
    /// `None` if another worker runs on this thread.
    pub(crate) fn begin(local: &Rc<Local>, kind: HostKind) -> Option<Self> {
        if has_worker() {
            return None;
        }
        CURRENT.with(|current| drop(current.replace(Some((Rc::clone(local), kind)))));
        Some(Self(()))
    }
}

impl Drop for Hosting {
    fn drop(&mut self) {
        let _ = CURRENT.try_with(StateCell::take);
    }
}

/// Frames that are handled in a turn if they are small: some 50 µs of parsing. Of callbacks that take
/// longer, microseconds are counted instead: with 64 connections whose listeners are slow, a neighbour
/// waits for a sixteenth of a second.
const UNITS_PER_TURN: u16 = 1024;
/// Compressors of a worker: about 5 MB. A connection whose compressor went to another one pays some
/// microseconds once.
#[cfg(feature = "deflate")]
const DEFLATERS_MAX: usize = 32;
/// Expanders of a worker that no message under way has: less than a megabyte.
#[cfg(feature = "deflate")]
const INFLATERS_MAX: usize = 16;
