//! Messages to be published, and publications as subscribers get them.

use super::error::TopicError;
use super::position::Position;
use crate::prepared::Prepared;
use bytes::Bytes;
use picows_uring_proto::{ApiMisuse, MsgType};
use std::fmt;
use std::sync::Arc;

/// A message to be published, with what subscribers may filter and conflate by.
///
/// ```
/// use picows_uring::topics::Post;
///
/// let quote = Post::text(r#"{"bid":101.5}"#).key(42).header("venue", "XETRA");
/// ```
#[derive(Clone, Debug)]
pub struct Post {
    msg_type: MsgType,
    payload: Bytes,
    key: Option<u64>,
    headers: Headers,
}

pub(super) type Headers = Vec<(String, String)>;

impl Post {
    /// A message of a type: TEXT or BINARY, or publishing it fails.
    #[must_use]
    pub fn new(msg_type: MsgType, payload: impl Into<Bytes>) -> Self {
        Self { msg_type, payload: payload.into(), key: None, headers: Vec::new() }
    }

    /// A text message: UTF-8, or publishing it fails.
    #[must_use]
    pub fn text(payload: impl Into<Bytes>) -> Self {
        Self::new(MsgType::Text, payload)
    }

    /// A binary message.
    #[must_use]
    pub fn binary(payload: impl Into<Bytes>) -> Self {
        Self::new(MsgType::Binary, payload)
    }

    /// Gives it a key: a later publication with the same key replaces it for a subscriber that is
    /// behind, under [`SlowPolicy::latest_by_key`](super::SlowPolicy::latest_by_key).
    #[must_use]
    pub const fn key(mut self, key: u64) -> Self {
        self.key = Some(key);
        self
    }

    /// Adds a header, for filters and the bus; it is not sent to peers. Publishing with more than 16,
    /// or with more than 4 KiB of them, fails.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Its type.
    #[must_use]
    pub const fn msg_type(&self) -> MsgType {
        self.msg_type
    }

    /// Its payload.
    #[must_use]
    pub const fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// Its key.
    #[must_use]
    pub const fn key_value(&self) -> Option<u64> {
        self.key
    }

    /// Names and values of its headers.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// With headers that came by a bus.
    pub(super) fn with_headers(mut self, headers: Headers) -> Self {
        self.headers = headers;
        self
    }

    pub(super) const fn with_key(mut self, key: Option<u64>) -> Self {
        self.key = key;
        self
    }

    /// Checks and encodes it.
    pub(super) fn encode(self, deflate: Option<u8>) -> Result<Encoded, TopicError> {
        let bytes: usize = self.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        if self.headers.len() > HEADERS_MAX || bytes > HEADER_BYTES_MAX {
            return Err(TopicError::HeadersTooLong);
        }
        let message = prepare(self.msg_type, &self.payload, deflate)?;
        Ok(Encoded { message, key: self.key, headers: self.headers })
    }
}

fn prepare(msg_type: MsgType, payload: &[u8], deflate: Option<u8>) -> Result<Prepared, ApiMisuse> {
    let message = Prepared::new(msg_type, payload)?;
    #[cfg(feature = "deflate")]
    if let Some(window_bits) = deflate {
        return Ok(message.deflate(window_bits));
    }
    let _ = deflate;
    Ok(message)
}

/// A message that was checked and encoded, before it has its position.
#[derive(Debug)]
pub(super) struct Encoded {
    pub(super) message: Prepared,
    pub(super) key: Option<u64>,
    pub(super) headers: Headers,
}

/// A message that was published. Cheap to clone.
///
/// ```
/// use picows_uring::topics::{Publication, SubscribeOptions};
///
/// let is_german = |it: &Publication| it.headers().any(|header| header == ("venue", "XETRA"));
/// let options = SubscribeOptions::new().filter(is_german);
/// ```
#[derive(Clone)]
pub struct Publication(Arc<Inner>);

struct Inner {
    topic: Arc<str>,
    topic_id: u64,
    position: Position,
    encoded: Encoded,
}

impl Publication {
    pub(super) fn new(topic: &Arc<str>, id: u64, position: Position, encoded: Encoded) -> Self {
        Self(Arc::new(Inner { topic: Arc::clone(topic), topic_id: id, position, encoded }))
    }

    /// The name of its topic.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.0.topic
    }

    /// Its position in the topic.
    #[must_use]
    pub fn position(&self) -> Position {
        self.0.position
    }

    /// Its type.
    #[must_use]
    pub fn msg_type(&self) -> MsgType {
        self.message().head().msg_type
    }

    /// Its payload.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        self.message().payload()
    }

    /// Its key.
    #[must_use]
    pub fn key(&self) -> Option<u64> {
        self.0.encoded.key
    }

    /// The value of its first header with this name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers().find_map(|(its, value)| (its == name).then_some(value))
    }

    /// Names and values of its headers.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.encoded.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    pub(super) fn topic_id(&self) -> u64 {
        self.0.topic_id
    }

    pub(super) fn topic_name(&self) -> &Arc<str> {
        &self.0.topic
    }

    /// Its message, encoded.
    pub(super) fn message(&self) -> &Prepared {
        &self.0.encoded.message
    }

    pub(super) fn header_list(&self) -> &Headers {
        &self.0.encoded.headers
    }

    /// Bytes of memory that it takes.
    pub(super) fn memory(&self) -> usize {
        let headers = self.headers().map(|(name, value)| name.len() + value.len() + 48);
        PUBLICATION_BYTES + self.message().frame().len() + headers.sum::<usize>()
    }
}

impl fmt::Debug for Publication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publication")
            .field("topic", &self.topic())
            .field("position", &self.position())
            .field("bytes", &self.payload().len())
            .finish_non_exhaustive()
    }
}

const HEADERS_MAX: usize = 16;
const HEADER_BYTES_MAX: usize = 4096;
/// The publication itself, its message and what the allocator adds.
const PUBLICATION_BYTES: usize = 256;
