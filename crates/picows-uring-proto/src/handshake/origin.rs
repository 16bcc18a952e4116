//! `Origin`: the site whose script has opened a connection, and which of them may.
//!
//! Browsers send it and forbid scripts to change it; other clients send what they like, or nothing.

use super::UpgradeRequest;
use crate::debug_with_text;
use crate::escape::short;

/// The sites whose scripts may open connections, by the header `Origin` (RFC 6455 §10.2).
///
/// A request without `Origin` is no browser's, and every policy allows it: such a client has no
/// cookies of a user that it should not have.
///
/// ```
/// use picows_uring_proto::{HeadLimits, OriginPolicy, UpgradeRequest};
///
/// let wire = b"GET / HTTP/1.1\r\nHost: example.com\r\nOrigin: https://evil.example\r\n\r\n";
/// let (request, _) = UpgradeRequest::parse(wire, &HeadLimits::default())?.unwrap();
/// assert!(!OriginPolicy::SameHost.allows(&request));
/// let list = OriginPolicy::list(["https://example.com", "https://*.example.org"])?;
/// assert!(!list.allows(&request));
/// assert!(OriginPolicy::Any.allows(&request));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OriginPolicy {
    /// Every site, as is right for a service that does not know its users by cookies or by their
    /// network. The default.
    #[default]
    Any,
    /// The site itself: host and port of `Origin` are those that the request is for.
    SameHost,
    /// Those of a list.
    List(OriginList),
}

/// A list of origins; see [`OriginPolicy::list`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginList(Vec<Entry>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    scheme: String,
    /// In lower case; of a wildcard, what follows the star.
    host: String,
    is_wildcard: bool,
    port: Option<u16>,
}

/// A text is no origin.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} is no origin: write https://example.com, https://*.example.com or http://localhost:3000",
    short(text)
)]
pub struct InvalidOrigin {
    text: String,
}

debug_with_text! { InvalidOrigin }

impl OriginPolicy {
    /// Only these origins: `https://example.com`, with a port where it is not the usual one of the
    /// scheme. `https://*.example.com` is every name under it, and not itself.
    ///
    /// # Errors
    ///
    /// When one of them is none.
    pub fn list<S: AsRef<str>>(
        origins: impl IntoIterator<Item = S>,
    ) -> Result<Self, InvalidOrigin> {
        let entry = |text: S| {
            let text = text.as_ref();
            Entry::parse(text).ok_or_else(|| InvalidOrigin { text: text.to_owned() })
        };
        origins.into_iter().map(entry).collect::<Result<_, _>>().map(OriginList).map(Self::List)
    }

    /// Whether the site that `request` comes from may open a connection.
    #[must_use]
    pub fn allows(&self, request: &UpgradeRequest) -> bool {
        if *self == Self::Any {
            return true;
        }
        let mut origins = request.header_values("origin");
        let (Some(origin), more) = (origins.next(), origins.next()) else { return true };
        let parsed = str::from_utf8(origin).ok().and_then(Origin::parse);
        let (Some(origin), None) = (parsed, more) else { return false };
        match self {
            Self::Any => true,
            Self::SameHost => request.host().is_some_and(|host| origin.is_of(host)),
            Self::List(OriginList(entries)) => entries.iter().any(|entry| entry.allows(&origin)),
        }
    }
}

/// Scheme, host and port of an origin (RFC 6454 §6.2).
struct Origin<'a> {
    scheme: &'a str,
    host: &'a str,
    port: Option<u16>,
}

impl<'a> Origin<'a> {
    /// `null`, which sandboxed pages send, is none.
    fn parse(text: &'a str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let (host, port) = host_and_port(rest)?;
        let is_scheme_byte = |it: u8| it.is_ascii_alphanumeric() || b"+-.".contains(&it);
        let is_host_byte = |it: u8| it.is_ascii_alphanumeric() || b"-._:[]*".contains(&it);
        let is_valid = !scheme.is_empty() && scheme.bytes().all(is_scheme_byte);
        let is_valid = is_valid && !host.is_empty() && host.bytes().all(is_host_byte);
        is_valid.then_some(Self { scheme, host, port })
    }

    fn port(&self) -> Option<u16> {
        self.port.or_else(|| usual_port(self.scheme))
    }

    /// Whether it is the site of a request for `host`. Its port, where none is given, is the usual one
    /// of the origin's scheme: a proxy that ends TLS does not say which it was.
    fn is_of(&self, host: &str) -> bool {
        let Some((host, port)) = host_and_port(host) else { return false };
        self.host.eq_ignore_ascii_case(host)
            && self.port() == port.or_else(|| usual_port(self.scheme))
    }
}

impl Entry {
    fn parse(text: &str) -> Option<Self> {
        let Origin { scheme, host, port } = Origin::parse(text)?;
        let port = port.or_else(|| usual_port(scheme));
        let (scheme, host) = (scheme.to_ascii_lowercase(), host.to_ascii_lowercase());
        let wildcard = host.strip_prefix('*').filter(|rest| rest.starts_with('.'));
        let (host, is_wildcard) = wildcard.map_or((&*host, false), |rest| (rest, true));
        (!host.contains('*') && host != ".").then(|| {
            let host = host.to_owned();
            Self { scheme, host, is_wildcard, port }
        })
    }

    fn allows(&self, origin: &Origin<'_>) -> bool {
        let host = origin.host.to_ascii_lowercase();
        let is_host = if self.is_wildcard {
            host.len() > self.host.len() && host.ends_with(&self.host)
        } else {
            host == self.host
        };
        is_host && origin.scheme.eq_ignore_ascii_case(&self.scheme) && origin.port() == self.port
    }
}

/// A host, in brackets if it is an IPv6 address, and the port behind it.
fn host_and_port(text: &str) -> Option<(&str, Option<u16>)> {
    let end = text.rfind(']').map_or(0, |at| at + 1);
    match text[end..].find(':') {
        None => Some((text, None)),
        Some(colon) => {
            let (host, port) = (&text[..end + colon], &text[end + colon + 1..]);
            if port.is_empty() {
                return Some((host, None));
            }
            let is_plain = port.bytes().all(|it| it.is_ascii_digit());
            Some((host, Some(port.parse().ok().filter(|_| is_plain)?)))
        }
    }
}

fn usual_port(scheme: &str) -> Option<u16> {
    let is = |name: &str| scheme.eq_ignore_ascii_case(name);
    if is("http") || is("ws") {
        Some(80)
    } else if is("https") || is("wss") {
        Some(443)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handshake::HeadLimits;

    fn request(host: &str, headers: &str) -> UpgradeRequest {
        let wire = format!("GET / HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n");
        UpgradeRequest::parse(wire.as_bytes(), &HeadLimits::default()).unwrap().unwrap().0
    }

    fn is_same(host: &str, origin: &str) -> bool {
        OriginPolicy::SameHost.allows(&request(host, &format!("Origin: {origin}\r\n")))
    }

    #[test]
    fn the_same_host_in_any_spelling() {
        for (host, origin) in [
            ("example.com", "https://example.com"),
            ("example.com", "http://example.com"),
            ("Example.COM", "HTTPS://EXAMPLE.com"),
            ("example.com:443", "https://example.com"),
            ("example.com", "https://example.com:443"),
            ("example.com:", "http://example.com:80"),
            ("example.com:8080", "http://example.com:8080"),
            ("[::1]:8080", "http://[::1]:8080"),
            ("[::1]", "http://[::1]"),
        ] {
            assert!(is_same(host, origin), "{host} {origin}");
        }
    }

    #[test]
    fn another_host_is_another_site() {
        for (host, origin) in [
            ("example.com", "https://evil.example"),
            ("example.com", "https://example.com.evil.example"),
            ("example.com", "https://notexample.com"),
            ("example.com", "https://www.example.com"),
            ("example.com:8080", "http://example.com"),
            ("example.com:80", "https://example.com"),
            ("example.com", "http://example.com:8080"),
            ("example.com", "null"),
            ("example.com", ""),
            ("example.com", "example.com"),
            ("example.com", "https://"),
            ("example.com", "https://user@example.com"),
            ("example.com", "https://example.com/"),
            ("example.com", "https://example.com https://evil.example"),
            ("example.com", "https://example.com:x"),
            ("example.com", "https://example.com:+443"),
            ("example.com", "chrome-extension://example.com"),
            ("", "https://"),
        ] {
            let is_custom = origin.starts_with("chrome");
            // A scheme without a usual port is compared by what is given.
            assert_eq!(is_same(host, origin), is_custom, "{host} {origin}");
        }
    }

    #[test]
    fn two_origins_are_none() {
        let headers = "Origin: https://a\r\nOrigin: https://a\r\n";
        assert!(!OriginPolicy::SameHost.allows(&request("a", headers)));
        assert!(OriginPolicy::Any.allows(&request("a", headers)));
    }

    #[test]
    fn no_browser_sends_none() {
        let list = OriginPolicy::list(["https://a"]).unwrap();
        for policy in [OriginPolicy::Any, OriginPolicy::SameHost, list] {
            assert!(policy.allows(&request("a", "")), "{policy:?}");
        }
        assert_eq!(OriginPolicy::default(), OriginPolicy::Any);
    }

    #[test]
    fn lists_compare_scheme_host_and_port() {
        let list = ["https://a.example", "http://localhost:3000", "https://*.b.example"];
        let list = OriginPolicy::list(list).unwrap();
        for (origin, is_allowed) in [
            ("https://a.example", true),
            ("https://A.example:443", true),
            ("http://a.example", false),
            ("https://a.example:8443", false),
            ("https://x.a.example", false),
            ("http://localhost:3000", true),
            ("http://localhost", false),
            ("https://x.b.example", true),
            ("https://x.y.b.example", true),
            ("https://b.example", false),
            ("https://.b.example", false),
            ("https://xb.example", false),
            ("null", false),
        ] {
            let request = request("a.example", &format!("Origin: {origin}\r\n"));
            assert_eq!(list.allows(&request), is_allowed, "{origin}");
        }
    }

    #[test]
    fn what_is_no_origin_is_named() {
        for text in ["example.com", "https://", "https://a/b", "https://*", "https://a.*.b", "null"]
        {
            let error = OriginPolicy::list([text]).unwrap_err();
            assert!(error.to_string().contains(text), "{error}");
        }
    }
}
