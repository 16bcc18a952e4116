//! Parameters of a request: its query, its cookies and its credentials.
//!
//! Everything here is the client's word: it is decoded, and not believed.

use std::borrow::Cow;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::UpgradeRequest;

/// A user's name and password, as a client has sent them (RFC 7617).
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BasicCredentials {
    /// The name, which has no colon.
    pub user: String,
    /// The password.
    pub password: String,
}

/// The name alone: debug output ends in logs.
impl fmt::Debug for BasicCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BasicCredentials").field("user", &self.user).finish_non_exhaustive()
    }
}

impl UpgradeRequest {
    /// The pairs of the query, decoded as those of a form: `+` is a blank, `%41` a byte, and what is
    /// no UTF-8 then is replaced by U+FFFD.
    ///
    /// ```
    /// # use picows_uring_proto::{HeadLimits, UpgradeRequest};
    /// let wire = b"GET /chat?room=caf%C3%A9+7&quiet HTTP/1.1\r\nHost: a\r\n\r\n";
    /// let (request, _) = UpgradeRequest::parse(wire, &HeadLimits::default())?.unwrap();
    /// let pairs: Vec<_> = request.query_pairs().collect();
    /// assert_eq!(pairs, [("room".into(), "café 7".into()), ("quiet".into(), "".into())]);
    /// # Ok::<(), picows_uring_proto::RequestError>(())
    /// ```
    pub fn query_pairs(&self) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
        form_urlencoded::parse(self.query().unwrap_or_default().as_bytes())
    }

    /// The value of the first pair of the query that is called `name`, decoded.
    #[must_use]
    pub fn query_value(&self, name: &str) -> Option<Cow<'_, str>> {
        self.query_pairs().find_map(|(found, value)| (found == name).then_some(value))
    }

    /// Names and values of the cookies (RFC 6265 §4.2.1), as sent, without the quotes that may be
    /// around a value. What is no pair is skipped, and so is a header that is not UTF-8.
    ///
    /// ```
    /// # use picows_uring_proto::{HeadLimits, UpgradeRequest};
    /// let wire = b"GET / HTTP/1.1\r\nHost: a\r\nCookie: session=31d4; theme=\"dark\"\r\n\r\n";
    /// let (request, _) = UpgradeRequest::parse(wire, &HeadLimits::default())?.unwrap();
    /// assert_eq!(request.cookies().collect::<Vec<_>>(), [("session", "31d4"), ("theme", "dark")]);
    /// # Ok::<(), picows_uring_proto::RequestError>(())
    /// ```
    pub fn cookies(&self) -> impl Iterator<Item = (&str, &str)> {
        let texts = self.header_values("cookie").filter_map(|value| str::from_utf8(value).ok());
        texts.flat_map(|text| text.split(';')).filter_map(|pair| {
            let (name, value) = pair.split_once('=')?;
            let (name, value) = (name.trim(), value.trim());
            let inside = value.strip_prefix('"').and_then(|it| it.strip_suffix('"'));
            (!name.is_empty()).then_some((name, inside.unwrap_or(value)))
        })
    }

    /// The value of the first cookie called `name`. Names differ by case.
    #[must_use]
    pub fn cookie(&self, name: &str) -> Option<&str> {
        self.cookies().find_map(|(found, value)| (found == name).then_some(value))
    }

    /// The token of an `Authorization: Bearer` (RFC 6750 §2.1). `None` where there is none, another
    /// scheme, more than one header, or what is no token.
    ///
    /// ```
    /// # use picows_uring_proto::{HeadLimits, UpgradeRequest};
    /// let wire = b"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer mF_9.B5f-4.1JqM\r\n\r\n";
    /// let (request, _) = UpgradeRequest::parse(wire, &HeadLimits::default())?.unwrap();
    /// assert_eq!(request.bearer_token(), Some("mF_9.B5f-4.1JqM"));
    /// # Ok::<(), picows_uring_proto::RequestError>(())
    /// ```
    #[must_use]
    pub fn bearer_token(&self) -> Option<&str> {
        let token = self.credentials("bearer")?;
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
        let body = token.trim_end_matches('=');
        (!body.is_empty() && body.bytes().all(is_plain)).then_some(token)
    }

    /// The credentials of an `Authorization: Basic` (RFC 7617 §2). `None` where there are none, in
    /// another scheme, in more than one header, or where they are no base64 of UTF-8 with a colon and
    /// without control characters.
    ///
    /// ```
    /// # use picows_uring_proto::{HeadLimits, UpgradeRequest};
    /// let wire = b"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Basic dGVzdDoxMjPCow==\r\n\r\n";
    /// let (request, _) = UpgradeRequest::parse(wire, &HeadLimits::default())?.unwrap();
    /// let credentials = request.basic_credentials().expect("they are there");
    /// assert_eq!((&*credentials.user, &*credentials.password), ("test", "123£"));
    /// # Ok::<(), picows_uring_proto::RequestError>(())
    /// ```
    #[must_use]
    pub fn basic_credentials(&self) -> Option<BasicCredentials> {
        let decoded = STANDARD.decode(self.credentials("basic")?).ok()?;
        let text = String::from_utf8(decoded).ok()?;
        if text.chars().any(char::is_control) {
            return None;
        }
        let (user, password) = text.split_once(':')?;
        Some(BasicCredentials { user: user.to_owned(), password: password.to_owned() })
    }

    /// What follows `scheme` in the only `Authorization`.
    fn credentials(&self, scheme: &str) -> Option<&str> {
        let mut values = self.header_values("authorization");
        let (Some(value), None) = (values.next(), values.next()) else { return None };
        let (found, credentials) = str::from_utf8(value).ok()?.split_once(' ')?;
        found.eq_ignore_ascii_case(scheme).then(|| credentials.trim_matches(' '))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handshake::HeadLimits;

    fn request(target: &str, headers: &str) -> UpgradeRequest {
        let wire = format!("GET {target} HTTP/1.1\r\nHost: a\r\n{headers}\r\n");
        UpgradeRequest::parse(wire.as_bytes(), &HeadLimits::default()).unwrap().unwrap().0
    }

    #[test]
    fn queries_however_they_are_written() {
        for (target, expected) in [
            ("/", vec![]),
            ("/?", vec![]),
            ("/?&&", vec![]),
            ("/?a", vec![("a", "")]),
            ("/?=b", vec![("", "b")]),
            ("/?a=b=c&a=d", vec![("a", "b=c"), ("a", "d")]),
            ("/?a=%", vec![("a", "%")]),
            ("/?a=%4", vec![("a", "%4")]),
            ("/?a=%zz&b=%41", vec![("a", "%zz"), ("b", "A")]),
            ("/?a=%ff", vec![("a", "\u{FFFD}")]),
            ("/?a=%00%0d%0a", vec![("a", "\0\r\n")]),
            ("/?a=1;b=2", vec![("a", "1;b=2")]),
            ("http://h/p?a=1", vec![("a", "1")]),
        ] {
            let request = request(target, "");
            let pairs: Vec<_> = request.query_pairs().collect();
            let pairs: Vec<_> = pairs.iter().map(|(name, value)| (&**name, &**value)).collect();
            assert_eq!(pairs, expected, "{target}");
        }
        let request = request("/?a=1&b=2&b=3", "");
        assert_eq!(request.query_value("b").as_deref(), Some("2"));
        assert_eq!(request.query_value("c"), None);
    }

    #[test]
    fn a_query_as_long_as_a_head_is_decoded() {
        let target = format!("/?{}", "a=%41&".repeat(2700));
        assert_eq!(
            request(&target, "").query_pairs().filter(|(_, value)| value == "A").count(),
            2700
        );
    }

    #[test]
    fn cookies_however_they_are_written() {
        for (headers, expected) in [
            ("", vec![]),
            ("Cookie: \r\n", vec![]),
            ("Cookie: a=b;c=d ;  e = f\r\n", vec![("a", "b"), ("c", "d"), ("e", "f")]),
            ("Cookie: a=b=c\r\n", vec![("a", "b=c")]),
            ("Cookie: a; =b; c=\r\n", vec![("c", "")]),
            ("Cookie: a=\"b\"; c=\"; d=\"\"\r\n", vec![("a", "b"), ("c", "\""), ("d", "")]),
            ("Cookie: a=1\r\nCookie: b=2\r\n", vec![("a", "1"), ("b", "2")]),
            ("Cookie: ;;;===\r\n", vec![]),
        ] {
            let request = request("/", headers);
            assert_eq!(request.cookies().collect::<Vec<_>>(), expected, "{headers}");
        }
        let request = request("/", "Cookie: a=1; A=2; a=3\r\n");
        assert_eq!((request.cookie("a"), request.cookie("A")), (Some("1"), Some("2")));
        assert_eq!(request.cookie("b"), None);
        let wire = b"GET / HTTP/1.1\r\nHost: a\r\nCookie: a=\xff\r\nCookie: b=1\r\n\r\n";
        let (request, _) = UpgradeRequest::parse(wire, &HeadLimits::default()).unwrap().unwrap();
        assert_eq!(request.cookies().collect::<Vec<_>>(), [("b", "1")]);
    }

    #[test]
    fn many_cookies_are_read_to_their_end() {
        let headers = format!("Cookie: {}last=1\r\n", "a=1; ".repeat(3000));
        assert_eq!(request("/", &headers).cookie("last"), Some("1"));
    }

    #[test]
    fn bearer_tokens_and_what_is_none() {
        for (headers, expected) in [
            ("Authorization: Bearer abc\r\n", Some("abc")),
            ("Authorization: bEARER  a.b~c+/-_d==\r\n", Some("a.b~c+/-_d==")),
            ("Authorization: Bearer\r\n", None),
            ("Authorization: Bearer \r\n", None),
            ("Authorization: Bearer a b\r\n", None),
            ("Authorization: Bearer a=b\r\n", None),
            ("Authorization: Bearer ==\r\n", None),
            ("Authorization: Bearer a,b\r\n", None),
            ("Authorization: Bearer\ta\r\n", None),
            ("Authorization: Basic abc\r\n", None),
            ("Authorization: Bearer a\r\nAuthorization: Bearer a\r\n", None),
            ("", None),
        ] {
            assert_eq!(request("/", headers).bearer_token(), expected, "{headers}");
        }
    }

    #[test]
    fn basic_credentials_and_what_is_none() {
        let find = |text: &[u8]| {
            let headers = format!("Authorization: Basic {}\r\n", STANDARD.encode(text));
            request("/", &headers).basic_credentials()
        };
        let credentials = find(b"user:pass:word").unwrap();
        assert_eq!((&*credentials.user, &*credentials.password), ("user", "pass:word"));
        assert!(!format!("{credentials:?}").contains("pass"));
        assert!(find(b":").is_some_and(|it| it.user.is_empty() && it.password.is_empty()));
        for text in [&b"user"[..], b"", b"a\n:b", b"a:\x7f", b"\xff:\xff"] {
            assert_eq!(find(text), None, "{}", text.escape_ascii());
        }
        for value in ["Basic", "Basic !", "Basic YTpi=", "Basic YTp", "Bearer YTpi"] {
            let headers = format!("Authorization: {value}\r\n");
            assert_eq!(request("/", &headers).basic_credentials(), None, "{value}");
        }
    }
}
