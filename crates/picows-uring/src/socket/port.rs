//! The fault of a port in text, where parsers only say that it is none.

/// The fault of the port at the end of `authority`, if it is a number that is no port.
pub(crate) fn port_fault(authority: &str) -> Option<&'static str> {
    let port = authority.rsplit(':').next()?;
    let is_number = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    (is_number && port.parse::<u16>().is_err())
        .then_some("the port is too large, as it is from 0 to 65535")
}

/// [`port_fault`] of a URL with an authority.
pub(crate) fn url_port_fault(url: &str) -> Option<&'static str> {
    let (_, rest) = url.split_once("://")?;
    port_fault(rest.split(['/', '\\', '?', '#']).next()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_is_no_port_is_too_large() {
        assert!(port_fault("65536").is_some());
        for authority in ["a:99999", "[::1]:65536", "0.0.0.0:0065536", "a:999999999999"] {
            assert!(port_fault(authority).is_some(), "{authority}");
            for scheme in ["ws", "http"] {
                for path in ["", "/", "?a:1", "#a:1", "/a:1"] {
                    let url = format!("{scheme}://u:1@{authority}{path}");
                    assert!(url_port_fault(&url).is_some(), "{url}");
                }
            }
        }
        for authority in
            ["65535", "a:0", "a:", "", "a", "[::1]", "[::99999]", "a:-1", "a:x", "a:99999x"]
        {
            assert_eq!(port_fault(authority), None, "{authority}");
        }
        for url in ["ws://a/b:99999", "ws://a:99999@b/", "ws+unix:/a:99999", "99999", "ws://"] {
            assert_eq!(url_port_fault(url), None, "{url}");
        }
    }
}
