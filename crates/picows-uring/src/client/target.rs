//! Target of a URL (RFC 6455 §3), and comparison of origins (RFC 6454).

use super::error::ConnectFault;
use crate::socket::url_port_fault;
use crate::unix_url::{self, FRAGMENT_FAULT, UnixUrl};
use picows_uring_proto::Escaped;
use picows_uring_proto::internal::SHOWN_BYTES_MAX;
use std::path::PathBuf;
use url::{Host, Url};

/// A URL that was understood.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// For a Unix socket, a stand-in with the path and query of the request.
    url: Url,
    pub(super) endpoint: Endpoint,
    pub(super) is_secure: bool,
}

/// The endpoint to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    Host {
        /// Name or address, as a resolver wants it: an IPv6 address without brackets.
        host: String,
        port: u16,
    },
    Unix(PathBuf),
}

impl Target {
    pub(super) fn parse(text: &str) -> Result<Self, ConnectFault> {
        let parsed = match unix_url::parse(text) {
            Some(unix) => unix.and_then(Self::of_unix),
            None => match Url::parse(text) {
                Ok(url) => Self::of(url),
                Err(_) if has_zone(text) => Err(ZONE_FAULT.to_owned()),
                Err(error) => {
                    let fault =
                        url_port_fault(text).map_or_else(|| error.to_string(), str::to_owned);
                    Err(format!("{fault}: write it as ws://host:port/path"))
                }
            },
        };
        parsed.map_err(ConnectFault::Url)
    }

    fn of_unix(unix: UnixUrl<'_>) -> Result<Self, String> {
        let scheme = if unix.is_secure { "wss" } else { "ws" };
        let url = Url::parse(&format!("{scheme}://{UNIX_STAND_IN}{}", unix.request_target));
        let target = Self::of(url.map_err(|error| error.to_string())?)?;
        Ok(Self { endpoint: Endpoint::Unix(unix.socket), ..target })
    }

    /// Adds pairs to the query, encoded as in a form.
    pub(super) fn add_query(&mut self, pairs: &[(String, String)]) {
        if !pairs.is_empty() {
            self.url.query_pairs_mut().extend_pairs(pairs);
        }
    }

    /// Where `location` leads, seen from here; never from wss to ws, and never to a Unix socket
    /// from elsewhere: a server has no say in which of this machine are spoken to.
    pub(super) fn redirect(&self, location: &str) -> Result<Self, String> {
        let mut url = self.url.join(location).map_err(|error| error.to_string())?;
        let scheme = match url.scheme() {
            "http" | "ws" => "ws",
            "https" | "wss" => "wss",
            other => return Err(format!("{}: it has to be ws or wss", scheme_shown(other))),
        };
        // http(s) and ws(s) are all special schemes, between which the change is allowed.
        let _ = url.set_scheme(scheme);
        url.set_fragment(None);
        let mut target = Self::of(url)?;
        if let Endpoint::Unix(_) = self.endpoint
            && target.url.origin() == self.url.origin()
        {
            target.endpoint = self.endpoint.clone();
        }
        if self.is_secure && !target.is_secure {
            return Err("it leads from wss to ws, which is not secure".to_owned());
        }
        Ok(target)
    }

    /// Whether `next` is the same scheme, host and port, or the same Unix socket; or the same host
    /// by `wss` instead of `ws`, both with their default ports, as where a server asks for TLS.
    pub(super) fn is_same_origin(&self, next: &Self) -> bool {
        match (&self.endpoint, &next.endpoint) {
            (Endpoint::Host { host, port: 80 }, Endpoint::Host { host: next_host, port: 443 })
                if !self.is_secure && next.is_secure =>
            {
                host == next_host
            }
            (Endpoint::Host { .. }, Endpoint::Host { .. }) => {
                self.url.origin() == next.url.origin()
            }
            (ours, theirs) => ours == theirs && self.is_secure == next.is_secure,
        }
    }

    fn of(url: Url) -> Result<Self, String> {
        let is_secure = match url.scheme() {
            "ws" => false,
            "wss" => true,
            other => {
                return Err(format!("{}: it has to be ws, wss or ws+unix", scheme_shown(other)));
            }
        };
        if url.fragment().is_some() {
            return Err(FRAGMENT_FAULT.to_owned());
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("it has a user name or password, which would not be sent: give an \
                        Authorization header instead"
                .to_owned());
        }
        let host = match url.host() {
            Some(Host::Domain(name)) if !name.is_empty() => name.to_owned(),
            Some(Host::Ipv4(address)) => address.to_string(),
            Some(Host::Ipv6(address)) => address.to_string(),
            _ => return Err("it names no host".to_owned()),
        };
        let port = url.port_or_known_default().unwrap_or(if is_secure { 443 } else { 80 });
        Ok(Self { endpoint: Endpoint::Host { host, port }, is_secure, url })
    }

    /// The value of the Host header: without the port where it is the scheme's own. `localhost` for
    /// a Unix socket, which has no name that a server could know.
    pub(super) fn host_header(&self) -> String {
        if let Endpoint::Unix(_) = self.endpoint {
            return "localhost".to_owned();
        }
        let host = self.url.host_str().unwrap_or_default();
        match self.url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        }
    }

    /// Path and query, as they stand in the request line.
    pub(super) fn request_target(&self) -> String {
        match self.url.query() {
            Some(query) => format!("{}?{query}", self.url.path()),
            None => self.url.path().to_owned(),
        }
    }
}

fn scheme_shown(scheme: &str) -> String {
    format!("the scheme is {}", Escaped::new(scheme).quoted().at_most(SHOWN_BYTES_MAX))
}

/// Whether an IPv6 address in brackets has a zone, which no URL may have any more (RFC 9844).
fn has_zone(text: &str) -> bool {
    let in_brackets = text.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
    in_brackets.is_some_and(|(address, _)| address.contains('%'))
}

const ZONE_FAULT: &str = "IPv6 zones, as in [fe80::1%25eth0], are not supported in URLs: use an \
                          address without one, or connect a socket and give it with `socket`";

/// The host of a URL that stands in for one of a Unix socket. No name may end so (RFC 6761 §6.4),
/// and one that does leads back to the same socket.
const UNIX_STAND_IN: &str = "unix-socket.invalid";

/// For `testing/fuzzing.rs`: a URL, and behind a line feed where it redirects to.
#[cfg(any(test, feature = "_fuzzing"))]
pub(crate) fn fuzz_url(text: &str) {
    let (url, location) = text.split_once('\n').unwrap_or((text, ""));
    let Ok(target) = Target::parse(url) else { return };
    fuzz_target(&target);
    if let Ok(next) = target.redirect(location) {
        assert!(next.is_secure || !target.is_secure, "never to less security");
        let is_unix = |target: &Target| matches!(target.endpoint, Endpoint::Unix(_));
        assert!(!is_unix(&next) || next.endpoint == target.endpoint, "never to another socket");
        if next.is_same_origin(&target) {
            assert_eq!(is_unix(&next), is_unix(&target));
        }
        fuzz_target(&next);
    }
}

/// What was understood of a URL can be asked for, and means the same when it is written out.
#[cfg(any(test, feature = "_fuzzing"))]
fn fuzz_target(target: &Target) {
    let (host, path) = (target.host_header(), target.request_target());
    assert!(path.starts_with('/'));
    match picows_uring_proto::ClientHandshake::new(&host, &path, [0; 16]) {
        // URLs allow some characters in a host that no name has: the caller gets an error then.
        Ok(_) | Err(picows_uring_proto::HandshakeMisuse::InvalidHost { .. }) => {}
        Err(error) => panic!("{target:?}: {error}"),
    }
    let start = match &target.endpoint {
        Endpoint::Host { host, .. } => {
            assert!(!host.is_empty());
            format!("ws://{host_header}", host_header = target.host_header())
        }
        Endpoint::Unix(socket) => format!("{}:", unix_url::Shown { scheme: "ws", path: socket }),
    };
    let start = if target.is_secure { start.replacen("ws", "wss", 1) } else { start };
    let again = Target::parse(&format!("{start}{path}")).expect("it is a URL");
    assert_eq!(again.endpoint, target.endpoint);
    assert_eq!((again.host_header(), again.request_target()), (host, path));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(text: &str) -> Target {
        Target::parse(text).unwrap()
    }

    fn at(host: &str, port: u16) -> Endpoint {
        Endpoint::Host { host: host.to_owned(), port }
    }

    #[test]
    fn reads_every_kind_of_host_rfc6455_3() {
        for (text, host, port, header) in [
            ("ws://example.com", "example.com", 80, "example.com"),
            ("ws://example.com:80/", "example.com", 80, "example.com"),
            ("ws://example.com:9001/", "example.com", 9001, "example.com:9001"),
            ("ws://127.0.0.1:9001/", "127.0.0.1", 9001, "127.0.0.1:9001"),
            ("ws://[::1]:9001/", "::1", 9001, "[::1]:9001"),
            ("wss://example.com/", "example.com", 443, "example.com"),
            ("ws://bücher.example/", "xn--bcher-kva.example", 80, "xn--bcher-kva.example"),
            ("WS://EXAMPLE.com/", "example.com", 80, "example.com"),
        ] {
            let target = target(text);
            assert_eq!(target.endpoint, at(host, port), "{text}");
            assert_eq!(target.host_header(), header, "{text}");
        }
    }

    #[test]
    fn keeps_path_and_query() {
        assert_eq!(target("ws://a").request_target(), "/");
        assert_eq!(target("ws://a/b/c?d=e&f").request_target(), "/b/c?d=e&f");
        assert_eq!(target("ws://a?x=ü").request_target(), "/?x=%C3%BC");
    }

    #[test]
    fn refuses_what_has_no_meaning() {
        for (text, word) in [
            ("http://a/", "ws, wss or ws+unix"),
            ("unix:/run/x.sock", "ws+unix"),
            ("ws+unix:", "ws+unix:/run/picows.sock"),
            ("ws+unix:/run/x.sock:/a#b", "fragment"),
            ("ws+unix:/run/x.sock#b", "fragment"),
            ("ws://[fe80::1%25eth0]:9001/", "zone"),
            ("ws://[fe80::1%eth0]/", "zone"),
            ("ws://a/#b", "fragment"),
            ("ws://user:password@a/", "Authorization"),
            ("ws://", "ws://host:port"),
            ("nonsense", "ws://host:port"),
            ("ws://a:99999/", "port"),
        ] {
            let error = Target::parse(text).unwrap_err().to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn follows_locations_but_never_to_less_security() {
        let from = target("ws://a.example:9001/x/y?z");
        for (location, host, port, request) in [
            ("/b", "a.example", 9001, "/b"),
            ("b?c", "a.example", 9001, "/x/b?c"),
            ("ws://b.example/", "b.example", 80, "/"),
            ("http://b.example/c", "b.example", 80, "/c"),
            ("https://b.example/c#d", "b.example", 443, "/c"),
        ] {
            let to = from.redirect(location).unwrap();
            assert_eq!(to.endpoint, at(host, port), "{location}");
            assert_eq!(to.request_target(), request, "{location}");
        }
        let secure = target("wss://a.example/");
        assert!(secure.redirect("ws://a.example/").unwrap_err().contains("secure"));
        assert!(secure.redirect("/b").unwrap().is_secure);
        assert!(from.redirect("ftp://b.example/").is_err());
    }
    #[test]
    fn scheme_host_and_port_make_the_origin_rfc6454_4() {
        for (from, to, is_same) in [
            ("ws://a/x", "/y", true),
            ("ws://a/x", "//a/y", true),
            ("ws://a/", "ws://A:80/", true),
            ("ws://a/", "http://a/", true),
            ("ws://a/", "wss://a/", true),
            ("ws://a/", "https://a:443/", true),
            ("ws://a:80/", "wss://a/", true),
            ("ws://[::1]/", "wss://[::1]/", true),
            ("wss://a:9/", "wss://a:9/y", true),
            ("ws://a/", "ws://b/", false),
            ("ws://a/", "wss://b/", false),
            ("ws://a/", "//b/", false),
            ("ws://a/", "\\\\b/", false),
            ("ws://a/", "ws://a.b/", false),
            ("ws://a/", "ws://a./", false),
            ("ws://a/", "ws://a:81/", false),
            ("ws://a/", "wss://a:444/", false),
            ("ws://a:9/", "wss://a:9/", false),
            ("ws://a:443/", "wss://a:443/", false),
            ("ws://a:81/", "wss://a/", false),
            ("ws://127.0.0.1/", "ws://localhost/", false),
            ("ws+unix:/x:/a", "/b", true),
            ("ws+unix:/x:/a", "b?c", true),
            ("ws+unix:/x:/a", "//unix-socket.invalid/b", true),
            ("ws+unix:/x:/a", "//localhost/b", false),
            ("ws+unix:/x:/a", "ws://localhost/b", false),
            ("ws+unix:/x:/a", "wss://unix-socket.invalid/b", false),
            ("ws://unix-socket.invalid/", "ws+unix:/x", false),
        ] {
            let from = target(from);
            let next = from.redirect(to);
            let is_found = next.as_ref().is_ok_and(|next| from.is_same_origin(next));
            assert_eq!(is_found, is_same, "{from:?} {to} {next:?}");
            // It is another server, or there is none.
            let is_there = next.is_ok_and(|next| next.endpoint == from.endpoint);
            assert!(!is_there || is_same || to.contains("wss"), "{from:?} {to}");
        }
        // No server leads to a Unix socket of this machine.
        for from in ["ws://a/", "ws+unix:/x"] {
            for to in ["ws+unix:/y", "ws+unix:///y:/a", "unix:/y"] {
                assert!(target(from).redirect(to).unwrap_err().contains("has to be"), "{to}");
            }
        }
    }

    #[test]
    fn a_unix_socket_has_a_request_and_a_host_as_well() {
        for (text, request) in [
            ("ws+unix:/run/x.sock", "/"),
            ("ws+unix:/run/x.sock:/a b?c=ü", "/a%20b?c=%C3%BC"),
            ("ws+unix:/run/x.sock?c", "/?c"),
        ] {
            let target = target(text);
            assert_eq!(target.endpoint, Endpoint::Unix("/run/x.sock".into()), "{text}");
            assert_eq!(target.request_target(), request, "{text}");
            assert_eq!(target.host_header(), "localhost");
        }
    }
}
