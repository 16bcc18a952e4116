//! Following a topic of a server from a client, over any number of connections.
//!
//! Speaks the subprotocol of `picows pubsub`. Comes back with the position of the last message, so that
//! nothing is missing in silence.

use crate::client::{Connect, ConnectError};
use crate::foreign::StateCell;
use crate::listener::{Listener, ListenerResult};
use crate::messages::{MessageListener, Messages};
use crate::reconnect::Reconnect;
use crate::topics::Position;
use crate::transport::Transport;
use picows_uring_proto::{Message, MsgType};
use std::cell::Cell;
use std::fmt;
use std::rc::Rc;

/// A topic of a server that speaks the subprotocol `picows.pubsub.1`, as `picows pubsub` does, and how far a
/// client has come with it. Clones share that.
///
/// ```no_run
/// use picows_uring::{Follow, Followed};
///
/// picows_uring::run(async {
///     let follow = Follow::new("ws://127.0.0.1:9002/topic/news");
///     let reconnect = follow.reconnect();
///     follow
///         .run(reconnect, |_, event| {
///             match event {
///                 Followed::Message { payload, .. } => println!("{} bytes", payload.len()),
///                 // Publications are missing: the application gets its state elsewhere.
///                 Followed::Lost { position } => println!("begins again at {position}"),
///                 _ => {}
///             }
///             Ok(())
///         })
///         .await
/// })??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Follow(Rc<Course>);

struct Course {
    url: String,
    adjust: Box<dyn Fn(Connect) -> Connect>,
    position: Cell<Option<Position>>,
}

/// Something that happened to a client that follows a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Followed<'a> {
    /// The first connection is there. What is published behind this position follows.
    Began {
        /// The position of the last publication before.
        position: Position,
    },
    /// Another connection is there, and nothing is missing: so many publications that were missed follow,
    /// and then the new ones.
    Recovered {
        /// Publications.
        count: u64,
        /// The position of the last of them.
        position: Position,
    },
    /// Another connection is there, and publications are missing. What is published behind this position
    /// follows.
    Lost {
        /// The position of the last publication before.
        position: Position,
    },
    /// A publication.
    Message {
        /// Its position.
        position: Position,
        /// TEXT, with a payload of UTF-8, or BINARY.
        msg_type: MsgType,
        /// Its payload.
        payload: &'a [u8],
    },
}

impl Follow {
    /// The topic at a URL, such as `ws://127.0.0.1:9002/topic/news`, from now on. A subject with wildcards
    /// has no position to come back with.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        let (adjust, position) = (Box::new(|connect| connect), Cell::new(None));
        Self(Rc::new(Course { url: url.into(), adjust, position }))
    }

    /// The same, with settings for each connection, such as those of TLS or a header.
    #[must_use]
    pub fn with_settings(
        url: impl Into<String>,
        adjust: impl Fn(Connect) -> Connect + 'static,
    ) -> Self {
        let position = Cell::new(None);
        Self(Rc::new(Course { url: url.into(), adjust: Box::new(adjust), position }))
    }

    /// Begins behind a position, such as one that was stored.
    #[must_use]
    pub fn resume_from(self, position: Position) -> Self {
        self.0.position.set(Some(position));
        self
    }

    /// The position of the last message, or of the beginning; `None` before the first connection.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        self.0.position.get()
    }

    /// The next connection: with the subprotocol, and the position in its URL.
    pub fn connect(&self) -> Connect {
        let url = &self.0.url;
        let url = match self.position() {
            None => url.clone(),
            Some(position) => {
                let divider = if url.contains('?') { '&' } else { '?' };
                format!("{url}{divider}from={position}")
            }
        };
        (self.0.adjust)(Connect::new(url).subprotocol(SUBPROTOCOL))
    }

    /// Makes a [`connect`](Self::connect) each time, for [`run`](Self::run): settings of it are those of any
    /// other.
    pub fn reconnect(&self) -> Reconnect {
        let follow = self.clone();
        Reconnect::new(move || follow.connect())
    }

    /// Follows the topic, until `on_event` or another owner of its transport ends the connection. An error
    /// of `on_event` ends it as well, and is a reason to connect again; the message is not delivered again
    /// then.
    ///
    /// # Errors
    ///
    /// When there is no connection, and no sense in trying again.
    pub async fn run(
        &self,
        reconnect: Reconnect,
        on_event: impl FnMut(&Transport, Followed<'_>) -> ListenerResult + 'static,
    ) -> Result<(), ConnectError> {
        let on_event: Rc<Handler> = Rc::new(StateCell::new(Some(Box::new(on_event))));
        reconnect.run(move || self.listener_of(Rc::clone(&on_event))).await
    }

    /// A listener for one connection, made with [`connect`](Self::connect).
    pub fn listener(
        &self,
        on_event: impl FnMut(&Transport, Followed<'_>) -> ListenerResult + 'static,
    ) -> impl Listener + 'static {
        self.listener_of(Rc::new(StateCell::new(Some(Box::new(on_event)))))
    }

    fn listener_of(&self, on_event: Rc<Handler>) -> Messages<Follower> {
        let (course, is_first) = (Rc::clone(&self.0), true);
        Messages::new(Follower { course, on_event, is_first })
    }
}

impl fmt::Debug for Follow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A URL may have a token in it.
        f.debug_struct("Follow").field("position", &self.position()).finish_non_exhaustive()
    }
}

type OnEvent = dyn FnMut(&Transport, Followed<'_>) -> ListenerResult;
/// Outlives its connections. Empty while it runs.
type Handler = StateCell<Option<Box<OnEvent>>>;

/// The listener of one connection.
struct Follower {
    course: Rc<Course>,
    on_event: Rc<Handler>,
    /// The first message says where the subscription begins.
    is_first: bool,
}

/// Puts the handler back, also behind a panic.
struct Taken<'a>(&'a Handler, Option<Box<OnEvent>>);

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        drop(self.0.replace(self.1.take()));
    }
}

impl Follower {
    fn event<'a>(
        &mut self,
        msg_type: MsgType,
        text: Option<&'a str>,
        payload: &'a [u8],
    ) -> Result<Followed<'a>, &'static str> {
        if std::mem::take(&mut self.is_first) {
            return self.begin(text.ok_or("the first message is not text")?);
        }
        let (position, payload) = split(text, payload).ok_or("a message has no position")?;
        self.course.position.set(Some(position));
        Ok(Followed::Message { position, msg_type, payload })
    }

    fn begin(&self, text: &str) -> Result<Followed<'static>, &'static str> {
        let position = field(text, "position").and_then(|it| it.parse().ok());
        let position: Position = position.ok_or("the first message has no position")?;
        let known = &self.course.position;
        if field(text, "lost") == Some("true") {
            known.set(Some(position));
            return Ok(Followed::Lost { position });
        }
        if known.get().is_none() {
            known.set(Some(position));
            return Ok(Followed::Began { position });
        }
        let count = field(text, "recovered").and_then(|it| it.parse().ok());
        let count = count.ok_or("the first message says neither `lost` nor `recovered`")?;
        Ok(Followed::Recovered { count, position })
    }
}

impl MessageListener for Follower {
    fn on_connected(&mut self, transport: &Transport) -> ListenerResult {
        if transport.subprotocol() == Some(SUBPROTOCOL) {
            return Ok(());
        }
        Err("the server does not speak the subprotocol picows.pubsub.1".into())
    }

    fn on_message(&mut self, transport: &Transport, message: Message<'_>) -> ListenerResult {
        let event = self.event(message.msg_type(), message.text(), message.payload())?;
        let mut taken = Taken(&self.on_event, self.on_event.take());
        match &mut taken.1 {
            Some(on_event) => on_event(transport, event),
            None => Ok(()),
        }
    }
}

/// The position in front of a message, and the rest.
fn split<'a>(text: Option<&'a str>, payload: &'a [u8]) -> Option<(Position, &'a [u8])> {
    if let Some(text) = text {
        let (position, rest) = text.split_once(' ')?;
        return Some((position.parse().ok()?, rest.as_bytes()));
    }
    let (head, payload) = payload.split_at_checked(16)?;
    let (epoch, offset) = head.split_at(8);
    let epoch = u64::from_be_bytes(epoch.try_into().ok()?);
    Some((Position { epoch, offset: u64::from_be_bytes(offset.try_into().ok()?) }, payload))
}

/// A field of the first message, an object of JSON without nesting and escapes.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let fields = text.trim().strip_prefix('{')?.strip_suffix('}')?;
    // No value of it has a comma.
    fields.split(',').find_map(|field| {
        let (found, value) = field.split_once(':')?;
        let is_it = found.trim().trim_matches('"') == name;
        is_it.then(|| value.trim().trim_matches('"'))
    })
}

const SUBPROTOCOL: &str = "picows.pubsub.1";

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Position = Position { epoch: 10, offset: 31 };

    fn follower(follow: &Follow) -> Follower {
        let (course, on_event) = (Rc::clone(&follow.0), Rc::default());
        Follower { course, on_event, is_first: true }
    }

    #[test]
    fn the_first_message_says_where_it_begins() {
        let follow = Follow::new("ws://a/topic/b");
        let first = follower(&follow).begin(r#"{"recovered":0,"position":"a:1f"}"#);
        assert_eq!(first, Ok(Followed::Began { position: AT }));
        assert_eq!(follow.position(), Some(AT));
        let back = follower(&follow).begin(r#"{ "recovered" : 3, "position" : "a:22" }"#);
        let position = Position { epoch: 10, offset: 34 };
        assert_eq!(back, Ok(Followed::Recovered { count: 3, position }));
        assert_eq!(follow.position(), Some(AT), "what was missed is still to come");
        let lost = follower(&follow).begin(r#"{"lost":true,"position":"b:1"}"#);
        let position = Position { epoch: 11, offset: 1 };
        assert_eq!(lost, Ok(Followed::Lost { position }));
        assert_eq!(follow.position(), Some(position));
        for text in ["", "{}", "[]", r#"{"position":"x"}"#, r#"{"position":"a:1"}"#] {
            assert!(follower(&follow).begin(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_publication_is_no_beginning() {
        let follow = Follow::new("ws://a/topic/b");
        let mut binary = 10_u64.to_be_bytes().to_vec();
        binary.extend_from_slice(&31_u64.to_be_bytes());
        binary.push(0xFF);
        let mut early = follower(&follow);
        let refused = early.event(MsgType::Binary, None, &binary);
        assert_eq!(refused, Err("the first message is not text"));
        let mut in_order = follower(&follow);
        let begun = in_order.event(MsgType::Text, Some(r#"{"lost":true,"position":"a:1e"}"#), b"");
        assert!(matches!(begun, Ok(Followed::Lost { .. })));
        let (msg_type, payload) = (MsgType::Binary, &binary[16..]);
        let message = Followed::Message { position: AT, msg_type, payload };
        assert_eq!(in_order.event(msg_type, None, &binary), Ok(message));
        assert_eq!(follow.position(), Some(AT));
    }

    #[test]
    fn a_handler_that_panics_is_there_for_the_next_connection() {
        let handler: Handler =
            StateCell::new(Some(Box::new(|_: &Transport, _: Followed<'_>| Ok(()))));
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _taken = Taken(&handler, handler.take());
            panic!("of the application");
        }));
        assert!(caught.is_err() && handler.take().is_some());
    }
}
