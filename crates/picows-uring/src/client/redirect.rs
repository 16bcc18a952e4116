//! Headers that go along when a redirect leads to another origin.
//!
//! Decides what is sent; where a redirect leads, and what the same origin is, is `target`'s.

use super::connect::Connect;
use picows_uring_proto::Escaped;
use picows_uring_proto::internal::SHOWN_BYTES_MAX;

/// The parts of a caller's request that follow a redirect to another origin: another scheme, host
/// or port, but for `ws` to `wss` on the same host with default ports.
///
/// What is given to [`Connect`] is meant for the server of its URL. Headers and subprotocols may be
/// credentials, by whatever name, and a redirect leads wherever a server says; so without one of
/// these, a redirect to another origin is an error if there are any. `Host` follows none of them,
/// as it names the first origin; `User-Agent` and `Accept-Language` follow always.
///
/// ```
/// use picows_uring::{Connect, RedirectKeeps};
///
/// let connect = Connect::new("ws://example.com/feed")
///     .header("X-Trace", "17")
///     .redirect_keeps(RedirectKeeps::Headers);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RedirectKeeps {
    /// Neither: redirects are followed without them, from there on for good.
    Nothing,
    /// The headers; the subprotocol offers are left out.
    Headers,
    /// The subprotocol offers; the headers are left out.
    Subprotocols,
    /// Both: every server that the first one leads to is trusted with them.
    HeadersAndSubprotocols,
}

impl RedirectKeeps {
    fn headers(self) -> bool {
        matches!(self, Self::Headers | Self::HeadersAndSubprotocols)
    }

    fn subprotocols(self) -> bool {
        matches!(self, Self::Subprotocols | Self::HeadersAndSubprotocols)
    }
}

impl Connect {
    /// Leaves out of the request what does not go to another origin.
    ///
    /// # Errors
    ///
    /// When there is something of which nothing was said; the text names it, and the cure.
    pub(super) fn leave_origin(&mut self) -> Result<(), String> {
        self.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("host"));
        let is_ours = |name: &str| !HARMLESS.iter().any(|it| name.eq_ignore_ascii_case(it));
        let Some(keeps) = self.redirect_keeps else {
            let mut given: Vec<_> = self
                .headers
                .iter()
                .filter(|(name, _)| is_ours(name))
                .map(|(name, _)| Escaped::new(name).at_most(SHOWN_BYTES_MAX).to_string())
                .collect();
            let left_out = given.len().saturating_sub(NAMES_SHOWN_MAX);
            given.truncate(NAMES_SHOWN_MAX);
            if left_out > 0 {
                given.push(format!("{left_out} more headers"));
            }
            if !self.subprotocols.is_empty() {
                given.push("subprotocol offers".to_owned());
            }
            if given.is_empty() {
                return Ok(());
            }
            return Err(format!(
                "that is another origin, and what was given for the first one does not go there \
                 ({}): connect to that URL, or say what may follow with redirect_keeps(…)",
                given.join(", ")
            ));
        };
        if !keeps.headers() {
            self.headers.retain(|(name, _)| !is_ours(name));
        }
        if !keeps.subprotocols() {
            self.subprotocols.clear();
        }
        Ok(())
    }
}

/// Headers that say nothing of the caller but what kind of program and reader it is. What is
/// harmless can be listed; what is secret has any name.
const HARMLESS: [&str; 2] = ["user-agent", "accept-language"];

/// Names of headers in an error text.
const NAMES_SHOWN_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn given() -> Connect {
        Connect::new("ws://a/")
            .header("Host", "virtual")
            .header("Authorization", "secret")
            .header("X-Api-Key", "secret")
            .header("user-agent", "test")
            .subprotocol("bearer.secret")
    }

    fn names(connect: &Connect) -> Vec<&str> {
        connect.headers.iter().map(|(name, _)| name.as_str()).collect()
    }

    #[test]
    fn what_is_not_allowed_by_name_does_not_follow() {
        use RedirectKeeps::{Headers, HeadersAndSubprotocols, Nothing, Subprotocols};
        let all = ["Authorization", "X-Api-Key", "user-agent"];
        for (keeps, headers, subprotocols) in [
            (Nothing, &["user-agent"][..], 0),
            (Headers, &all, 0),
            (Subprotocols, &["user-agent"], 1),
            (HeadersAndSubprotocols, &all, 1),
        ] {
            let mut connect = given().redirect_keeps(keeps);
            assert_eq!(connect.leave_origin(), Ok(()));
            assert_eq!(
                (names(&connect), connect.subprotocols.len()),
                (headers.to_vec(), subprotocols)
            );
        }
    }

    #[test]
    fn without_a_word_anything_given_is_an_error_that_names_it() {
        let fault = given().leave_origin().unwrap_err();
        assert!(fault.contains("(Authorization, X-Api-Key, subprotocol offers)"), "{fault}");
        assert!(fault.contains("redirect_keeps(…)") && !fault.contains("secret"), "{fault}");
        let fault = Connect::new("ws://a/").subprotocol("a").leave_origin().unwrap_err();
        assert!(fault.contains("(subprotocol offers)"), "{fault}");
        let harmless = || Connect::new("ws://a/").header("Host", "b").header("User-Agent", "test");
        assert_eq!(harmless().leave_origin(), Ok(()));
        let many =
            (0..99).fold(harmless(), |it, number| it.header(format!("X-{number}"), "secret"));
        let fault = { many }.leave_origin().unwrap_err();
        assert!(fault.contains("X-7, 91 more headers)"), "{fault}");
    }
}
