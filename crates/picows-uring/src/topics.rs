//! Topics: publications to any number of connections, over all workers of a process and over buses.
//!
//! A [`Hub`] has topics, which listeners subscribe their connections to, and to which any thread
//! publishes. A publication is encoded once; each worker that has subscribers joins what a turn has
//! brought into one run of bytes, and queues a reference to it on each connection.
//!
//! - One order for each topic, the same for all subscribers. At most once.
//! - Nothing is missing in silence: a subscriber that is too slow is dealt with by its [`SlowPolicy`],
//!   and where publications were lost on their way, it is notified ([`SubscribeOptions::on_missed`])
//!   or closed.
//! - With a [`History`], a subscriber that comes back with its [`Position`] gets all that it has missed
//!   before anything new, or learns that this is lost; never a part of it.
//!
//! # Order
//!
//! On the worker of a connection, direct sends to it and publications leave in the order of the calls:
//! sent before, published, sent behind. Three things are not promised: an order between topics, one
//! between direct sends and publications of other threads, and that publications which
//! [`SlowPolicy::DropOldest`] or [`SlowPolicy::Latest`] hold back are not overtaken by direct sends.
//!
//! Two subscriptions of a connection that match the same topic get each publication twice, once each.

mod backlog;
mod bus;
mod desk;
mod error;
mod history;
mod history_memory;
mod hub;
mod inbox;
mod linger;
mod name;
mod options;
mod position;
mod post;
mod registry;
mod remote;
mod settings;
mod sub;
mod subscription;
mod topic;
mod work;

pub use bus::{Bus, BusMessage, BusMode, Inlet, LocalBus};
pub use error::{BusError, InvalidPosition, TopicError};
pub use history::History;
pub use hub::{Hub, HubStats};
pub use name::TopicName;
pub use options::{Conflate, Format, Missed, Recovery, SlowPolicy, Start, SubscribeOptions};
pub use position::Position;
pub use post::{Post, Publication};
pub use remote::RemoteSubscription;
pub use settings::{HubBuilder, TopicSettings};
pub use subscription::Subscription;
pub use topic::{Published, Topic};

#[cfg(test)]
mod tests;
