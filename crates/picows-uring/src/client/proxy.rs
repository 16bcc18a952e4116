//! Proxies of client connections: which one leads to a server, by a call or by the environment.
//!
//! The protocol of the tunnel is in `picows_uring_proto::Tunnel`; it is driven in `proxy/open.rs`.

mod fault;
mod open;
#[cfg(feature = "_tls")]
mod secure;
mod stream;
mod url;

#[cfg(test)]
mod tests;

pub use fault::ProxyFault;
pub(super) use fault::shown_proxy;
pub(super) use open::Way;
#[cfg(feature = "_tls")]
pub(crate) use secure::ProxyTls;

use super::connect::Connect;
use super::error::ConnectFault;
use super::target::{Endpoint, Target};
#[cfg(feature = "_tls")]
use crate::tls::ClientTls;
use picows_uring_proto::{ProxyExemptions, ProxyRules};
use std::fmt;
use url::{ProxyUrl, ascii_names};

/// A proxy on the way to a server, for [`Connect::proxy`].
///
/// The URL has one of these schemes, and may have a user and a password, percent-encoded:
///
/// | scheme | protocol | who resolves the server's name | default port |
/// |---|---|---|---|
/// | `http` | HTTP CONNECT, also for `ws://` (RFC 6455 §4.1) | the proxy | 80 |
/// | `https` | the same, in TLS to the proxy; with the feature `tls` or `tls-ring` | the proxy | 443 |
/// | `socks5h` | SOCKS5 | the proxy | 1080 |
/// | `socks5` | SOCKS5 | this machine | 1080 |
/// | `socks4a` | SOCKS4a, IPv4 only, a user without a password | the proxy | 1080 |
/// | `socks4` | SOCKS4, the same | this machine | 1080 |
///
/// User and password are in no error, log or debug output, and go to the proxy only: to an HTTP proxy
/// in answer to a 407 that offers `Basic`.
///
/// TLS to an `https` proxy ends there: it hides user, password and the server's name from the network, and
/// what is in the tunnel as far as the proxy. What a `wss://` server and its client send each other is sealed
/// twice on the way to the proxy, and read by the server only.
///
/// ```
/// use picows_uring::{Connect, Proxy};
///
/// let proxy = Proxy::url("socks5h://user:password@gate:1080")?;
/// let connect = Connect::new("ws://feed.example/").proxy(proxy);
///
/// let proxy = Proxy::url("http://gate:3128")?;
/// let proxy = proxy.header("X-Team", "feeds").no_proxy("10.0.0.0/8, .corp.example");
/// let connect = Connect::new("ws://feed.example/").proxy(proxy);
///
/// let connect = Connect::new("ws://feed.example/").proxy(Proxy::from_env());
/// # Ok::<(), picows_uring::ProxyFault>(())
/// ```
#[derive(Clone)]
pub struct Proxy {
    origin: Origin,
    headers: Vec<(String, Vec<u8>)>,
    exemptions: Vec<ProxyExemptions>,
    #[cfg(feature = "_tls")]
    tls: Option<ClientTls>,
}

#[derive(Clone)]
enum Origin {
    Url(ProxyUrl),
    Environment,
}

/// The way to one server.
pub(super) struct Route<'a> {
    url: ProxyUrl,
    /// The variable that named it.
    variable: Option<&'static str>,
    headers: &'a [(String, Vec<u8>)],
    #[cfg(feature = "_tls")]
    tls: Option<&'a ClientTls>,
}

impl Proxy {
    /// The proxy at `url`, such as `http://gate:3128` or `socks5h://user:password@gate`. Without a
    /// scheme it is `http`.
    ///
    /// # Errors
    ///
    /// [`ProxyFault::Url`] when it cannot be used. The text does not have the URL, which may have a
    /// password. `https://`, for proxies that are spoken to in TLS, is one in a build without it.
    pub fn url(url: &str) -> Result<Self, ProxyFault> {
        Ok(Self::new(Origin::Url(ProxyUrl::parse(url)?)))
    }

    /// The proxy that the environment names, if any: for `wss://` by the first of `wss_proxy`,
    /// `https_proxy` and `all_proxy`, for `ws://` by the first of `ws_proxy`, `http_proxy` and
    /// `all_proxy`, each in lower case before upper case. `no_proxy` lists the servers that are
    /// connected to directly; see [`no_proxy`](Self::no_proxy). `HTTP_PROXY` in upper case is ignored
    /// in CGI programs, in which it is a header of the client's.
    ///
    /// The variables are read for each connection, and again for each redirect.
    #[must_use]
    pub fn from_env() -> Self {
        Self::new(Origin::Environment)
    }

    fn new(origin: Origin) -> Self {
        Self {
            origin,
            headers: Vec::new(),
            exemptions: Vec::new(),
            #[cfg(feature = "_tls")]
            tls: None,
        }
    }

    /// Settings of TLS to an `https` proxy: its roots, a certificate for it, pins. Those of the server are
    /// never used for the proxy, nor these for the server. Default: the roots of the system.
    #[cfg(feature = "_tls")]
    #[must_use]
    pub fn tls(mut self, tls: &ClientTls) -> Self {
        self.tls = Some(tls.clone());
        self
    }

    /// Adds a header to the CONNECT request. The server does not see it, as the proxy does not see
    /// those of [`Connect::header`]. A `Proxy-Authorization` here takes the place of user and password.
    /// With a SOCKS proxy it is an error of the connection.
    #[must_use]
    pub fn header(mut self, name: impl AsRef<str>, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.as_ref().to_owned(), value.as_ref().to_vec()));
        self
    }

    /// Adds servers that are connected to directly, beside those of the variable `no_proxy` where the
    /// environment names the proxy. The list has commas or blanks between its entries: `*` is every
    /// server; `example.com` and `.example.com` are that name and every name under it; addresses; ranges
    /// such as `10.0.0.0/8`; each with a port behind `:` or for every port. Nothing is exempt that is not
    /// listed, not even `localhost`.
    #[must_use]
    pub fn no_proxy(mut self, list: &str) -> Self {
        self.exemptions.push(ProxyExemptions::parse(&ascii_names(list)));
        self
    }

    /// The way to `target`; `None` when that is the direct one. `variable` reads the environment.
    fn route(
        &self,
        target: &Target,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Route<'_>>, ConnectFault> {
        let Endpoint::Host { host, port } = &target.endpoint else {
            return match &self.origin {
                Origin::Environment => Ok(None),
                Origin::Url(_) => {
                    let fault = "no proxy leads to a Unix socket: leave it out".to_owned();
                    Err(ConnectFault::Setting { setting: "proxy", fault })
                }
            };
        };
        if self.exemptions.iter().any(|list| list.contain(host, *port)) {
            return Ok(None);
        }
        let route = |url, variable| Route {
            url,
            variable,
            headers: &self.headers,
            #[cfg(feature = "_tls")]
            tls: self.tls.as_ref(),
        };
        match &self.origin {
            Origin::Url(url) => Ok(Some(route(url.clone(), None))),
            Origin::Environment => {
                let rules = ProxyRules::from_variables(|name| {
                    let value = variable(name)?;
                    let is_list = name.eq_ignore_ascii_case("no_proxy");
                    Some(if is_list { ascii_names(&value).into_owned() } else { value })
                });
                let Some(named) = rules.proxy_for(target.is_secure, host, *port) else {
                    return Ok(None);
                };
                let variable = Some(named.variable());
                let url = ProxyUrl::parse(named.url()).map_err(|fault| ConnectFault::Proxy {
                    proxy: String::new(),
                    variable,
                    fault,
                })?;
                Ok(Some(route(url, variable)))
            }
        }
    }
}

/// Without user, password and the values of headers.
impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Proxy");
        match &self.origin {
            Origin::Url(url) => shown.field("url", &url.to_string()),
            Origin::Environment => shown.field("url", &"of the environment"),
        };
        let names: Vec<_> = self.headers.iter().map(|(name, _)| name).collect();
        shown.field("headers", &names).field("exemptions", &self.exemptions).finish()
    }
}

impl Connect {
    /// Connects through a proxy. Default: directly, whatever the environment says;
    /// [`Proxy::from_env`] asks it. Redirects ask anew at each hop.
    ///
    /// The addresses of the proxy are raced, and [`local_address`](Self::local_address) and
    /// [`socket_hook`](Self::socket_hook) are for the connection to it, which counts towards
    /// [`handshake_timeout`](Self::handshake_timeout) with the rest. With [`socket`](Self::socket) or a
    /// Unix socket a proxy is an error.
    pub fn proxy(mut self, proxy: Proxy) -> Self {
        self.dial.proxy = Some(proxy);
        self
    }

    /// Checks that a proxy does not contradict another setting.
    pub(super) fn check_proxy(&self) -> Result<(), ConnectFault> {
        if self.socket.is_none() || self.dial.proxy.is_none() {
            return Ok(());
        }
        let fault = "a socket was given, which is connected already: leave one of the two out";
        Err(ConnectFault::Setting { setting: "proxy", fault: fault.to_owned() })
    }
}
