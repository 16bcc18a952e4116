//! permessage-deflate (RFC 7692): settings, the history of each direction, and its two halves.
//!
//! [`Expansion`] is called by the receiver, [`Compression`] by the sender; what is agreed on is
//! decided in `handshake/extensions.rs`. A connection keeps its history only, at most a window of
//! plaintext; the states of the algorithm are in `deflate.rs`, and shared by connections. All but the
//! settings is there with the feature `deflate` only.

#[cfg(feature = "deflate")]
mod codes;
#[cfg(feature = "deflate")]
mod compression;
#[cfg(feature = "deflate")]
mod deflate;
#[cfg(feature = "deflate")]
mod expansion;
#[cfg(feature = "deflate")]
mod history;
mod settings;
#[cfg(feature = "deflate")]
mod short;
#[cfg(feature = "libdeflate")]
mod whole;

#[cfg(feature = "deflate")]
pub use compression::{Compressed, Compression, compress_once};
#[cfg(feature = "deflate")]
pub use deflate::{Deflaters, Inflaters};
#[cfg(feature = "deflate")]
pub use expansion::{Expanded, Expansion};
pub use settings::{Deflate, NegotiatedDeflate};
pub(crate) use settings::{WINDOW_BITS, WINDOW_BITS_DEFAULT, WINDOW_BITS_MAX};

#[cfg(test)]
#[cfg(feature = "deflate")]
mod tests;
