//! URLs of proxies, and lists of servers that need none.
//!
//! No error has a part of the URL but its scheme: the rest may be a password.

use super::fault::ProxyFault;
use crate::socket::url_port_fault;
use crate::unix_url::percent_decoded;
use picows_uring_proto::ProxyCredentials;
use std::borrow::Cow;
use std::fmt;
use url::{Host, Url};

/// A URL of a proxy that was understood.
#[derive(Clone)]
pub(super) struct ProxyUrl {
    pub(super) scheme: ProxyScheme,
    /// Name or address, as a resolver wants it: an IPv6 address without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) credentials: Option<ProxyCredentials>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProxyScheme {
    Http,
    #[cfg(feature = "_tls")]
    Https,
    Socks4,
    Socks4a,
    Socks5,
    Socks5h,
}

impl ProxyUrl {
    pub(super) fn parse(text: &str) -> Result<Self, ProxyFault> {
        Self::try_parse(text.trim()).map_err(ProxyFault::Url)
    }

    fn try_parse(text: &str) -> Result<Self, String> {
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (ProxyScheme::parse(scheme)?, rest),
            None => (ProxyScheme::Http, text),
        };
        // Hosts are read as those of web addresses, with their case and their IDNA. The port that is the
        // default of one such scheme is not that of another.
        let read = |scheme: &str| {
            let url = format!("{scheme}://{rest}");
            Url::parse(&url).map_err(|error| {
                let fault = url_port_fault(&url).map_or_else(|| error.to_string(), str::to_owned);
                format!("its URL cannot be read ({fault}): {SPELLING}")
            })
        };
        let (url, other) = (read("http")?, read("ftp")?);
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err(format!("its URL has a path, query or fragment: {SPELLING}"));
        }
        let host = match url.host() {
            Some(Host::Domain(name)) if !name.is_empty() => name.to_owned(),
            Some(Host::Ipv4(address)) => address.to_string(),
            Some(Host::Ipv6(address)) => address.to_string(),
            _ => return Err(format!("its URL names no host: {SPELLING}")),
        };
        let port = url.port().or(other.port()).unwrap_or(scheme.default_port());
        let decoded = |text: &str| {
            String::from_utf8(percent_decoded(text.as_bytes()))
                .map_err(|_| "the user or the password in its URL is not UTF-8".to_owned())
        };
        let (user, password) = (decoded(url.username())?, url.password().map(decoded).transpose()?);
        let is_given = !user.is_empty() || password.as_ref().is_some_and(|it| !it.is_empty());
        let credentials =
            is_given.then(|| ProxyCredentials::new(user, password.unwrap_or_default()));
        Ok(Self { scheme, host, port, credentials })
    }
}

/// Without user and password.
impl fmt::Display for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scheme, host, port, .. } = self;
        let (open, close) = if host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "{}://{open}{host}{close}:{port}", scheme.name())
    }
}

impl ProxyScheme {
    fn parse(scheme: &str) -> Result<Self, String> {
        if let Some(known) = ALL.iter().find(|it| it.name().eq_ignore_ascii_case(scheme)) {
            return Ok(*known);
        }
        #[cfg(not(feature = "_tls"))]
        if scheme.eq_ignore_ascii_case("https") {
            return Err(format!(
                "its scheme is https, and this build has no TLS: build picows-uring with its feature \
                 `tls`, or {CHOICE}"
            ));
        }
        // What stands there may be a part of a password.
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
        if scheme.is_empty()
            || scheme.len() > SCHEME_BYTES_SHOWN_MAX
            || !scheme.bytes().all(is_name)
        {
            return Err(format!("its URL begins with no scheme that is known: {CHOICE}"));
        }
        Err(format!("the scheme is \"{scheme}\": {CHOICE}"))
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            #[cfg(feature = "_tls")]
            Self::Https => "https",
            Self::Socks4 => "socks4",
            Self::Socks4a => "socks4a",
            Self::Socks5 => "socks5",
            Self::Socks5h => "socks5h",
        }
    }

    const fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            #[cfg(feature = "_tls")]
            Self::Https => 443,
            Self::Socks4 | Self::Socks4a | Self::Socks5 | Self::Socks5h => 1080,
        }
    }
}

/// The list with names in ASCII, as those of servers are when they are compared with it.
pub(super) fn ascii_names(list: &str) -> Cow<'_, str> {
    if list.is_ascii() {
        return Cow::Borrowed(list);
    }
    let entries = list.split(|it: char| it == ',' || it.is_whitespace()).map(|entry| {
        let (name, port) = entry.rsplit_once(':').unwrap_or((entry, ""));
        let under = name.strip_prefix("*.").or_else(|| name.strip_prefix('.')).unwrap_or(name);
        match Host::parse(under) {
            Ok(Host::Domain(name)) if port.is_empty() => name,
            Ok(Host::Domain(name)) => format!("{name}:{port}"),
            _ => entry.to_owned(),
        }
    });
    Cow::Owned(entries.collect::<Vec<_>>().join(","))
}

const ALL: &[ProxyScheme] = &[
    ProxyScheme::Http,
    #[cfg(feature = "_tls")]
    ProxyScheme::Https,
    ProxyScheme::Socks4,
    ProxyScheme::Socks4a,
    ProxyScheme::Socks5,
    ProxyScheme::Socks5h,
];

const SPELLING: &str = "write it as http://host:port, with user:password@ in front of the host if \
                        there are any, percent-encoded";

const CHOICE: &str = if cfg!(feature = "_tls") {
    "use http, https, socks5h, socks5, socks4a or socks4"
} else {
    "use http, socks5h, socks5, socks4a or socks4"
};

/// Longest scheme in an error text.
const SCHEME_BYTES_SHOWN_MAX: usize = 16;
