//! Validation of settings, for servers and clients alike.
//!
//! Corrects nothing: a setting that was clamped in silence would be looked for where it shows.

use super::{Config, QueuePolicy};
use picows_uring_proto::HEAD_BYTES_CEILING;
use std::time::Duration;

/// A setting that makes no sense, or contradicts another.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct WrongSetting {
    /// The setting, by the name of its builder method.
    pub(crate) setting: &'static str,
    /// What is wrong with it, with the value, and what to do instead.
    pub(crate) fault: String,
}

impl WrongSetting {
    pub(crate) fn new(setting: &'static str, fault: impl Into<String>) -> Self {
        Self { setting, fault: fault.into() }
    }
}

type Checked = Result<(), WrongSetting>;

fn wrong(setting: &'static str, fault: impl Into<String>) -> Checked {
    Err(WrongSetting::new(setting, fault))
}

impl Config {
    /// Checks that the settings make sense, each and together. The defaults do.
    ///
    /// # Errors
    ///
    /// The first that does not.
    pub(crate) fn check(&self) -> Result<(), WrongSetting> {
        self.check_admission()?;
        self.check_handshake()?;
        self.check_frames()?;
        #[cfg(feature = "deflate")]
        self.check_deflate()?;
        self.check_liveness()?;
        self.check_progress()?;
        self.check_queue()
    }

    fn check_admission(&self) -> Checked {
        for (setting, limit) in [
            ("max_connections", self.connections_max),
            ("max_per_address", self.connections_per_address_max),
            ("max_handshakes", self.handshakes_max),
        ] {
            if limit == Some(0) {
                return wrong(setting, "0 lets no client in: use 1 or more, or None");
            }
        }
        if self.memory.limit() == Some(0) {
            return wrong("memory_limit", "0 lets nothing be held: use some MiB, or None");
        }
        Ok(())
    }

    fn check_handshake(&self) -> Checked {
        let (bytes, lines) = (self.head.head_bytes_max, self.head.headers_max);
        if bytes == 0 {
            return wrong("max_header_size", "0 lets no client in: use a few KiB");
        }
        if bytes > HEAD_BYTES_CEILING {
            let fault = format!("{bytes} is more than {HEAD_BYTES_CEILING}: use that or less");
            return wrong("max_header_size", fault);
        }
        if lines == 0 {
            return wrong("max_headers", "0 lets no client in: use a few dozen");
        }
        if self.conversation.handshake_timeout == Some(Duration::ZERO) {
            return wrong("handshake_timeout", "0 leaves no time at all: use None for no limit");
        }
        Ok(())
    }

    fn check_frames(&self) -> Checked {
        let bits = self.frames.rsv_allowed;
        if bits > 7 {
            let fault = format!("{bits} is more than 7: use a sum of 4 (RSV1), 2 (RSV2), 1 (RSV3)");
            return wrong("allow_rsv", fault);
        }
        if self.frames.any_order && self.frames.validate_text {
            let fault = "validate_text has to know where messages begin: use one of them";
            return wrong("any_order", fault);
        }
        if self.frames.any_order && self.queue_policy == QueuePolicy::DropOldest {
            let fault = "QueuePolicy::DropOldest drops whole messages and has to know where they begin: \
                         use another policy";
            return wrong("any_order", fault);
        }
        Ok(())
    }

    #[cfg(feature = "deflate")]
    fn check_deflate(&self) -> Checked {
        let Some(deflate) = &self.deflate else { return Ok(()) };
        if let Err((setting, fault)) = deflate.check() {
            return wrong("deflate", format!("{setting} {fault}"));
        }
        if self.frames.rsv_allowed & 4 != 0 {
            return wrong("allow_rsv", "4 (RSV1) belongs to deflate: leave it out, or deflate");
        }
        if self.frames.any_order {
            let fault = "deflate has to know where messages begin: use one of them";
            return wrong("any_order", fault);
        }
        Ok(())
    }

    fn check_liveness(&self) -> Checked {
        self.liveness.check().map_err(|(field, fault)| {
            let setting = if field == "lifetime" { "max_lifetime" } else { field };
            WrongSetting::new(setting, fault)
        })?;
        let jitter = self.lifetime_jitter;
        if !(0.0..=1.0).contains(&jitter) {
            return wrong("max_lifetime", format!("jitter {jitter}: use 0.0 to 1.0"));
        }
        Ok(())
    }

    fn check_progress(&self) -> Checked {
        for (setting, limit) in [
            ("message_timeout", self.progress.message_timeout),
            ("write_stall_timeout", self.progress.write_stall_timeout),
        ] {
            if limit == Some(Duration::ZERO) {
                return wrong(setting, "0 leaves no time at all: use None for no limit");
            }
        }
        Ok(())
    }

    fn check_queue(&self) -> Checked {
        let (high, low) = (self.high_watermark, self.low_watermark);
        let max = self.queue_bytes_max;
        check_watermarks(high, low)?;
        if max == 0 {
            return wrong("max_queue_size", "0 lets nothing be sent: use 1 or more");
        }
        if max < high {
            let fault = format!(
                "{max} is below the high watermark {high}: use that or more, or lower it with \
                 write_watermarks"
            );
            return wrong("max_queue_size", fault);
        }
        Ok(())
    }
}

/// Whether watermarks make sense together.
pub(crate) fn check_watermarks(high: usize, low: usize) -> Checked {
    if low > high {
        let fault = format!("low {low} is above high {high}: give the high one first");
        return wrong("write_watermarks", fault);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_make_sense() {
        assert_eq!(Config::default().check(), Ok(()));
    }

    #[test]
    fn the_ends_of_what_is_allowed_are_allowed() {
        let mut config = Config::default();
        (config.high_watermark, config.low_watermark, config.queue_bytes_max) = (1, 1, 1);
        config.queue_policy = QueuePolicy::DropOldest;
        config.frames.rsv_allowed = 7;
        config.frames.payload_bytes_max = 0;
        config.head.head_bytes_max = HEAD_BYTES_CEILING;
        config.head.headers_max = 1;
        config.conversation.handshake_timeout = None;
        config.conversation.close_timeout = Duration::ZERO;
        for jitter in [0.0, 1.0] {
            config.lifetime_jitter = jitter;
            assert_eq!(config.check(), Ok(()));
        }
        (config.high_watermark, config.low_watermark) = (0, 0);
        assert_eq!(config.check(), Ok(()), "one that is told of every byte");
    }
}
