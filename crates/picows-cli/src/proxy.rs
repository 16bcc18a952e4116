//! The flag `--proxy` of the clients.

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

impl ProxyFlag {
    /// The proxy to connect through, if any.
    ///
    /// # Errors
    ///
    /// When the value is none of the three.
    pub(crate) fn proxy(&self) -> Result<Option<Proxy>, Usage> {
        match &*self.0 {
            "none" => Ok(None),
            "env" => Ok(Some(Proxy::from_env())),
            url => {
                let proxy = Proxy::url(url);
                proxy.map(Some).map_err(|fault| Usage(format!("--proxy: {fault}; or env, or none")))
            }
        }
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
        let proxy = |value: &str| ProxyFlag::from(value.to_owned()).proxy();
        assert!(proxy("none").unwrap().is_none());
        assert!(format!("{:?}", proxy("env").unwrap()).contains("of the environment"));
        assert!(format!("{:?}", proxy("socks5h://gate").unwrap()).contains("socks5h://gate:1080"));
        let flag = ProxyFlag::from("ftp://U:SECRET@gate".to_owned());
        let text = format!("{} {flag:?}", flag.proxy().unwrap_err());
        assert!(text.starts_with("--proxy: the scheme is \"ftp\"") && !text.contains("SECRET"));
    }
}
