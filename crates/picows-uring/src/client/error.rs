//! Errors of connecting: what happened, to whom, and what to try.

mod clone;

use super::proxy::{ProxyFault, shown_proxy};
use crate::config::WrongSetting;
use crate::error::{descriptor_cure, name_cure, shown};
#[cfg(feature = "_tls")]
use crate::tls::{HandshakeError, TlsError};
use picows_uring_proto::internal::debug_with_text;
use picows_uring_proto::{
    HandshakeMisuse, RejectedResponse, RequestError, ResponseError, ResponseHead,
};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};
use thiserror::Error;

/// A connection could not be made.
///
/// ```
/// use picows_uring::{Connect, ConnectFault, EchoListener};
///
/// let outcome = picows_uring::run(async {
///     Connect::new("http://127.0.0.1/").connect(EchoListener).await
/// })?;
/// let error = outcome.unwrap_err();
/// assert!(matches!(error.fault(), ConnectFault::Url(_)));
/// assert!(error.to_string().starts_with("cannot connect to http://127.0.0.1/: "));
/// # Ok::<(), picows_uring::Error>(())
/// ```
pub struct ConnectError {
    url: String,
    fault: ConnectFault,
}

/// The fault of a connection that was to be made.
///
/// ```
/// use picows_uring::{Connect, ConnectFault, EchoListener};
///
/// let attempt = Connect::new("ws://127.0.0.1:1/").connect(EchoListener);
/// let error = picows_uring::run(attempt)?.unwrap_err();
/// match error.fault() {
///     ConnectFault::Unreachable { attempts } => assert_eq!(attempts[0].0.port(), 1),
///     ConnectFault::Response(refused) => println!("the server is there, and says no: {refused}"),
///     other => println!("{other}"),
/// }
/// assert!(error.is_transient(), "it may be there later");
/// # Ok::<(), picows_uring::Error>(())
/// ```
#[derive(Error)]
#[non_exhaustive]
pub enum ConnectFault {
    /// The URL cannot be used.
    #[error("{0}")]
    Url(String),
    /// An option cannot be used, such as a header that is not one.
    #[error(transparent)]
    Option(#[from] HandshakeMisuse),
    /// A setting makes no sense, or contradicts another.
    #[error("{setting}: {fault}")]
    Setting {
        /// The setting, by the name of its method of [`Connect`](crate::Connect).
        setting: &'static str,
        /// What is wrong with it, with the value, and what to do instead.
        fault: String,
    },
    /// The request would be one that no server takes, such as one with 64 KiB of headers.
    #[error("the upgrade request cannot be sent ({0}): give fewer or shorter headers")]
    Request(#[from] RequestError),
    /// `wss://`, and this build speaks no TLS.
    #[error(
        "this build has no TLS: build picows-uring with its feature `tls`, or use ws:// to a TLS proxy on \
         this machine, such as stunnel"
    )]
    TlsUnsupported,
    /// `ws://`, and the server speaks TLS on this port.
    #[error("the server speaks TLS on this port: use wss://")]
    TlsExpected,
    /// The settings of TLS cannot be used, such as roots that cannot be read.
    #[cfg(feature = "_tls")]
    #[error("TLS: {0}")]
    TlsSettings(#[from] TlsError),
    /// TLS failed: its handshake, or the server has refused what it was offered there.
    #[cfg(feature = "_tls")]
    #[error("TLS: {0}")]
    Tls(#[from] HandshakeError),
    /// There is no loop on this thread to connect in, or no longer.
    #[error(
        "no picows-uring loop runs on this thread: call it inside picows_uring::run or \
         Runtime::block_on, or in a task of a hosted server's worker; a loop that was stopped, or \
         left with Runtime::run_dedicated, makes no more connections; an embedded worker makes \
         them with Embedded::connect"
    )]
    NoRuntime,
    /// The name of the host has no address.
    #[error(
        "the name {} cannot be resolved ({source}): check its spelling and the DNS{}",
        shown(host).quoted(),
        name_cure()
    )]
    Resolve {
        /// The name.
        host: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// None of the addresses answered.
    #[error("{}", tell_attempts(attempts, "the server"))]
    Unreachable {
        /// Each address that was tried, and what happened.
        attempts: Vec<(SocketAddr, io::Error)>,
    },
    /// A Unix socket could not be connected to.
    #[error(
        "the Unix socket {} cannot be connected to ({}): {}",
        shown(path.as_os_str().as_bytes()).quoted(),
        shown_error(source),
        unix_cure(source)
    )]
    UnixSocket {
        /// Its path.
        path: PathBuf,
        /// What happened.
        source: io::Error,
    },
    /// A proxy, or the way through it.
    #[error("{}: {fault}", shown_proxy(proxy, *variable))]
    Proxy {
        /// The proxy as `scheme://host:port`, without user and password; empty when its URL cannot be
        /// read.
        proxy: String,
        /// The variable of the environment that named it.
        variable: Option<&'static str>,
        /// What is wrong.
        #[source]
        fault: ProxyFault,
    },
    /// The socket could not be set up.
    #[error("the socket cannot be set up: {}", shown_error(.0))]
    Socket(#[source] io::Error),
    /// It took too long.
    #[error("{stage} took longer than {limit:?}: {}, or the timeout is too short", stage.cause())]
    Timeout {
        /// What was being done.
        stage: ConnectStage,
        /// How long it was given.
        limit: Duration,
    },
    /// The server answered something that is no valid upgrade. Carries status, headers and the
    /// first part of the body.
    #[error("the server refused the upgrade: {0}")]
    Response(#[from] ResponseError),
    /// The server leads somewhere that is not followed.
    #[error("the server redirects to {}: {fault}", shown(location).quoted())]
    Redirect {
        /// Where it leads.
        location: String,
        /// Why it is not followed.
        fault: String,
        /// The answer that says so.
        response: Box<RejectedResponse>,
    },
    /// The server agreed, and then the closure that was to make the listener panicked. The
    /// connection is closed with 1011.
    #[error("the listener could not be made ({0}): mend the closure given to connect_with")]
    Listener(String),
    /// The connection ended before the server had answered.
    #[error("the server ended the connection before it answered{}", tell_cause(.0.as_ref()))]
    Disconnected(Option<io::Error>),
}

#[cfg(not(feature = "_tls"))]
debug_with_text! { ConnectFault: Url, Option, Setting, Request, TlsUnsupported, TlsExpected, NoRuntime, Resolve, Unreachable, UnixSocket, Proxy, Socket, Timeout, Response, Redirect, Listener, Disconnected }
#[cfg(feature = "_tls")]
debug_with_text! { ConnectFault: Url, Option, Setting, Request, TlsUnsupported, TlsExpected, TlsSettings, Tls, NoRuntime, Resolve, Unreachable, UnixSocket, Proxy, Socket, Timeout, Response, Redirect, Listener, Disconnected }

/// Stages of a connection that is being made.
///
/// ```
/// use picows_uring::{ConnectError, ConnectFault, ConnectStage};
///
/// /// Whether the resolver was too slow.
/// fn is_name_slow(error: &ConnectError) -> bool {
///     matches!(error.fault(), ConnectFault::Timeout { stage: ConnectStage::Resolve, .. })
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectStage {
    /// Looking up the name.
    Resolve,
    /// Connecting the socket.
    Connect,
    /// Connecting to a proxy, and having it open the way to the server.
    Proxy,
    /// Making the handshake of TLS.
    Tls,
    /// Waiting for the answer to the upgrade request.
    Handshake,
}

impl ConnectStage {
    /// Why it may take too long.
    fn cause(self) -> &'static str {
        match self {
            Self::Resolve => "the DNS is slow or out of reach",
            Self::Connect => "the address is out of reach, or the server is busy",
            Self::Proxy => {
                "the proxy is out of reach or busy, does not speak what its URL says, or cannot reach the \
                 server"
            }
            Self::Tls => "the server is busy or does not speak TLS",
            Self::Handshake => "the server is busy or does not speak WebSocket",
        }
    }
}

impl fmt::Display for ConnectStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Resolve => "resolving the name",
            Self::Connect => "connecting",
            Self::Proxy => "the way through the proxy",
            Self::Tls => "the TLS handshake",
            Self::Handshake => "the upgrade",
        })
    }
}

impl From<WrongSetting> for ConnectFault {
    fn from(WrongSetting { setting, fault }: WrongSetting) -> Self {
        Self::Setting { setting, fault }
    }
}

impl ConnectError {
    pub(crate) fn new(url: &str, fault: ConnectFault) -> Self {
        Self { url: url.to_owned(), fault }
    }

    /// The URL that was given.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What went wrong.
    #[must_use]
    pub fn fault(&self) -> &ConnectFault {
        &self.fault
    }

    /// Status and headers of the server's answer, if there was one that can be read.
    #[must_use]
    pub fn response(&self) -> Option<&ResponseHead> {
        self.rejected().map(RejectedResponse::head)
    }

    /// The first part of the body of the server's answer: at most 4 KiB, of the bytes that came
    /// within half a second. Without the framing of its chunks; still in its content coding, if any.
    #[must_use]
    pub fn body(&self) -> Option<&[u8]> {
        self.rejected().map(RejectedResponse::body)
    }

    /// How long the server, or a proxy that refused, asks to be left alone from now on, by the
    /// `Retry-After` of its answer (RFC 9110 §10.2.3), in seconds or as a date; zero when that has
    /// passed. Not bounded: a server may ask for a year.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let response = self.response().or_else(|| self.proxy_response())?;
        Some(response.retry_after()?.delay(now.as_secs()))
    }

    /// Status and headers of an HTTP proxy's answer, if it refused.
    fn proxy_response(&self) -> Option<&ResponseHead> {
        match &self.fault {
            ConnectFault::Proxy { fault: ProxyFault::Tunnel(error), .. } => error.response(),
            _ => None,
        }
    }

    fn rejected(&self) -> Option<&RejectedResponse> {
        match &self.fault {
            ConnectFault::Response(error) => error.response(),
            ConnectFault::Redirect { response, .. } => Some(response),
            _ => None,
        }
    }

    /// Whether trying again later may help: everything but what the caller, or the server on
    /// purpose, has decided. Of answers, those with a status of 408 (it waited too long), 425 (too
    /// early), 429 (too many requests) and 5xx.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match &self.fault {
            ConnectFault::Url(_)
            | ConnectFault::Option(_)
            | ConnectFault::Setting { .. }
            | ConnectFault::Request(_)
            | ConnectFault::TlsUnsupported
            | ConnectFault::TlsExpected
            | ConnectFault::NoRuntime
            | ConnectFault::Listener(_)
            | ConnectFault::Redirect { .. } => false,
            #[cfg(feature = "_tls")]
            ConnectFault::TlsSettings(_) | ConnectFault::Tls(_) => false,
            ConnectFault::Resolve { .. }
            | ConnectFault::Unreachable { .. }
            | ConnectFault::UnixSocket { .. }
            | ConnectFault::Socket(_)
            | ConnectFault::Timeout { .. }
            | ConnectFault::Disconnected(_) => true,
            ConnectFault::Proxy { fault, .. } => fault.is_transient(),
            // As picows has it, a server that fails may recover, and one that refuses will not;
            // but for those that say "not now" (RFC 9110 §15.5.9, RFC 8470 §5.2, RFC 6585 §4).
            ConnectFault::Response(_) => self.response().is_some_and(|response| {
                let status = response.status();
                status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429)
            }),
        }
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot connect to {}: {}", shown(&without_secrets(&self.url)), self.fault)
    }
}

debug_with_text! { ConnectError }

impl std::error::Error for ConnectError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        // The text has the fault in it already.
        self.fault.source()
    }
}

/// The URL without its query and without user and password: these may be credentials, and errors
/// end in logs.
fn without_secrets(url: &str) -> String {
    let (url, query) = match url.split_once('?') {
        Some((url, _)) => (url, "?..."),
        None => (url, ""),
    };
    let Some((scheme, rest)) = url.split_once("://") else { return format!("{url}{query}") };
    let authority_end = rest.find('/').unwrap_or(rest.len());
    match rest[..authority_end].rfind('@') {
        Some(at) => format!("{scheme}://...{}{query}", &rest[at..]),
        None => format!("{scheme}://{rest}{query}"),
    }
}

/// The text of an error that may be the application's, such as that of a socket hook.
pub(super) fn shown_error(error: &io::Error) -> String {
    shown(&error.to_string()).at_most(ERROR_BYTES_SHOWN_MAX).to_string()
}

pub(super) fn tell_attempts(attempts: &[(SocketAddr, io::Error)], who: &str) -> String {
    let shown = attempts.iter().take(ATTEMPTS_SHOWN_MAX);
    let told: Vec<_> = shown.map(|(at, error)| format!("{at}: {}", shown_error(error))).collect();
    let mut told = told.join("; ");
    if let Some(more) = attempts.len().checked_sub(ATTEMPTS_SHOWN_MAX).filter(|&more| more > 0) {
        told += &format!("; and {more} more");
    }
    // What this machine lacks is not what the server did.
    if let Some(cure) = attempts.iter().find_map(|(_, error)| descriptor_cure(error)) {
        return format!("no socket to be had ({told}): {cure}, or make fewer connections");
    }
    let is_any = |kind| attempts.iter().any(|(_, error)| error.kind() == kind);
    let cure = if is_any(io::ErrorKind::ConnectionRefused) {
        &format!("nothing listens there: check the port, and that {who} runs")
    } else if is_any(io::ErrorKind::AddrNotAvailable) || is_any(io::ErrorKind::AddrInUse) {
        "no local port is free, or this machine does not have the local address: widen \
         net.ipv4.ip_local_port_range, connect from more addresses of this machine, or \
         make fewer connections"
    } else if is_any(io::ErrorKind::Unsupported) {
        "use a local address and an address of the server that are both of IPv4, or both of IPv6"
    } else {
        "check the address and the network"
    };
    format!("no address answered ({told}): {cure}")
}

fn unix_cure(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "check the path, and that the server runs",
        io::ErrorKind::ConnectionRefused => "nothing listens there: check that the server runs",
        io::ErrorKind::PermissionDenied => {
            "connecting needs permission to write to the socket and to search its folders"
        }
        _ => descriptor_cure(error).unwrap_or("check the path, and what listens there"),
    }
}

fn tell_cause(cause: Option<&io::Error>) -> String {
    cause.map_or_else(String::new, |error| format!(": {error}"))
}

/// Addresses that the text names: a name may have hundreds.
const ATTEMPTS_SHOWN_MAX: usize = 8;

/// Bytes shown of each of their errors: longer than any of the kernel's.
const ERROR_BYTES_SHOWN_MAX: usize = 160;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::target::Target;

    #[test]
    fn the_text_shows_no_credentials() {
        for (url, shown) in [
            ("ws://host:1/path", "ws://host:1/path"),
            ("ws://host/path?token=secret", "ws://host/path?..."),
            ("ws://user:secret@host/", "ws://...@host/"),
            ("ws://user:sec@ret@host", "ws://...@host"),
            ("ws://host/a@b", "ws://host/a@b"),
            ("nonsense?secret", "nonsense?..."),
        ] {
            assert_eq!(without_secrets(url), shown);
        }
    }

    #[test]
    fn what_keeps_addresses_from_answering_has_its_own_cure() {
        let told = |errnos: &[i32]| {
            let at = SocketAddr::from(([192, 0, 2, 1], 80));
            let error = |&errno: &i32| (at, io::Error::from_raw_os_error(errno));
            let attempts = errnos.iter().map(error).collect();
            ConnectFault::Unreachable { attempts }.to_string()
        };
        for (errnos, cure) in [
            (
                &[libc::EMFILE][..],
                "(ulimit -n, LimitNOFILE= in systemd), or make fewer connections",
            ),
            (&[libc::ENFILE], "raise fs.file-max, or make fewer connections"),
            (&[libc::EADDRNOTAVAIL], "widen net.ipv4.ip_local_port_range, connect from more"),
            // With a local address, as bind(2) finds no port.
            (&[libc::EADDRINUSE], "widen net.ipv4.ip_local_port_range, connect from more"),
            (&[libc::EHOSTUNREACH], "check the address and the network"),
            // The family that this machine does not have beside the one that it has.
            (&[libc::EADDRNOTAVAIL, libc::ECONNREFUSED], "nothing listens there"),
            (&[libc::ECONNREFUSED, libc::EMFILE], "ulimit -n"),
        ] {
            let text = told(errnos);
            assert!(text.contains(cure) && text.contains("192.0.2.1:80: "), "{text}");
        }
    }

    #[test]
    fn the_text_is_one_bounded_line_whatever_it_quotes() {
        let evil = "\u{9b}2J\r\nERROR forged\x1b[31m\u{202e}";
        let long = "x".repeat(100_000);
        let at = SocketAddr::from(([192, 0, 2, 1], 80));
        for text in [evil, &long] {
            let error = || io::Error::other(text.to_owned());
            let faults = [
                Target::parse(&format!("{text}://a/")).unwrap_err(),
                Target::parse(&format!("a{}:b", text.replace(['[', ']', '/'], ""))).unwrap_err(),
                ConnectFault::Resolve { host: text.into(), source: io::ErrorKind::NotFound.into() },
                ConnectFault::Socket(error()),
                ConnectFault::Unreachable { attempts: (0..300).map(|_| (at, error())).collect() },
                HandshakeMisuse::InvalidHeaderName { name: text.into() }.into(),
                HandshakeMisuse::InvalidHeaderValue { name: text.into() }.into(),
                HandshakeMisuse::ReservedHeader { name: text.into() }.into(),
                HandshakeMisuse::InvalidHost { host: text.into() }.into(),
                HandshakeMisuse::InvalidTarget { target: text.into() }.into(),
                HandshakeMisuse::InvalidSubprotocol { subprotocol: text.into() }.into(),
                HandshakeMisuse::InvalidExtension { extension: text.into() }.into(),
            ];
            for fault in faults {
                let error = ConnectError::new(&format!("ws://host/{text}"), fault);
                for shown in [error.to_string(), format!("{error:?}"), error.fault.to_string()] {
                    let is_bad = |c: char| c.is_control() || c == '\u{202e}';
                    assert!(!shown.contains(is_bad) && shown.len() < 4096, "{shown:?}");
                }
            }
        }
    }

    #[test]
    fn a_chain_of_causes_has_each_once() {
        let source = io::Error::from(io::ErrorKind::NotFound);
        let fault = ConnectFault::Resolve { host: "nowhere".into(), source };
        let error = ConnectError::new("ws://nowhere/", fault);
        let cause = std::error::Error::source(&error).unwrap();
        assert!(cause.is::<io::Error>(), "{cause:?}");
    }
}
