//! Rules of the environment that choose a proxy: `https_proxy` and its kin, and `no_proxy`.
//!
//! Reads no environment: the variables are an argument. URLs of proxies are carried and not parsed.

mod exemptions;

#[cfg(test)]
mod tests;

pub use exemptions::ProxyExemptions;

use std::fmt;

/// Choice of the proxy that leads to a server, by variables of the environment.
///
/// For `wss` the first of `wss_proxy`, `https_proxy` and `all_proxy` that is set counts, for `ws` of
/// `ws_proxy`, `http_proxy` and `all_proxy`; each in lower case before upper case. `no_proxy` lists
/// the servers that are connected to directly; see [`ProxyExemptions`]. An empty variable is unset.
/// `HTTP_PROXY` in upper case is ignored where `REQUEST_METHOD` is set, as that is a CGI program,
/// in which it is a header of the client's.
///
/// ```
/// use picows_uring_proto::ProxyRules;
///
/// let rules = ProxyRules::from_variables(|name| match name {
///     "https_proxy" => Some("gate:3128".to_owned()),
///     "NO_PROXY" => Some("localhost, .corp.example, 10.0.0.0/8".to_owned()),
///     _ => None,
/// });
/// let proxy = rules.proxy_for(true, "feed.example", 443).unwrap();
/// assert_eq!((proxy.variable(), proxy.url()), ("https_proxy", "gate:3128"));
/// assert!(rules.proxy_for(false, "feed.example", 80).is_none());
/// assert!(rules.proxy_for(true, "a.corp.example", 443).is_none());
/// ```
#[derive(Clone, Debug, Default)]
pub struct ProxyRules {
    ws: Option<ProxyVariable>,
    wss: Option<ProxyVariable>,
    exemptions: ProxyExemptions,
}

/// A variable that names a proxy.
#[derive(Clone)]
pub struct ProxyVariable {
    variable: &'static str,
    url: String,
}

impl ProxyRules {
    /// The rules of the variables that `value_of` returns by name.
    #[must_use]
    pub fn from_variables(mut value_of: impl FnMut(&str) -> Option<String>) -> Self {
        let mut value = |name: &str| {
            let value = value_of(name)?;
            let value = value.trim();
            (!value.is_empty()).then(|| value.to_owned())
        };
        let is_cgi = value("REQUEST_METHOD").is_some();
        let mut first = |names: &[&'static str]| {
            let mut names = names.iter().filter(|name| !(is_cgi && **name == "HTTP_PROXY"));
            names.find_map(|&variable| Some(ProxyVariable { variable, url: value(variable)? }))
        };
        Self {
            ws: first(&WS_VARIABLES),
            wss: first(&WSS_VARIABLES),
            exemptions: first(&NO_PROXY_VARIABLES)
                .map_or_else(ProxyExemptions::default, |list| ProxyExemptions::parse(&list.url)),
        }
    }

    /// The proxy to the server at `host`, a name or an address without brackets, and `port`, if there
    /// is one; `is_secure` for `wss`.
    #[must_use]
    pub fn proxy_for(&self, is_secure: bool, host: &str, port: u16) -> Option<&ProxyVariable> {
        let proxy = if is_secure { self.wss.as_ref() } else { self.ws.as_ref() };
        proxy.filter(|_| !self.exemptions.contain(host, port))
    }
}

impl ProxyVariable {
    /// Its name.
    #[must_use]
    pub const fn variable(&self) -> &'static str {
        self.variable
    }

    /// Its value: a URL, which may have a password and may lack its scheme.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }
}

/// The name only: the value may have a password, and debug output ends in logs.
impl fmt::Debug for ProxyVariable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.variable)
    }
}

const WS_VARIABLES: [&str; 6] =
    ["ws_proxy", "WS_PROXY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"];
const WSS_VARIABLES: [&str; 6] =
    ["wss_proxy", "WSS_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];
const NO_PROXY_VARIABLES: [&str; 2] = ["no_proxy", "NO_PROXY"];
