//! URLs of Unix sockets, `ws+unix:PATH[:/REQUEST/PATH][?QUERY]`: both ways.
//!
//! Opens no socket. There is no standard for them; this is what other WebSocket clients take.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// A URL of a Unix socket, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UnixUrl<'a> {
    pub(crate) is_secure: bool,
    pub(crate) socket: PathBuf,
    /// Path and query of the request, as they stand in the URL.
    pub(crate) request_target: &'a str,
}

/// Takes `text` apart, if it has the scheme `ws+unix` or `wss+unix`.
///
/// The socket's path ends in front of the first `:/`, where that of the request begins, or at the
/// query. Percent signs with two digits stand for a byte of it.
pub(crate) fn parse(text: &str) -> Option<Result<UnixUrl<'_>, String>> {
    let (scheme, rest) = text.split_once(':')?;
    let is_secure = match scheme {
        _ if scheme.eq_ignore_ascii_case("ws+unix") => false,
        _ if scheme.eq_ignore_ascii_case("wss+unix") => true,
        _ => return None,
    };
    Some(parse_rest(is_secure, rest))
}

fn parse_rest(is_secure: bool, rest: &str) -> Result<UnixUrl<'_>, String> {
    // An authority, which has to be empty: ws+unix:///run/picows.sock
    let path = match rest.strip_prefix("//") {
        None => rest,
        Some(path) if path.starts_with('/') => path,
        Some(_) => return Err(format!("it has a host, which Unix sockets do not: {SPELLING}")),
    };
    let socket_end = path.find(":/").or_else(|| path.find('?')).unwrap_or(path.len());
    // A query may have a `:/` in it.
    let socket_end = path[..socket_end].find('?').unwrap_or(socket_end);
    let (socket, request_target) = path.split_at(socket_end);
    if socket.contains('#') {
        return Err(FRAGMENT_FAULT.to_owned());
    }
    let socket = percent_decoded(socket.as_bytes());
    if socket.is_empty() {
        return Err(format!("it names no socket: {SPELLING}"));
    }
    if socket.len() > SOCKET_PATH_BYTES_MAX || socket.contains(&0) {
        return Err(format!(
            "the path of the socket is no path that one can have: it is up to \
             {SOCKET_PATH_BYTES_MAX} bytes long, none of them 0"
        ));
    }
    let request_target = request_target.strip_prefix(':').unwrap_or(request_target);
    Ok(UnixUrl { is_secure, socket: OsString::from_vec(socket).into(), request_target })
}

/// Displays the URL of a socket, which [`parse`] takes back to the same path, whatever is in it.
pub(crate) struct Shown<'a> {
    /// `ws` or `wss`.
    pub(crate) scheme: &'static str,
    pub(crate) path: &'a Path,
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+unix:", self.scheme)?;
        let bytes = self.path.as_os_str().as_bytes();
        for (at, &byte) in bytes.iter().enumerate() {
            let begins_request = byte == b':' && bytes.get(at + 1) == Some(&b'/');
            // Two slashes at the start would be those of a host.
            let begins_host = at == 1 && bytes.starts_with(b"//");
            let is_plain = byte.is_ascii_graphic() && !b"%?#".contains(&byte);
            if is_plain && !begins_request && !begins_host {
                write!(f, "{}", char::from(byte))?;
            } else {
                write!(f, "%{byte:02X}")?;
            }
        }
        Ok(())
    }
}

/// What percent signs with two digits stand for; others stay.
pub(crate) fn percent_decoded(text: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        let code = after.get(..2).filter(|code| code.iter().all(u8::is_ascii_hexdigit));
        let code = code.and_then(|code| u8::from_str_radix(str::from_utf8(code).ok()?, 16).ok());
        match code {
            Some(code) if byte == b'%' => {
                decoded.push(code);
                rest = &after[2..];
            }
            _ => {
                decoded.push(byte);
                rest = after;
            }
        }
    }
    decoded
}

/// For `#` in any URL.
pub(crate) const FRAGMENT_FAULT: &str = "it has a fragment (#…), which WebSocket URLs must not: \
                                         remove it, or write %23 (RFC 6455 §3)";

const SPELLING: &str = "write ws+unix:/run/picows.sock, or ws+unix:/run/picows.sock:/path?query";

/// Longest path of a socket: `sun_path` of unix(7), less its 0 at the end.
const SOCKET_PATH_BYTES_MAX: usize = 107;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn socket_and_request_are_told_apart() {
        for (text, socket, target) in [
            ("ws+unix:/run/x.sock", "/run/x.sock", ""),
            ("WS+UNIX:/run/x.sock", "/run/x.sock", ""),
            ("ws+unix:///run/x.sock", "/run/x.sock", ""),
            ("ws+unix:x.sock", "x.sock", ""),
            ("ws+unix:./x.sock:/a", "./x.sock", "/a"),
            ("ws+unix:/run/x.sock:/", "/run/x.sock", "/"),
            ("ws+unix:/run/x.sock:/a/b?c=d", "/run/x.sock", "/a/b?c=d"),
            ("ws+unix:/run/x.sock:/a?to=http://b:/c", "/run/x.sock", "/a?to=http://b:/c"),
            ("ws+unix:/run/x.sock?to=http://b:/c", "/run/x.sock", "?to=http://b:/c"),
            ("ws+unix:/run/a:b.sock:/c", "/run/a:b.sock", "/c"),
            ("ws+unix:/run/a%20b%3a%2f%3F.sock", "/run/a b:/?.sock", ""),
            ("ws+unix:/run/100%.sock%4", "/run/100%.sock%4", ""),
        ] {
            let url = parse(text).unwrap().unwrap();
            assert_eq!((url.socket.to_str(), url.request_target), (Some(socket), target), "{text}");
            assert!(!url.is_secure);
        }
        assert!(parse("wss+unix:/run/x.sock").unwrap().unwrap().is_secure);
        for other in ["ws://host/", "unix:/run/x.sock", "/run/x.sock", ""] {
            assert_eq!(parse(other), None, "{other}");
        }
    }

    #[test]
    fn what_is_no_socket_is_refused() {
        let long = format!("ws+unix:/{}", "x".repeat(107));
        for (text, word) in [
            ("ws+unix:", "names no socket"),
            ("ws+unix:?a", "names no socket"),
            ("ws+unix::/a", "names no socket"),
            ("ws+unix://run/x.sock", "has a host"),
            ("ws+unix://localhost/run/x.sock", "has a host"),
            ("ws+unix:/run/%00", "107 bytes"),
            (&long, "107 bytes"),
        ] {
            let fault = parse(text).unwrap().unwrap_err();
            assert!(fault.contains(word), "{text}: {fault}");
        }
    }

    #[test]
    fn what_is_shown_leads_back_whatever_the_path() {
        let odd: Vec<u8> = (1..=u8::MAX).collect();
        let odd = odd.chunks(100).map(<[u8]>::to_vec);
        let plain = ["/run/picows.sock", "/a:/b", "a:b", "//a/b", "/a%20b", "/a?b#c", "/a b\n"];
        for path in plain.iter().map(|it| it.as_bytes().to_vec()).chain(odd) {
            let path = PathBuf::from(OsString::from_vec(path));
            let shown = Shown { scheme: "ws", path: &path }.to_string();
            assert!(shown.bytes().all(|byte| byte.is_ascii_graphic()), "{shown}");
            let url = parse(&shown).unwrap().unwrap();
            assert_eq!((url.socket, url.request_target), (path, ""), "{shown}");
        }
        let path = Path::new("/run/x-1.sock");
        assert_eq!(Shown { scheme: "wss", path }.to_string(), "wss+unix:/run/x-1.sock");
    }
}
