//! The flags `--proxy` and `--proxy-ca` of the clients.

use crate::fault::Usage;
use picows_uring::Proxy;
use std::fmt;

/// The value of `--proxy`: a URL, `env` or `none`. It is judged behind the parser of the command line,
/// whose errors show values.
#[derive(Clone)]
pub(crate) struct ProxyFlag(String);

impl From<String> for ProxyFlag {
    fn from(value: String) -> Self {
        Self(value)
    }
}

/// Settings of TLS to a proxy.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct ProxyTlsFlags {
    /// Trust the issuers in this file (PEM) for a proxy behind https://, instead of those of the system
    #[cfg(feature = "tls")]
    #[arg(long, value_name = "FILE")]
    proxy_ca: Option<std::path::PathBuf>,
}

impl ProxyFlag {
    /// The proxy to connect through, if any.
    ///
    /// # Errors
    ///
    /// When the value is none of the three, or the settings of TLS cannot be used.
    pub(crate) fn proxy(&self, tls: &ProxyTlsFlags) -> Result<Option<Proxy>, Usage> {
        let proxy = match &*self.0 {
            "none" => return Ok(None),
            "env" => Proxy::from_env(),
            url => Proxy::url(url)
                .map_err(|fault| Usage(format!("--proxy: {fault}; or env, or none")))?,
        };
        tls.give(proxy).map(Some)
    }
}

impl ProxyTlsFlags {
    #[cfg(feature = "tls")]
    fn give(&self, proxy: Proxy) -> Result<Proxy, Usage> {
        let Some(file) = &self.proxy_ca else { return Ok(proxy) };
        let tls = picows_uring::ClientTls::builder().roots(file).build();
        Ok(proxy.tls(&tls.map_err(|error| Usage(format!("--proxy-ca: {error}")))?))
    }

    #[cfg(not(feature = "tls"))]
    #[expect(
        clippy::unnecessary_wraps,
        clippy::unused_self,
        reason = "with TLS there are settings"
    )]
    fn give(&self, proxy: Proxy) -> Result<Proxy, Usage> {
        Ok(proxy)
    }
}

/// Without the value, which may have a password.
impl fmt::Debug for ProxyFlag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProxyFlag")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_a_url_or_one_of_two_words() {
        let proxy =
            |value: &str| ProxyFlag::from(value.to_owned()).proxy(&ProxyTlsFlags::default());
        assert!(proxy("none").unwrap().is_none());
        assert!(format!("{:?}", proxy("env").unwrap()).contains("of the environment"));
        assert!(format!("{:?}", proxy("socks5h://gate").unwrap()).contains("socks5h://gate:1080"));
        let flag = ProxyFlag::from("ftp://U:SECRET@gate".to_owned());
        let text = format!("{} {flag:?}", flag.proxy(&ProxyTlsFlags::default()).unwrap_err());
        assert!(text.starts_with("--proxy: the scheme is \"ftp\"") && !text.contains("SECRET"));
    }
}
