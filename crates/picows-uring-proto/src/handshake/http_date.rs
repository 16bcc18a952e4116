//! Dates of HTTP (RFC 9110 §5.6.7): read in their three forms, and written in the one that is sent.
//!
//! Reads no clock and no time zone: a date of HTTP is always in GMT.

/// Reads a date, as seconds since 1970; `None` for anything else, a day that no month has and years
/// before that included.
pub(super) fn parse(value: &[u8]) -> Option<u64> {
    let text = str::from_utf8(value).ok()?.trim();
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    let (day, month, year, time) = match words[..] {
        // IMF-fixdate, Sun, 06 Nov 1994 08:49:37 GMT; and asctime, Sun Nov  6 08:49:37 1994.
        [_, day, month, year, time, "GMT" | "UTC"] | [_, month, day, time, year] => {
            (day, month, full_year(year)?, time)
        }
        // RFC 850: Sunday, 06-Nov-94 08:49:37 GMT
        [_, date, time, "GMT" | "UTC"] => {
            let mut parts = date.splitn(3, '-');
            let (day, month, year) = (parts.next()?, parts.next()?, parts.next()?);
            (day, month, short_year(year)?, time)
        }
        _ => return None,
    };
    let days = days_since_1970(year, month_number(month)?, number(day, 2)?)?;
    Some(days * 86_400 + second_of_day(time)?)
}

/// Writes a date of seconds since 1970, such as `Sun, 06 Nov 1994 08:49:37 GMT`; of years beyond 9999, which
/// the form has no room for, the last second before them.
pub fn format(seconds: u64) -> String {
    let seconds = seconds.min(SECONDS_MAX);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let mut year = 1970 + days / 366;
    // At most a few years too early: one has no more than 366 days.
    while days_before(year + 1) <= days {
        year += 1;
    }
    let mut day = days - days_before(year);
    let mut month = 1;
    while day >= days_in(year, month) {
        day -= days_in(year, month);
        month += 1;
    }
    let weekday = WEEKDAYS[(days % 7) as usize];
    let month = MONTHS[month as usize - 1];
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{weekday}, {:02} {month} {year} {hour:02}:{minute:02}:{second:02} GMT", day + 1)
}

fn number(text: &str, digits_max: usize) -> Option<u64> {
    let is_number = !text.is_empty()
        && text.len() <= digits_max
        && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { text.parse().ok() } else { None }
}

fn full_year(text: &str) -> Option<u64> {
    number(text, 4).filter(|_| text.len() == 4)
}

/// Without a clock the century is a convention: that of POSIX, as the form is older than 2000.
fn short_year(text: &str) -> Option<u64> {
    let year = number(text, 2)?;
    Some(if year < 70 { 2000 + year } else { 1900 + year })
}

fn month_number(text: &str) -> Option<u64> {
    let at = MONTHS.iter().position(|month| month.eq_ignore_ascii_case(text))?;
    Some(at as u64 + 1)
}

fn second_of_day(text: &str) -> Option<u64> {
    let mut parts = text.splitn(3, ':').map(|part| number(part, 2));
    let (hour, minute, second) = (parts.next()??, parts.next()??, parts.next()??);
    // 60 is a leap second.
    (hour < 24 && minute < 60 && second <= 60).then_some((hour * 60 + minute) * 60 + second)
}

fn days_since_1970(year: u64, month: u64, day: u64) -> Option<u64> {
    if year < 1970 || !(1..=days_in(year, month)).contains(&day) {
        return None;
    }
    let months: u64 = (1..month).map(|month| days_in(year, month)).sum();
    Some(days_before(year) + months + day - 1)
}

/// Days from 1970 to the beginning of a year.
fn days_before(year: u64) -> u64 {
    // Leap days up to the end of a year: every fourth, but for centuries that 400 does not divide.
    let leap_days = |year: u64| year / 4 - year / 100 + year / 400;
    (year - 1970) * 365 + leap_days(year - 1) - leap_days(1969)
}

fn days_in(year: u64, month: u64) -> u64 {
    let is_leap = (year.is_multiple_of(4) && !year.is_multiple_of(100)) || year.is_multiple_of(400);
    match month {
        2 if is_leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
/// The first of January 1970 was a Thursday.
const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
/// The end of 9999.
const SECONDS_MAX: u64 = 253_402_300_799;

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(text: &str) -> Option<u64> {
        parse(text.as_bytes())
    }

    #[test]
    fn all_three_forms_are_read_rfc9110_5_6_7() {
        for text in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
        ] {
            assert_eq!(seconds(text), Some(784_111_777), "{text}");
        }
    }

    #[test]
    fn days_are_counted_through_leap_years() {
        for (text, wanted) in [
            ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
            ("Tue, 29 Feb 2000 00:00:00 GMT", 951_782_400),
            ("Wed, 01 Mar 2000 00:00:00 GMT", 951_868_800),
            ("Mon, 01 Mar 2100 00:00:00 GMT", 4_107_542_400),
            ("Sat, 28 Nov 2026 23:59:60 GMT", 1_795_910_400),
            ("Fri, 31 Dec 9999 23:59:59 GMT", 253_402_300_799),
        ] {
            assert_eq!(seconds(text), Some(wanted), "{text}");
        }
    }

    #[test]
    fn what_is_written_is_read_as_the_same_second() {
        for (at, text) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
            (SECONDS_MAX, "Fri, 31 Dec 9999 23:59:59 GMT"),
            (u64::MAX, "Fri, 31 Dec 9999 23:59:59 GMT"),
        ] {
            assert_eq!(format(at), text);
        }
        // Each day of eight centuries, at another second.
        for day in 0..292_194 {
            let at = day * 86_400 + day % 86_400;
            assert_eq!(seconds(&format(at)), Some(at), "{}", format(at));
        }
    }

    #[test]
    fn what_is_no_date_is_none() {
        for text in [
            "",
            "soon",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 06 Nov 1994 08:49:37 CET",
            "Sun, 06 Nov 94 08:49:37 GMT",
            "Sun, 00 Nov 1994 08:49:37 GMT",
            "Sun, 31 Nov 1994 08:49:37 GMT",
            "Mon, 29 Feb 2100 00:00:00 GMT",
            "Sun, 06 Nov 1969 08:49:37 GMT",
            "Sun, 06 Xxx 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 24:49:37 GMT",
            "Sun, 06 Nov 1994 08:49 GMT",
            "Sun, +6 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov 08:49:37 GMT",
        ] {
            assert_eq!(seconds(text), None, "{text}");
        }
        assert_eq!(parse(b"Sun, 06 Nov 1994 08:49:37 \xff"), None);
    }
}
