//! Parsers of sizes, durations and rates on the command line.

use bytesize::ByteSize;
use std::str::FromStr;
use std::time::Duration;

/// Parses a size such as `4096`, `64KiB`, `10MiB` or `1MB`.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    match text.parse::<ByteSize>() {
        Ok(size) => Ok(size.as_u64()),
        Err(_) => Err("write a size such as 4096, 64KiB, 10MiB or 1MB".to_owned()),
    }
}

/// Parses a duration such as `2s`, `500ms`, `50us` or `1m30s`; a bare number means seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let duration = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => humantime::parse_duration(text)
            .map_err(|_| "write a duration such as 2s, 500ms, 50us or 1m30s".to_owned())?,
    };
    if duration > DURATION_MAX {
        return Err("at most 366 days".to_owned());
    }
    Ok(duration)
}

/// Converts a limit of time, of which zero means no limit.
pub(crate) fn limit(time: Duration) -> Option<Duration> {
    Some(time).filter(|time| !time.is_zero())
}

/// Parses a duration that is not zero.
pub(crate) fn positive_duration(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("it has to be more than zero".to_owned()),
        duration => Ok(duration),
    }
}

/// Checks the length of the messages of a load.
pub(crate) fn message_size(bytes: u64) -> Result<usize, String> {
    match usize::try_from(bytes) {
        Ok(size) if size <= MESSAGE_BYTES_MAX => Ok(size),
        _ => Err(format!("--size {bytes}: at most {MESSAGE_BYTES_MAX} bytes")),
    }
}

/// Parses a spinning time: a duration with its unit, or `always`.
///
/// A bare number is refused: it would mean seconds, and was most likely meant in microseconds.
pub(crate) fn busy_poll(text: &str) -> Result<Duration, String> {
    match text {
        "always" => Ok(Duration::MAX),
        "0" => Ok(Duration::ZERO),
        _ if text.parse::<u64>().is_ok() => {
            Err(format!("a unit is missing: write {text}us, {text}ms, or always"))
        }
        _ => duration(text).map_err(|error| format!("{error}, or always")),
    }
}

/// Parses a count.
pub(crate) fn count<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| "write a number from 0, such as 100".to_owned())
}

/// Completes an address to listen on: a port alone is one of loopback, and `:PORT` one of all IPv4 addresses. A number
/// that is no port is completed, too, so that its fault is that of the port.
pub(crate) fn listen_address(text: &str) -> Result<String, String> {
    let is_port = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    Ok(match text.strip_prefix(':') {
        Some(port) if is_port(port) => format!("0.0.0.0:{port}"),
        None if is_port(text) => format!("127.0.0.1:{text}"),
        // The library refuses what is wrong, with the cure.
        _ => text.to_owned(),
    })
}

/// Parses messages per second: more than zero.
pub(crate) fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate.is_finite() && rate > 0.0 => Ok(rate),
        _ => Err("write a number of messages per second, such as 50000".to_owned()),
    }
}

/// Parses a header such as `Authorization: Bearer 1234`.
pub(crate) fn header(text: &str) -> Result<(String, String), String> {
    match text.split_once(':') {
        Some((name, value)) if !name.trim().is_empty() => {
            Ok((name.trim().to_owned(), value.trim().to_owned()))
        }
        _ => Err("write a header such as 'Origin: null'".to_owned()),
    }
}

/// Formats a time with a suitable unit.
pub(crate) fn time(micros: f64) -> String {
    match micros {
        ..1e3 => format!("{micros:.1} µs"),
        ..1e6 => format!("{:.2} ms", micros / 1e3),
        _ => format!("{:.2} s", micros / 1e6),
    }
}

/// Formats a number with separated thousands.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// Small enough for a few copies in memory.
const MESSAGE_BYTES_MAX: usize = 1 << 30;
/// Small enough for sums of durations not to overflow.
const DURATION_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

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
        assert!(duration("9000000h").is_err());
        assert!(positive_duration("0s").is_err());
    }

    #[test]
    fn spinning_may_be_for_ever() {
        assert_eq!(busy_poll("always"), Ok(Duration::MAX));
        assert_eq!(busy_poll("50us"), Ok(Duration::from_micros(50)));
        assert_eq!(busy_poll("0"), Ok(Duration::ZERO));
        let error = "a unit is missing: write 50us, 50ms, or always";
        assert_eq!(busy_poll("50"), Err(error.to_owned()));
        assert!(busy_poll("never").unwrap_err().contains("always"));
    }

    #[test]
    fn numbers_are_written_for_people() {
        for (number, text) in
            [(0, "0"), (999, "999"), (1000, "1 000"), (1_234_567, "1 234 567"), (10_000, "10 000")]
        {
            assert_eq!(grouped(number), text);
        }
        for (micros, text) in [(8.25, "8.2 µs"), (1234.0, "1.23 ms"), (2_500_000.0, "2.50 s")] {
            assert_eq!(time(micros), text);
        }
    }

    #[test]
    fn a_port_is_an_address_to_listen_on() {
        for (text, address) in [
            ("9001", "127.0.0.1:9001"),
            (":9001", "0.0.0.0:9001"),
            (":0", "0.0.0.0:0"),
            ("[::1]:9001", "[::1]:9001"),
            ("localhost:9001", "localhost:9001"),
            ("unix:/run/a", "unix:/run/a"),
            ("65536", "127.0.0.1:65536"),
            (":65536", "0.0.0.0:65536"),
            (":", ":"),
            ("", ""),
            (":x", ":x"),
        ] {
            assert_eq!(listen_address(text).as_deref(), Ok(address));
        }
    }

    #[test]
    fn rates_are_positive_numbers() {
        assert_eq!(rate("50000"), Ok(50_000.0));
        assert_eq!(rate("0.5"), Ok(0.5));
        for text in ["0", "-1", "inf", "NaN", "fast", ""] {
            assert!(rate(text).unwrap_err().contains("messages per second"), "{text}");
        }
    }

    #[test]
    fn counts_are_whole_numbers() {
        assert_eq!(count::<u32>("0"), Ok(0));
        for text in ["-1", "1.5", "many", "", "4294967296"] {
            assert!(count::<u32>(text).unwrap_err().contains("from 0"), "{text}");
        }
    }

    #[test]
    fn headers_are_a_name_and_a_value() {
        let pair = |name: &str, value: &str| Ok((name.to_owned(), value.to_owned()));
        assert_eq!(header("X-A: b: c"), pair("X-A", "b: c"));
        assert_eq!(header("X-Empty:"), pair("X-Empty", ""));
        assert!(header("no colon").is_err());
        assert!(header(": no name").is_err());
    }
}
