//! Errors of topics.

use picows_uring_proto::ApiMisuse;
use picows_uring_proto::internal::debug_with_text;
use thiserror::Error;

/// Nothing was published, subscribed or attached, and why.
///
/// ```
/// use picows_uring::topics::{Hub, TopicError};
///
/// let refused = Hub::new().topic("news..today");
/// assert!(matches!(refused, Err(TopicError::BadName { .. })));
/// ```
#[derive(Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TopicError {
    /// The name of a topic is not valid.
    #[error("{name:?} is no name of a topic: {fault}")]
    BadName {
        /// The name, or its beginning.
        name: String,
        /// The rule that it breaks.
        fault: &'static str,
    },
    /// The subject of a subscription is not valid.
    #[error("{pattern:?} is no subject to subscribe to: {fault}")]
    BadPattern {
        /// The subject, or its beginning.
        pattern: String,
        /// The rule that it breaks.
        fault: &'static str,
    },
    /// There are as many topics in use as may be.
    #[error(
        "{0} topics are in use, which is the limit: use fewer, or allow more with `max_topics`"
    )]
    TooManyTopics(usize),
    /// There are as many distinct subjects with wildcards as may be.
    #[error(
        "{0} subjects with wildcards are subscribed to, which is the limit: use fewer, or allow more \
         with `max_patterns`"
    )]
    TooManyPatterns(usize),
    /// The connection has as many subscriptions as it may.
    #[error(
        "the connection has {0} subscriptions, which is the limit: end some, or allow more with \
         `max_subscriptions`"
    )]
    TooManySubscriptions(usize),
    /// A subscription with wildcards cannot start from a position, which is one of a single topic.
    #[error("a subject with wildcards has no positions: start with `New`, `Last` or `History`")]
    PositionOfPattern,
    /// What was to be published is no message.
    #[error(transparent)]
    Misuse(#[from] ApiMisuse),
    /// Headers of a publication are too many or too long.
    #[error("the headers of a publication are at most 16, and 4 KiB together")]
    HeadersTooLong,
    /// The connection has ended.
    #[error("the connection has ended")]
    Disconnected,
    /// A bus is attached already.
    #[error("the hub has a bus: attach one only")]
    HasBus,
    /// The bus could not be attached.
    #[error(transparent)]
    Bus(#[from] BusError),
}

debug_with_text! { TopicError: BadName, BadPattern, TooManyTopics, TooManyPatterns, TooManySubscriptions, PositionOfPattern, Misuse, HeadersTooLong, Disconnected, HasBus, Bus }

/// A bus did not do what it was asked for.
#[derive(Clone, PartialEq, Eq, Error)]
#[error("the bus failed: {0}")]
pub struct BusError(String);

debug_with_text! { BusError }

impl BusError {
    /// An error with the text of a cause.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// The text of a position could not be read.
///
/// ```
/// use picows_uring::topics::{InvalidPosition, Position};
///
/// assert_eq!("1a:7".parse(), Ok(Position { epoch: 0x1a, offset: 7 }));
/// assert_eq!("1a".parse::<Position>(), Err(InvalidPosition));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Error)]
#[error("a position is EPOCH:OFFSET, both hexadecimal, of 1 to 16 digits each")]
pub struct InvalidPosition;

debug_with_text! { InvalidPosition }
