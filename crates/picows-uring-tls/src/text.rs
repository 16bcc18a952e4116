//! Texts for errors: names in certificates, dates, spans of time, bytes of a peer.

/// Issuer and subject of a certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Names {
    pub(crate) issuer: String,
    pub(crate) subject: String,
    /// Whether both are the same: the certificate is signed by its own key, or claims to be.
    pub(crate) is_self_issued: bool,
}

impl Names {
    /// Reads them from a certificate (RFC 5280 §4.1). What cannot be read is `unknown`.
    pub(crate) fn of(certificate: &[u8]) -> Self {
        names(certificate).unwrap_or_else(|| Self {
            issuer: "unknown".into(),
            subject: "unknown".into(),
            is_self_issued: false,
        })
    }
}

fn names(certificate: &[u8]) -> Option<Names> {
    let (_, certificate, _) = element(certificate)?;
    let (_, mut fields, _) = element(certificate)?;
    // The version is optional, in a context tag.
    if fields.first() == Some(&0xa0) {
        fields = element(fields)?.2;
    }
    let (_, _serial, rest) = element(fields)?;
    let (_, _algorithm, rest) = element(rest)?;
    let (_, issuer, rest) = element(rest)?;
    let (_, _validity, rest) = element(rest)?;
    let (_, subject, _) = element(rest)?;
    Some(Names {
        issuer: distinguished(issuer),
        subject: distinguished(subject),
        is_self_issued: issuer == subject && !issuer.is_empty(),
    })
}

/// Splits the first element of DER from what follows: tag, content, rest.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, first], rest) = der.split_first_chunk()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81 => (usize::from(*rest.first()?), &rest[1..]),
        0x82 => {
            let (&length, rest) = rest.split_first_chunk()?;
            (usize::from(u16::from_be_bytes(length)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// Returns a distinguished name as `CN=…, O=…`. Attributes without a short name are left out.
fn distinguished(mut sets: &[u8]) -> String {
    let mut parts = Vec::new();
    while let Some((_, set, rest)) = element(sets) {
        sets = rest;
        let attribute = element(set).and_then(|(_, attribute, _)| {
            let (_, kind, rest) = element(attribute)?;
            let (_, value, _) = element(rest)?;
            let kind = match kind {
                [0x55, 4, 3] => "CN",
                [0x55, 4, 6] => "C",
                [0x55, 4, 10] => "O",
                [0x55, 4, 11] => "OU",
                _ => return None,
            };
            Some(format!("{kind}={}", shown(value)))
        });
        parts.extend(attribute);
    }
    if parts.is_empty() { "a name without text".into() } else { parts.join(", ") }
}

/// Returns bytes of a peer for a line of a log: at most 64, control characters escaped.
pub(crate) fn shown(bytes: &[u8]) -> String {
    const SHOWN_BYTES_MAX: usize = 64;
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(SHOWN_BYTES_MAX)]);
    let mut shown: String = text.escape_debug().collect();
    if bytes.len() > SHOWN_BYTES_MAX {
        shown.push('…');
    }
    shown
}

/// Returns seconds since 1970 as a date and a time of day.
pub(crate) fn date(unix_seconds: u64) -> String {
    let (days, second) = (unix_seconds / 86_400, unix_seconds % 86_400);
    // Years that begin in March, so that the leap day is the last of its year; eras of 400 years.
    let day = days + 719_468;
    let (era, day) = (day / 146_097, day % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year}-{month:02}-{day_of_month:02} {hour:02}:{minute:02}:{second:02} UTC")
}

/// Returns a span of time in its largest unit.
pub(crate) fn span(seconds: u64) -> String {
    let (count, unit) = match seconds {
        0..120 => (seconds, "second"),
        120..7_200 => (seconds / 60, "minute"),
        7_200..172_800 => (seconds / 3_600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests;
