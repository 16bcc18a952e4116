//! Where a URL leads (RFC 6455 §3).

use super::error::ConnectFault;
use picows_uring_proto::{Escaped, SHOWN_BYTES_MAX};
use url::{Host, Url};

/// A URL that was understood.
#[derive(Clone, Debug)]
pub(super) struct Target {
    url: Url,
    /// Name or address, as a resolver wants it: an IPv6 address without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) is_secure: bool,
}

impl Target {
    pub(super) fn parse(text: &str) -> Result<Self, ConnectFault> {
        let bad = |fault: &str| ConnectFault::Url(fault.to_owned());
        let url = Url::parse(text).map_err(|error| {
            ConnectFault::Url(format!("{error}: write it as ws://host:port/path"))
        })?;
        Self::of(url).map_err(|fault| bad(&fault))
    }

    /// Where `location` leads, seen from here; never from wss to ws.
    pub(super) fn redirect(&self, location: &str) -> Result<Self, String> {
        let mut url = self.url.join(location).map_err(|error| error.to_string())?;
        let scheme = match url.scheme() {
            "http" => "ws",
            "https" => "wss",
            _ => "",
        };
        if !scheme.is_empty() {
            // http(s) and ws(s) are all special schemes, between which the change is allowed.
            let _ = url.set_scheme(scheme);
        }
        url.set_fragment(None);
        let target = Self::of(url)?;
        if self.is_secure && !target.is_secure {
            return Err("it leads from wss to ws, which is not secure".to_owned());
        }
        Ok(target)
    }

    /// Whether both are the same scheme, host and port.
    pub(super) fn is_same_origin(&self, other: &Self) -> bool {
        self.url.origin() == other.url.origin()
    }

    fn of(url: Url) -> Result<Self, String> {
        let is_secure = match url.scheme() {
            "ws" => false,
            "wss" => true,
            other => {
                let shown = Escaped::new(other).quoted().at_most(SHOWN_BYTES_MAX);
                return Err(format!("the scheme is {shown}: it has to be ws or wss"));
            }
        };
        if url.fragment().is_some() {
            return Err("it has a fragment (#…), which WebSocket URLs must not: remove it, or \
                        write %23 (RFC 6455 §3)"
                .to_owned());
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
        Ok(Self { host, port, is_secure, url })
    }

    /// The value of the Host header: without the port where it is the scheme's own.
    pub(super) fn host_header(&self) -> String {
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

/// For `fuzzing.rs`: a URL, and behind a line feed where it redirects to.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz_url(text: &str) {
    let (url, location) = text.split_once('\n').unwrap_or((text, ""));
    let Ok(target) = Target::parse(url) else { return };
    fuzz_target(&target);
    if let Ok(next) = target.redirect(location) {
        assert!(next.is_secure || !target.is_secure, "never to less security");
        fuzz_target(&next);
    }
}

/// What was understood of a URL can be asked for, and means the same when it is written out.
#[cfg(any(test, feature = "fuzzing"))]
fn fuzz_target(target: &Target) {
    let (host, path) = (target.host_header(), target.request_target());
    assert!(!target.host.is_empty() && path.starts_with('/'));
    match picows_uring_proto::ClientHandshake::new(&host, &path, [0; 16]) {
        // URLs allow some characters in a host that no name has: the caller is told then.
        Ok(_) | Err(picows_uring_proto::HandshakeMisuse::InvalidHost { .. }) => {}
        Err(error) => panic!("{target:?}: {error}"),
    }
    let scheme = if target.is_secure { "wss" } else { "ws" };
    let again = Target::parse(&format!("{scheme}://{host}{path}")).expect("it is a URL");
    assert_eq!((&again.host, again.port), (&target.host, target.port));
    assert_eq!((again.host_header(), again.request_target()), (host, path));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(text: &str) -> Target {
        Target::parse(text).unwrap()
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
            assert_eq!((target.host.as_str(), target.port), (host, port), "{text}");
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
            ("http://a/", "ws or wss"),
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
            assert_eq!((to.host.as_str(), to.port), (host, port), "{location}");
            assert_eq!(to.request_target(), request, "{location}");
        }
        let secure = target("wss://a.example/");
        assert!(secure.redirect("ws://a.example/").unwrap_err().contains("secure"));
        assert!(from.is_same_origin(&from.redirect("/b").unwrap()));
        assert!(!from.is_same_origin(&from.redirect("ws://a.example/").unwrap()));
        assert!(!from.is_same_origin(&from.redirect("wss://a.example:9001/").unwrap()));
        assert!(secure.redirect("/b").unwrap().is_secure);
        assert!(from.redirect("ftp://b.example/").is_err());
    }
}
