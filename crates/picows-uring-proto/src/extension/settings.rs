//! Settings of permessage-deflate, and what two ends have agreed on.
//!
//! Values only: `handshake/extensions.rs` negotiates them.

/// Settings of permessage-deflate (RFC 7692), the same type for clients and servers.
///
/// ```
/// use picows_uring_proto::Deflate;
///
/// let deflate = Deflate::new().level(1).window_bits(11);
/// assert_eq!(deflate.check(), Ok(()));
/// assert_eq!(Deflate::new().level(0).check().unwrap_err().0, "level");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deflate {
    pub(crate) level: u8,
    pub(crate) memory_level: u8,
    pub(crate) window_bits: u8,
    pub(crate) peer_window_bits: Option<u8>,
    pub(crate) context_takeover: bool,
    pub(crate) peer_context_takeover: bool,
    pub(crate) threshold: Option<usize>,
    pub(crate) compress: bool,
    pub(crate) ratio_max: Option<u32>,
    pub(crate) bare_offer: bool,
}

impl Deflate {
    /// The defaults: level 4, memory level 5, windows of 12 bits on a server, context takeover both
    /// ways.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            level: 4,
            memory_level: 5,
            window_bits: WINDOW_BITS_DEFAULT,
            peer_window_bits: None,
            context_takeover: true,
            peer_context_takeover: true,
            threshold: None,
            compress: true,
            ratio_max: None,
            bare_offer: false,
        }
    }

    /// How hard we compress, 1 to 9, for the life of a connection. 1 is the fastest by far for messages
    /// of about 100 bytes with context takeover; for longer ones, each level from 2 on takes a little
    /// more time for a few percent fewer bytes. Default: 4.
    #[must_use]
    pub const fn level(mut self, level: u8) -> Self {
        self.level = level;
        self
    }

    /// Memory of a compressor beside its window, 1 to 9; below 4 the ratio suffers, and the peer
    /// takes longer to expand. Default: 5.
    #[must_use]
    pub const fn memory_level(mut self, level: u8) -> Self {
        self.memory_level = level;
        self
    }

    /// Window of what we send, 8 to 15: 2 to the power of it are the bytes of history that a message
    /// may refer to. A peer may ask for a smaller one. With 8, no message refers to anything, as the
    /// compressor has no window that small. Default: 12.
    #[must_use]
    pub const fn window_bits(mut self, bits: u8) -> Self {
        self.window_bits = bits;
        self
    }

    /// Window of what we receive, 8 to 15. A server asks for it where the client allows that; by
    /// default for 12. A client asks for none by default, as some servers refuse an offer that does.
    #[must_use]
    pub const fn peer_window_bits(mut self, bits: u8) -> Self {
        self.peer_window_bits = Some(bits);
        self
    }

    /// Whether our messages refer to earlier ones of ours. Without, each message is compressed by
    /// itself: no history is kept, and small messages hardly shrink. Default: on.
    #[must_use]
    pub const fn context_takeover(mut self, takeover: bool) -> Self {
        self.context_takeover = takeover;
        self
    }

    /// Whether messages of the peer may refer to earlier ones of the peer; off, we ask it for that.
    /// Default: on.
    #[must_use]
    pub const fn peer_context_takeover(mut self, takeover: bool) -> Self {
        self.peer_context_takeover = takeover;
        self
    }

    /// Bytes of a message below which it is sent as it is. Default: 64 with context takeover, 1024
    /// without.
    #[must_use]
    pub const fn threshold(mut self, bytes: usize) -> Self {
        self.threshold = Some(bytes);
        self
    }

    /// Whether messages are compressed whose head does not say
    /// ([`FrameHead::compressed`](crate::FrameHead::compressed)). Default: on.
    #[must_use]
    pub const fn compress(mut self, compress: bool) -> Self {
        self.compress = compress;
        self
    }

    /// How many bytes one received byte may expand to, over a message that has passed 64 KiB;
    /// `None` for no limit but that of frames and messages. Deflate itself reaches about 1030.
    /// Default: `None`.
    #[must_use]
    pub const fn ratio_max(mut self, ratio: Option<u32>) -> Self {
        self.ratio_max = ratio;
        self
    }

    /// Has a client offer `permessage-deflate` without parameters, for servers that refuse any.
    /// Default: off.
    #[must_use]
    pub const fn bare_offer(mut self, bare: bool) -> Self {
        self.bare_offer = bare;
        self
    }

    /// Checks that the settings make sense.
    ///
    /// # Errors
    ///
    /// The name of the first one that does not, and what is wrong with it.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        let levels = [("level", self.level), ("memory_level", self.memory_level)];
        for (setting, level) in levels {
            if !(1..=9).contains(&level) {
                return Err((setting, format!("{level}: use 1 to 9")));
            }
        }
        let windows =
            [("window_bits", Some(self.window_bits)), ("peer_window_bits", self.peer_window_bits)];
        for (setting, bits) in windows {
            if let Some(bits) = bits.filter(|bits| !WINDOW_BITS.contains(bits)) {
                return Err((setting, format!("{bits}: use 8 to 15")));
            }
        }
        if self.ratio_max == Some(0) {
            return Err(("ratio_max", "0 lets nothing be expanded: use 1 or more, or None".into()));
        }
        Ok(())
    }
}

impl Default for Deflate {
    fn default() -> Self {
        Self::new()
    }
}

/// What two ends have agreed on, from the point of view of one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NegotiatedDeflate {
    /// Window of what we send, in bits.
    pub window_bits: u8,
    /// Window of what we receive, in bits.
    pub peer_window_bits: u8,
    /// Whether our messages refer to earlier ones.
    pub context_takeover: bool,
    /// Whether those of the peer may.
    pub peer_context_takeover: bool,
}

/// Windows that RFC 7692 §7.1.2 allows.
pub(crate) const WINDOW_BITS: std::ops::RangeInclusive<u8> = 8..=15;
/// The window where nothing is said of it (RFC 7692 §7.1.2).
pub(crate) const WINDOW_BITS_MAX: u8 = 15;
/// 4 KiB of history: about 3 % more bytes than with 32 KiB, for an eighth of the memory.
pub(crate) const WINDOW_BITS_DEFAULT: u8 = 12;
