//! Sizes and durations on the command line, written for people.

use bytesize::ByteSize;
use std::time::Duration;

/// A size such as `4096`, `64KiB`, `10MiB` or `1MB`.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    match text.parse::<ByteSize>() {
        Ok(size) => Ok(size.as_u64()),
        Err(_) => Err("write a size such as 4096, 64KiB, 10MiB or 1MB".to_owned()),
    }
}

/// A duration such as `2s`, `500ms`, `50us` or `1m30s`; a bare number means seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse::<u64>() {
        return Ok(Duration::from_secs(seconds));
    }
    humantime::parse_duration(text)
        .map_err(|_| "write a duration such as 2s, 500ms, 50us or 1m30s".to_owned())
}

/// A duration that is not zero.
pub(crate) fn positive_duration(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("it has to be more than zero".to_owned()),
        duration => Ok(duration),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("64KiB", 65_536),
            ("64 KiB", 65_536),
            ("10MiB", 10 << 20),
            ("1MB", 1_000_000),
            ("1GiB", 1 << 30),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "-1", "KiB", "64 apples"] {
            assert!(size(text).unwrap_err().contains("64KiB"), "{text}");
        }
    }

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, nanos) in [
            ("2", 2_000_000_000),
            ("2s", 2_000_000_000),
            ("500ms", 500_000_000),
            ("50us", 50_000),
            ("1m30s", 90_000_000_000),
            ("0", 0),
        ] {
            assert_eq!(duration(text).map(|it| it.as_nanos()), Ok(nanos), "{text}");
        }
        for text in ["", "-1s", "soon", "5 parsecs"] {
            assert!(duration(text).unwrap_err().contains("500ms"), "{text}");
        }
        assert!(positive_duration("0s").is_err());
    }
}
