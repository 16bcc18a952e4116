//! The log: events and spans of `tracing`, handed to its subscriber inside the guard.
//!
//! A subscriber is code of the application: it may panic, or send on a connection. The macros are
//! those of `tracing`, which this crate does not call directly.

mod limit;
mod span;

use std::net::SocketAddr;
use tracing::field::DisplayValue;

pub(crate) use limit::{INTERVAL, LogLimits, LogLine, REPORT_AFTER, log_limited};
pub(crate) use span::{ConnectionSpan, wants_spans};

/// The field `peer` of an event or a span: an address, or none for a peer that has none, as on a Unix
/// socket.
pub(crate) fn peer_field(address: Option<SocketAddr>) -> Option<DisplayValue<SocketAddr>> {
    address.map(tracing::field::display)
}

/// An event of `tracing`, if it may be wanted.
macro_rules! event {
    ($level:ident, $($event:tt)+) => {
        // The subscriber is not asked here: this is a number in memory.
        if ::tracing::Level::$level <= ::tracing::level_filters::LevelFilter::current() {
            $crate::foreign::submit(|| ::tracing::event!(::tracing::Level::$level, $($event)+));
        }
    };
}

macro_rules! error_ {
    ($($event:tt)+) => { $crate::foreign::log::event!(ERROR, $($event)+) };
}

// `warn` is the name of an attribute, too.
macro_rules! warn_ {
    ($($event:tt)+) => { $crate::foreign::log::event!(WARN, $($event)+) };
}

macro_rules! info_ {
    ($($event:tt)+) => { $crate::foreign::log::event!(INFO, $($event)+) };
}

macro_rules! debug_ {
    ($($event:tt)+) => { $crate::foreign::log::event!(DEBUG, $($event)+) };
}

macro_rules! trace_ {
    ($($event:tt)+) => { $crate::foreign::log::event!(TRACE, $($event)+) };
}

pub(crate) use {
    debug_ as debug, error_ as error, event, info_ as info, trace_ as trace, warn_ as warn,
};
