//! `Retry-After`: how long a server asks to be left alone (RFC 9110 §10.2.3).
//!
//! Reads no clock and waits for nothing.

use super::{ResponseHead, http_date};
use std::time::Duration;

/// The delay, or the date, of a `Retry-After`.
///
/// ```
/// use picows_uring_proto::{ClientHandshake, HeadLimits, RetryAfter};
/// use std::time::Duration;
///
/// let handshake = ClientHandshake::new("example.com", "/", [0; 16])?;
/// let answer = b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 30\r\n\r\n";
/// let error = handshake.parse_response(answer, &HeadLimits::default()).unwrap_err();
/// let asked = error.response().unwrap().head().retry_after();
/// assert_eq!(asked, Some(RetryAfter::Delay(Duration::from_secs(30))));
/// # Ok::<(), picows_uring_proto::HandshakeMisuse>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RetryAfter {
    /// So long after the answer.
    Delay(Duration),
    /// At this time by the server's clock, in seconds since 1970.
    At(u64),
}

impl RetryAfter {
    /// How long to wait from `now` on, which is in seconds since 1970; zero when the time has passed.
    #[must_use]
    pub fn delay(self, now: u64) -> Duration {
        match self {
            Self::Delay(delay) => delay,
            Self::At(time) => Duration::from_secs(time.saturating_sub(now)),
        }
    }

    fn parse(value: &[u8]) -> Option<Self> {
        let value = value.trim_ascii();
        if !value.is_empty() && value.iter().all(u8::is_ascii_digit) {
            // More digits than fit are as good as for ever.
            let seconds = str::from_utf8(value).ok()?.parse().unwrap_or(u64::MAX);
            return Some(Self::Delay(Duration::from_secs(seconds)));
        }
        http_date::parse(value).map(Self::At)
    }
}

impl ResponseHead {
    /// What `Retry-After` asks for: a number of seconds or a date, in any of the three forms.
    /// `None` without one, and when it is neither.
    ///
    /// Beside a `Date` in the same answer, a date becomes a delay: the clocks of the two machines
    /// need not agree.
    #[must_use]
    pub fn retry_after(&self) -> Option<RetryAfter> {
        let asked = RetryAfter::parse(self.header("retry-after")?)?;
        match (asked, self.header("date").and_then(http_date::parse)) {
            (RetryAfter::At(_), Some(sent)) => Some(RetryAfter::Delay(asked.delay(sent))),
            _ => Some(asked),
        }
    }
}
