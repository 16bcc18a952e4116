//! One client of the server: a subscription, and what it sends.

use super::Settings;
use super::request::Wish;
use super::rights::Right;
use super::wire::first_message;
use picows_uring::topics::{Post, Start, SubscribeOptions, TopicError};
use picows_uring::{CloseCode, ListenerError, ListenerResult, Message, MessageListener, Transport};
use std::sync::Arc;

/// The listener of one connection.
pub(super) struct Client {
    settings: Arc<Settings>,
    wish: Wish,
    right: Right,
}

impl Client {
    pub(super) fn new(settings: Arc<Settings>, wish: Wish, right: Right) -> Self {
        Self { settings, wish, right }
    }

    fn options(&self) -> SubscribeOptions {
        let start = match (self.wish.from, self.wish.last) {
            (Some(position), _) => Start::From(position),
            (None, Some(count @ 1..)) => Start::Last(count),
            (None, _) => Start::New,
        };
        let options = SubscribeOptions::new().policy(self.settings.policy).start(start);
        if !self.wish.has_positions {
            return options;
        }
        let (settings, is_pattern) = (&self.settings, self.wish.is_pattern);
        let format = if is_pattern { &settings.with_topics } else { &settings.with_positions };
        options.format(format.clone()).on_start(|transport, recovery| {
            transport.send_text(first_message(recovery));
        })
    }
}

impl MessageListener for Client {
    fn on_connected(&mut self, transport: &Transport) -> ListenerResult {
        let hub = &self.settings.hub;
        match hub.subscribe(transport, &self.wish.topic, self.options()) {
            Ok(subscription) => {
                subscription.keep();
                Ok(())
            }
            Err(error) => Err(refusal(&error)),
        }
    }

    fn on_message(&mut self, _: &Transport, message: Message<'_>) -> ListenerResult {
        if let Right::Subscribe(reason) = self.right {
            return Err(ListenerError::close(CloseCode::POLICY_VIOLATION, reason));
        }
        if self.wish.is_pattern {
            return Err(ListenerError::close(CloseCode::POLICY_VIOLATION, OF_PATTERN));
        }
        let post = Post::new(message.msg_type(), message.payload().to_vec());
        match self.settings.hub.publish(&self.wish.topic, post) {
            // Nodes that cannot be reached are counted, and readiness says so.
            Ok(_) | Err(TopicError::Bus(_)) => Ok(()),
            Err(error) => Err(refusal(&error)),
        }
    }
}

/// The CLOSE for what the hub refuses: a limit, which another time may be met.
fn refusal(error: &TopicError) -> ListenerError {
    ListenerError::close(CloseCode::TRY_AGAIN_LATER, error.to_string())
}

const OF_PATTERN: &str = "a subject with wildcards is no topic to publish to";
