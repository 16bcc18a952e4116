//! Connecting again: how long to wait, and when to give up.
//!
//! [`Backoff`] only counts; it reads no clock and waits for nothing. [`Reconnect`] does.

mod kept;

use crate::client::{Connect, ConnectError};
use crate::foreign::log::{self, LogLine, log_limited};
use crate::listener::Listener;
use crate::local;
use crate::status::DisconnectCause;
use crate::stream::WsStream;
use crate::transport::Transport;
use kept::Kept;
use picows_uring_proto::CloseCode;
use picows_uring_proto::internal::debug_with_text;
use std::fmt;
use std::time::Duration;
use thiserror::Error;
use tokio::time::{Instant, sleep};

/// The waits before connecting again: longer each time, up to a limit, and each time a bit
/// differently, so that the clients of a server that comes back do not all come at once.
///
/// ```
/// use std::time::Duration;
/// use picows_uring::Backoff;
///
/// let second = Duration::from_secs(1);
/// let mut backoff = Backoff::default().initial(second).factor(2.0).max(3 * second).jitter(0.0);
/// assert_eq!([(); 4].map(|()| backoff.next_delay(0).as_secs()), [1, 2, 3, 3]);
/// backoff.disconnected(60 * second); // It was stable: from the start.
/// assert_eq!(backoff.next_delay(0), second);
/// ```
#[derive(Clone, Debug)]
pub struct Backoff {
    initial: Duration,
    max: Duration,
    factor: f64,
    jitter: f64,
    stable_after: Duration,
    /// Delays since the last stable connection.
    delays: i32,
}

impl Backoff {
    /// The first delay. Default: 100 ms.
    #[must_use]
    pub fn initial(mut self, delay: Duration) -> Self {
        self.initial = delay;
        self
    }

    /// The longest delay. Default: 30 s.
    #[must_use]
    pub fn max(mut self, delay: Duration) -> Self {
        self.max = delay;
        self
    }

    /// How much longer each delay is than the one before; less than 1 counts as 1. Default: 2.
    #[must_use]
    pub fn factor(mut self, factor: f64) -> Self {
        self.factor = factor.max(1.0);
        self
    }

    /// The part of each delay that is left to chance, from 0 (none) to 1 (all of it); what is outside
    /// counts as the nearer of the two. Default: 0.5.
    #[must_use]
    pub fn jitter(mut self, jitter: f64) -> Self {
        self.jitter = if jitter.is_nan() { 0.0 } else { jitter.clamp(0.0, 1.0) };
        self
    }

    /// How long a connection has to last for the delays to begin from the start. Default: 10 s.
    #[must_use]
    pub fn stable_after(mut self, duration: Duration) -> Self {
        self.stable_after = duration;
        self
    }

    /// How long to wait now. `random` is any number, each as likely as any other.
    pub fn next_delay(&mut self, random: u32) -> Duration {
        let grown = self.initial.as_secs_f64() * self.factor.powi(self.delays);
        let delay = grown.min(self.max.as_secs_f64());
        if grown < self.max.as_secs_f64() {
            self.delays += 1;
        }
        let chance = f64::from(random) / (f64::from(u32::MAX) + 1.0);
        // What is nearly `Duration::MAX` is more than that in seconds of floating point.
        Duration::try_from_secs_f64(delay * (1.0 - self.jitter * chance)).unwrap_or(self.max)
    }

    /// A connection was lost that lasted for `lived`.
    pub fn disconnected(&mut self, lived: Duration) {
        if lived >= self.stable_after {
            self.delays = 0;
        }
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            initial: Duration::from_millis(100),
            max: Duration::from_secs(30),
            factor: 2.0,
            jitter: 0.5,
            stable_after: Duration::from_secs(10),
            delays: 0,
        }
    }
}

/// A connection that is made again when it is lost.
///
/// [`run`](Self::run) keeps one for listeners that it has made anew each time, [`keep`](Self::keep) for one
/// listener; [`stream`](Self::stream) makes the next one each time it is called. What the server must be told again, such as subscriptions, goes into
/// [`on_connected`](Self::on_connected).
///
/// ```no_run
/// use picows_uring::{Connect, EchoListener, Reconnect};
///
/// picows_uring::run(async {
///     Reconnect::new(|| Connect::new("ws://127.0.0.1:9001/feed"))
///         .on_connected(|transport| {
///             transport.send_text("subscribe");
///         })
///         .run(|| EchoListener)
///         .await
/// })??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "nothing happens before `run`, `keep` or `stream`"]
pub struct Reconnect {
    connect: Box<dyn FnMut() -> Connect>,
    backoff: Backoff,
    attempts_max: Option<u32>,
    retry_after_max: Duration,
    on_connected: Box<dyn FnMut(&Transport)>,
    retry_if: Box<dyn Fn(&ConnectError) -> bool>,
    /// When the connection was made that is open or was lost.
    connected_at: Option<Instant>,
}

impl Reconnect {
    /// A connection that is made with what `connect` returns, anew each time: it may choose another
    /// server, or fetch another token.
    pub fn new(connect: impl FnMut() -> Connect + 'static) -> Self {
        Self {
            connect: Box::new(connect),
            backoff: Backoff::default(),
            attempts_max: None,
            retry_after_max: RETRY_AFTER_MAX,
            on_connected: Box::new(|_| ()),
            retry_if: Box::new(ConnectError::is_transient),
            connected_at: None,
        }
    }

    /// How long to wait between attempts. Default: [`Backoff::default`].
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// How many attempts in a row may fail; with the last, its error is returned. Default: any
    /// number.
    pub fn max_attempts(mut self, count: u32) -> Self {
        self.attempts_max = Some(count);
        self
    }

    /// The longest `Retry-After` that is obeyed: a server that refuses and asks to be left alone
    /// for longer is left alone for as long as this. Zero: none is. Default: 5 minutes.
    ///
    /// What the server asks for comes on top of the delay of the [`Backoff`], which keeps clients
    /// that were refused together from coming back together.
    pub fn max_retry_after(mut self, duration: Duration) -> Self {
        self.retry_after_max = duration;
        self
    }

    /// Is called with each new connection.
    pub fn on_connected(mut self, hook: impl FnMut(&Transport) + 'static) -> Self {
        self.on_connected = Box::new(hook);
        self
    }

    /// Which errors are worth another attempt. Default: [`ConnectError::is_transient`].
    pub fn retry_if(mut self, is_worth_it: impl Fn(&ConnectError) -> bool + 'static) -> Self {
        self.retry_if = Box::new(is_worth_it);
        self
    }

    /// Keeps a connection for a listener, which `listener` makes anew each time. Ends when the
    /// application ends a connection, with [`Transport::send_close`] or another way; that the peer
    /// does, that it breaks, or that the listener fails, is a reason to connect again.
    ///
    /// Dropping the future closes the connection with 1001.
    ///
    /// # Errors
    ///
    /// When there is no connection, and no sense in trying again.
    pub async fn run<L: Listener + 'static>(
        mut self,
        mut listener: impl FnMut() -> L,
    ) -> Result<(), ConnectError> {
        loop {
            let ended = self.hold(async |connect| connect.connect(listener()).await).await?;
            if is_our_doing(&ended) {
                return Ok(());
            }
        }
    }

    /// Keeps a connection for one listener, which gets the callbacks of all connections, one after the
    /// other: what it has learnt on one is there on the next.
    ///
    /// Ends as [`run`](Self::run) does, and with the application's own error: when a callback fails with
    /// another error than [`ListenerError::close`](crate::ListenerError::close), which is about one
    /// connection and a reason to connect again, or when it panics.
    ///
    /// # Errors
    ///
    /// When there is no connection, and no sense in trying again; and the error of a callback.
    ///
    /// ```no_run
    /// use picows_uring::{Connect, Frame, Listener, ListenerResult, Reconnect, Transport};
    ///
    /// #[derive(Default)]
    /// struct Feed {
    ///     last: u64,
    /// }
    ///
    /// impl Listener for Feed {
    ///     fn on_connected(&mut self, transport: &Transport) -> ListenerResult {
    ///         transport.send_text(format!("after {}", self.last));
    ///         Ok(())
    ///     }
    ///
    ///     fn on_frame(&mut self, _: &Transport, frame: &Frame<'_>) -> ListenerResult {
    ///         // A number that is none ends it, with this error.
    ///         self.last = frame.text()?.parse()?;
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let reconnect = Reconnect::new(|| Connect::new("ws://127.0.0.1:9001/feed"));
    /// picows_uring::run(reconnect.keep(Feed::default()))??;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn keep<L: Listener + 'static>(mut self, listener: L) -> Result<(), ReconnectError> {
        let kept = Kept::new(listener);
        loop {
            let ended = self.hold(async |connect| connect.connect(kept.clone()).await).await;
            let ended = ended.map_err(ReconnectError::Connect)?;
            if let Some(error) = kept.take_failure(&ended) {
                return Err(ReconnectError::Listener(error));
            }
            if is_our_doing(&ended) {
                return Ok(());
            }
        }
    }

    /// Makes a connection, waits for its end, and returns it.
    async fn hold(
        &mut self,
        connect: impl AsyncFnMut(Connect) -> Result<Transport, ConnectError>,
    ) -> Result<Transport, ConnectError> {
        let open = Leaving(self.establish(connect).await?);
        (self.on_connected)(&open.0);
        if let Err(cause) = open.0.wait_disconnected().await {
            let local = &open.0.session().local;
            log_limited!(warn, local, LogLine::ConnectionFailed, %cause);
        }
        Ok(open.0.clone())
    }

    /// Makes a connection, as a stream; the next one once that has ended.
    ///
    /// # Errors
    ///
    /// When there is no connection, and no sense in trying again.
    pub async fn stream(&mut self) -> Result<WsStream, ConnectError> {
        let stream = self.establish(async |connect| connect.stream().await).await?;
        (self.on_connected)(stream.transport());
        Ok(stream)
    }

    async fn establish<T>(
        &mut self,
        mut connect: impl AsyncFnMut(Connect) -> Result<T, ConnectError>,
    ) -> Result<T, ConnectError> {
        if let Some(since) = self.connected_at.take() {
            self.backoff.disconnected(since.elapsed());
            self.pause(None).await;
        }
        let mut attempts = 0;
        loop {
            let error = match connect((self.connect)()).await {
                Ok(connected) => {
                    self.connected_at = Some(Instant::now());
                    return Ok(connected);
                }
                Err(error) => error,
            };
            attempts += 1;
            let is_last = self.attempts_max.is_some_and(|max| attempts >= max);
            if is_last || !(self.retry_if)(&error) {
                return Err(error);
            }
            log::info!(%error, attempts, "not connected: trying again");
            self.pause(error.retry_after()).await;
        }
    }

    /// Waits before the next attempt, for which the server may have `asked`.
    async fn pause(&mut self, asked: Option<Duration>) {
        let random = local::current().map_or([0; 4], |it| it.keys.borrow_mut().next_key());
        let delay = self.backoff.next_delay(u32::from_ne_bytes(random));
        let delay = with_retry_after(delay, asked, self.retry_after_max);
        log::debug!(?delay, "waiting before connecting again");
        sleep(delay).await;
    }
}

/// How long to wait when the server has asked for something, and nothing has more of a say than
/// `max`.
fn with_retry_after(delay: Duration, asked: Option<Duration>, max: Duration) -> Duration {
    delay.saturating_add(asked.unwrap_or_default().min(max))
}

/// Longest `Retry-After` that is obeyed: a server that restarts or sheds load asks for less, and
/// one that asks for a week should not silence a client for a week.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(5 * 60);

/// Whether the application ended the connection, rather than the peer or a fault.
fn is_our_doing(transport: &Transport) -> bool {
    let close = transport.close_handshake();
    match transport.disconnect_cause() {
        Some(DisconnectCause::Application | DisconnectCause::Stopped) => true,
        Some(
            DisconnectCause::Closed | DisconnectCause::EndOfStream | DisconnectCause::TimedOut,
        ) => close.sent.is_some() && !close.received_first,
        _ => false,
    }
}

/// The reason why [`Reconnect::keep`] has ended.
#[derive(Error)]
#[non_exhaustive]
pub enum ReconnectError {
    /// There is no connection, and no sense in trying again.
    #[error(transparent)]
    Connect(ConnectError),
    /// A callback of the listener failed, with this error.
    #[error("the listener failed: {0}")]
    Listener(#[source] Box<dyn std::error::Error + Send + Sync>),
}

debug_with_text! { ReconnectError: Connect, Listener }

/// Closes the connection when it is dropped, unless that is over.
struct Leaving(Transport);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.send_close(CloseCode::GOING_AWAY, "");
    }
}

impl fmt::Debug for Reconnect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reconnect").field("backoff", &self.backoff).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn delays<const N: usize>(backoff: &mut Backoff, random: u32) -> [u128; N] {
        [(); N].map(|()| backoff.next_delay(random).as_millis())
    }

    #[test]
    fn delays_grow_up_to_their_limit_and_stay_there() {
        let mut backoff = Backoff::default().jitter(0.0);
        assert_eq!(delays(&mut backoff, 0), [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600]);
        assert_eq!(delays(&mut backoff, 0), [30_000; 3]);
        // However long it goes on.
        for _ in 0..100_000 {
            assert_eq!(backoff.next_delay(7), 30_000 * MS);
        }
        let mut even = Backoff::default().jitter(0.0).factor(0.0);
        assert_eq!(delays(&mut even, 0), [100; 50]);
    }

    #[test]
    fn numbers_that_make_no_sense_make_no_panic() {
        let mut backoff = Backoff::default().jitter(f64::NAN);
        assert_eq!(backoff.next_delay(u32::MAX), 100 * MS, "none is left to chance");
        let numbers = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, -1.0, 0.0];
        for (factor, jitter) in numbers.iter().flat_map(|it| numbers.map(|that| (*it, that))) {
            for limit in [Duration::ZERO, MS, Duration::MAX] {
                for initial in [Duration::ZERO, MS, Duration::MAX] {
                    let backoff = Backoff::default().initial(initial).max(limit);
                    let mut backoff = backoff.factor(factor).jitter(jitter);
                    for random in [0, 1, u32::MAX, 0] {
                        let delay = backoff.next_delay(random);
                        assert!(delay <= limit, "{delay:?} with {backoff:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_part_is_left_to_chance_and_never_more_than_that() {
        for (jitter, least) in [(0.0, 100), (0.25, 75), (0.5, 50), (1.0, 0), (7.0, 0)] {
            let mut backoff = Backoff::default().initial(100 * MS).factor(1.0).jitter(jitter);
            assert_eq!(delays(&mut backoff, 0), [100]);
            let shortest = backoff.next_delay(u32::MAX);
            assert!(shortest >= least * MS && shortest <= (least + 1) * MS, "{shortest:?}");
            let middle = backoff.next_delay(u32::MAX / 2);
            assert_eq!(middle.as_millis().abs_diff(u128::from(100 + least) / 2) / 2, 0);
        }
    }

    #[test]
    fn a_server_is_left_alone_for_as_long_as_it_asks_within_the_bound() {
        let second = 1000 * MS;
        for (asked, wanted) in [
            (None, 100 * MS),
            (Some(Duration::ZERO), 100 * MS),
            (Some(7 * second), 7100 * MS),
            (Some(60 * second), 60_100 * MS),
            (Some(61 * second), 60_100 * MS),
            (Some(Duration::MAX), 60_100 * MS),
        ] {
            assert_eq!(with_retry_after(100 * MS, asked, 60 * second), wanted, "{asked:?}");
        }
        assert_eq!(with_retry_after(MS, Some(second), Duration::ZERO), MS);
        assert_eq!(with_retry_after(MS, Some(Duration::MAX), Duration::MAX), Duration::MAX);
    }

    #[test]
    fn only_a_stable_connection_begins_from_the_start() {
        let mut backoff = Backoff::default().jitter(0.0).stable_after(1000 * MS);
        assert_eq!(delays(&mut backoff, 0), [100, 200, 400]);
        backoff.disconnected(999 * MS);
        assert_eq!(delays(&mut backoff, 0), [800]);
        backoff.disconnected(1000 * MS);
        assert_eq!(delays(&mut backoff, 0), [100, 200]);
    }
}
