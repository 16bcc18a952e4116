//! Progress of what a peer has begun: a message that it sends, a queue that it is to take.
//!
//! Pure decisions about what has changed between two looks, so that no message costs a timer. Who
//! looks, and how often, is the runtime's affair; [`ProgressRules::look_every`] proposes it.

use crate::tick::Tick;
use std::time::Duration;

/// The times that a peer may go without getting ahead.
///
/// ```
/// use std::time::Duration;
/// use picows_uring_proto::ProgressRules;
///
/// let rules = ProgressRules::default();
/// assert_eq!(rules.message_timeout, Some(Duration::from_secs(60)));
/// assert_eq!(rules.look_every(), Some(Duration::from_millis(7500)));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgressRules {
    /// After this time, a frame or message under way has to have brought [`MESSAGE_RATE_MIN`] on
    /// average since it began; `None` for no limit. Default: 60 s.
    pub message_timeout: Option<Duration>,
    /// How long the peer may take nothing of what is queued for it; `None` for ever. Default: 60 s.
    pub write_stall_timeout: Option<Duration>,
}

/// Payload bytes per second that a frame or message under way has to bring on average.
///
/// Less than the slowest modem, and far more than a peer that wants to hold memory cares to send.
pub const MESSAGE_RATE_MIN: u64 = 1024;

impl Default for ProgressRules {
    fn default() -> Self {
        Self { message_timeout: Some(TIMEOUT), write_stall_timeout: Some(TIMEOUT) }
    }
}

impl ProgressRules {
    /// How often to look: an eighth of the shorter time, so that a peer is dropped after that time
    /// and at most a quarter more. `None` if there is nothing to look for.
    #[must_use]
    pub fn look_every(&self) -> Option<Duration> {
        let shorter = self.message_timeout.into_iter().chain(self.write_stall_timeout).min()?;
        Some((shorter / LOOKS).max(LOOK_EVERY_MIN))
    }
}

/// The frame or message that a peer has begun and not ended, as [`Decoder::under_way`] sees it.
///
/// [`Decoder::under_way`]: crate::Decoder::under_way
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnderWay {
    /// Payload bytes that have arrived of it, those of its complete fragments included.
    pub bytes: u64,
    /// It has begun since this was last asked.
    pub is_new: bool,
}

/// The message and the send of one connection that are under way, from look to look.
///
/// ```
/// use std::time::Duration;
/// use picows_uring_proto::{Progress, ProgressRules, Tick, UnderWay};
///
/// let (rules, start) = (ProgressRules::default(), Tick::ZERO);
/// let mut progress = Progress::default();
/// let begun = UnderWay { bytes: 9_000_000, is_new: true };
/// assert!(!progress.is_message_too_slow(&rules, start, Some(begun), || false));
/// // It dripped on, which makes 1 KiB/s for the first hour or two.
/// let now = start + Duration::from_secs(9000);
/// let later = UnderWay { bytes: 9_009_000, is_new: false };
/// assert!(progress.is_message_too_slow(&rules, now, Some(later), || false));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// When the message began.
    message: Moment,
    /// Since when the peer has taken no more than [`taken`](Self::taken).
    taken_since: Moment,
    taken: u64,
}

const _: () = assert!(size_of::<Progress>() <= 24, "each peer that does not read has one");

/// A time, or none, and a flag. An `Option` of a time and a flag would take twice as much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Moment {
    /// Nanoseconds since the origin, without the lowest bit: that is the flag. All bits: none.
    bits: u64,
}

impl Default for Moment {
    fn default() -> Self {
        Self::NONE
    }
}

impl Moment {
    const NONE: Self = Self { bits: u64::MAX };

    /// The flag is not set.
    fn at(at: Tick) -> Self {
        Self { bits: at.as_nanos() & !1 }
    }

    fn get(self) -> Option<Tick> {
        (self != Self::NONE).then(|| Tick::from_nanos(self.bits & !1))
    }

    /// Whether it was too slow, but for what had arrived and was not handled yet.
    fn is_excused(self) -> bool {
        self.bits & 1 == 1
    }

    fn set_excused(&mut self, is_excused: bool) {
        let bits = (self.bits & !1) | u64::from(is_excused);
        // No time, and not in a thousand years.
        if bits != Self::NONE.bits {
            self.bits = bits;
        }
    }

    fn delay(&mut self, time: Duration) {
        if let Some(at) = self.get() {
            let is_excused = self.is_excused();
            *self = Self::at(at + time);
            self.set_excused(is_excused);
        }
    }
}

impl Progress {
    /// Whether the frame or message under way has to be given up at `now`.
    ///
    /// `has_more` says whether bytes of the peer wait to be handled. They count, so the verdict then
    /// waits for the next look, once.
    pub fn is_message_too_slow(
        &mut self,
        rules: &ProgressRules,
        now: Tick,
        under_way: Option<UnderWay>,
        has_more: impl FnOnce() -> bool,
    ) -> bool {
        let Some(UnderWay { bytes, is_new }) = under_way else {
            self.message = Moment::NONE;
            return false;
        };
        if is_new || self.message == Moment::NONE {
            self.message = Moment::at(now);
        }
        let (Some(begun), Some(timeout)) = (self.message.get(), rules.message_timeout) else {
            return false;
        };
        let time = now.duration_since(begun);
        let needed = time.as_nanos() * u128::from(MESSAGE_RATE_MIN) / NANOS_PER_SECOND;
        if time < timeout || u128::from(bytes) >= needed {
            self.message.set_excused(false);
            return false;
        }
        let is_excused = !self.message.is_excused() && has_more();
        self.message.set_excused(true);
        !is_excused
    }

    /// Whether the peer has to be given up at `now` because it takes nothing. `taken` counts what it
    /// has taken since the connection began, `None` while nothing is queued for it.
    pub fn is_write_stalled(
        &mut self,
        rules: &ProgressRules,
        now: Tick,
        taken: Option<u64>,
    ) -> bool {
        match (self.taken_since.get(), taken) {
            (Some(since), Some(taken)) if self.taken == taken => {
                rules.write_stall_timeout.is_some_and(|limit| now.duration_since(since) >= limit)
            }
            (_, taken) => {
                self.taken_since = taken.map_or(Moment::NONE, |_| Moment::at(now));
                self.taken = taken.unwrap_or_default();
                false
            }
        }
    }

    /// We were held up for so long that the peer could not get ahead: that time does not count.
    pub fn held_up(&mut self, time: Duration) {
        self.message.delay(time);
        self.taken_since.delay(time);
    }

    /// Whether nothing is under way, as of the last look.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.message == Moment::NONE && self.taken_since == Moment::NONE
    }
}

/// Longer than the pauses of radio links and of machines that sleep for a moment.
const TIMEOUT: Duration = Duration::from_secs(60);
const LOOKS: u32 = 8;
/// So that a slip of the pen does not keep a worker busy.
const LOOK_EVERY_MIN: Duration = Duration::from_millis(10);
const NANOS_PER_SECOND: u128 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(seconds: u32) -> Tick {
        Tick::ZERO + SECOND * seconds
    }

    fn part(bytes: u64) -> Option<UnderWay> {
        Some(UnderWay { bytes, is_new: false })
    }

    fn begun() -> (ProgressRules, Progress) {
        let (rules, mut progress) = (ProgressRules::default(), Progress::default());
        let new = Some(UnderWay { bytes: 0, is_new: true });
        assert!(!progress.is_message_too_slow(&rules, at(0), new, || false));
        (rules, progress)
    }

    #[test]
    fn a_message_has_its_time_and_then_to_bring_a_kibibyte_a_second() {
        for (seconds, bytes, is_too_slow) in [
            (59, 0, false),
            (60, 61_439, true),
            (60, 61_440, false),
            (600, 614_399, true),
            (600, 614_400, false),
        ] {
            let (rules, mut progress) = begun();
            let verdict = progress.is_message_too_slow(&rules, at(seconds), part(bytes), || false);
            assert_eq!(verdict, is_too_slow, "{bytes} bytes in {seconds} s");
        }
    }

    #[test]
    fn single_bytes_do_not_put_the_verdict_off_and_another_message_does() {
        let (rules, mut progress) = begun();
        for second in 1..60 {
            let verdict =
                progress.is_message_too_slow(&rules, at(second), part(second.into()), || false);
            assert!(!verdict);
        }
        let mut other = progress;
        assert!(progress.is_message_too_slow(&rules, at(60), part(60), || false));
        let new = Some(UnderWay { bytes: 1, is_new: true });
        assert!(!other.is_message_too_slow(&rules, at(60), new, || false));
        assert!(!other.is_message_too_slow(&rules, at(119), part(1), || false));
        assert!(other.is_message_too_slow(&rules, at(120), part(1), || false));
        assert!(!other.is_message_too_slow(&rules, at(120), None, || false) && other.is_idle());
    }

    #[test]
    fn what_has_arrived_counts_but_not_for_ever() {
        let (rules, mut progress) = begun();
        assert!(!progress.is_message_too_slow(&rules, at(60), part(100), || true));
        let mut faster = progress;
        assert!(progress.is_message_too_slow(&rules, at(61), part(100), || true));
        assert!(!faster.is_message_too_slow(&rules, at(61), part(100_000), || false));
        assert!(!faster.is_message_too_slow(&rules, at(120), part(100_000), || true), "once more");
    }

    #[test]
    fn a_queue_of_which_nothing_is_taken_stalls() {
        let (rules, mut progress) = (ProgressRules::default(), Progress::default());
        assert!(!progress.is_write_stalled(&rules, at(0), Some(7)));
        assert!(!progress.is_write_stalled(&rules, at(59), Some(7)));
        let mut reader = progress;
        assert!(progress.is_write_stalled(&rules, at(60), Some(7)));
        assert!(!reader.is_write_stalled(&rules, at(60), Some(8)), "it took a byte");
        assert!(!reader.is_write_stalled(&rules, at(61), None), "it took all");
        assert!(reader.is_idle());
        assert!(!reader.is_write_stalled(&rules, at(200), Some(8)));
        assert!(reader.is_write_stalled(&rules, at(260), Some(8)));
    }

    #[test]
    fn the_time_of_a_stall_of_ours_does_not_count() {
        let (rules, mut progress) = begun();
        assert!(!progress.is_write_stalled(&rules, at(0), Some(7)));
        progress.held_up(600 * SECOND);
        for (second, is_over) in [(659, false), (660, true)] {
            let now = at(second);
            assert_eq!(progress.is_message_too_slow(&rules, now, part(0), || false), is_over);
            assert_eq!(progress.is_write_stalled(&rules, now, Some(7)), is_over);
        }
    }

    #[test]
    fn an_excuse_outlasts_a_stall_of_ours_and_a_time_has_no_end() {
        let (rules, mut progress) = begun();
        assert!(!progress.is_message_too_slow(&rules, at(60), part(100), || true));
        progress.held_up(600 * SECOND);
        assert!(progress.is_message_too_slow(&rules, at(661), part(100), || true), "once only");
        progress.held_up(Duration::MAX);
        assert!(!progress.is_message_too_slow(&rules, at(99_999), part(100), || false));
        assert!(!progress.is_idle());
        assert_eq!(Moment::at(Tick::from_nanos(u64::MAX)).get().map(Tick::as_nanos), Some(!1));
    }

    #[test]
    fn without_a_limit_nothing_is_too_slow() {
        let rules = ProgressRules { message_timeout: None, write_stall_timeout: None };
        assert_eq!(rules.look_every(), None);
        let (_, mut progress) = begun();
        assert!(!progress.is_message_too_slow(&rules, at(9999), part(0), || false));
        assert!(!progress.is_write_stalled(&rules, at(0), Some(7)));
        assert!(!progress.is_write_stalled(&rules, at(9999), Some(7)));
        let rules = ProgressRules { message_timeout: Some(SECOND / 1000), ..rules };
        assert_eq!(rules.look_every(), Some(LOOK_EVERY_MIN));
    }
}
