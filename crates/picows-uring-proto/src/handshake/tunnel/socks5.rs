//! SOCKS5 (RFC 1928), without authentication or with user and password (RFC 1929).

use super::socks::{Answer, Socks, Verdict};
use super::{
    ProxyCredentials, ProxyProtocol, SocksRefusal, TunnelError, TunnelMisuse, short_enough,
};
use std::fmt;
use std::net::IpAddr;

/// The opening of a tunnel through a SOCKS5 proxy.
pub(super) struct Socks5 {
    /// A name, or an address without brackets.
    host: String,
    port: u16,
    credentials: Option<(String, String)>,
    stage: Stage,
    /// What this stage sends is sent.
    is_sent: bool,
    answer: Answer,
}

/// Request that the proxy gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Method,
    Password,
    Tunnel,
}

impl Socks5 {
    pub(super) const fn new(host: String, port: u16) -> Self {
        let answer = Answer::new();
        Self { host, port, credentials: None, stage: Stage::Method, is_sent: false, answer }
    }

    pub(super) fn set_credentials(
        &mut self,
        credentials: &ProxyCredentials,
    ) -> Result<(), TunnelMisuse> {
        let user = short_enough("user", &credentials.user)?;
        self.credentials = Some((user, short_enough("password", &credentials.password)?));
        Ok(())
    }

    pub(super) fn poll_transmit(&mut self, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.is_sent, true) {
            return;
        }
        match (self.stage, &self.credentials) {
            (Stage::Method, None) => out.extend_from_slice(&[VERSION, 1, NO_AUTHENTICATION]),
            (Stage::Method, Some(_)) => {
                out.extend_from_slice(&[VERSION, 2, NO_AUTHENTICATION, PASSWORD]);
            }
            (Stage::Password, credentials) => {
                out.push(PASSWORD_VERSION);
                for text in credentials.iter().flat_map(|(user, password)| [user, password]) {
                    push_text(out, text);
                }
            }
            (Stage::Tunnel, _) => {
                out.extend_from_slice(&[VERSION, CONNECT, 0]);
                match self.host.parse() {
                    Ok(IpAddr::V4(address)) => {
                        out.push(IPV4);
                        out.extend_from_slice(&address.octets());
                    }
                    Ok(IpAddr::V6(address)) => {
                        out.push(IPV6);
                        out.extend_from_slice(&address.octets());
                    }
                    Err(_) => {
                        out.push(NAME);
                        push_text(out, &self.host);
                    }
                }
                out.extend_from_slice(&self.port.to_be_bytes());
            }
        }
    }

    fn begin(&mut self, stage: Stage) -> Verdict {
        self.stage = stage;
        self.is_sent = false;
        Verdict::Send
    }

    fn judge_method(&mut self) -> Result<Verdict, TunnelError> {
        let had_credentials = self.credentials.is_some();
        match *self.answer.bytes() {
            [_, NO_AUTHENTICATION] => Ok(self.begin(Stage::Tunnel)),
            [_, PASSWORD] if had_credentials => Ok(self.begin(Stage::Password)),
            // Those that choose a method that was not offered want that one.
            [_, NO_ACCEPTABLE_METHOD | PASSWORD] => {
                Err(TunnelError::NoAcceptableMethod { had_credentials })
            }
            [_, _] => Err(TunnelError::Malformed("it chose a method that was not offered")),
            _ => Ok(Verdict::More),
        }
    }

    fn judge_tunnel(&self) -> Result<Verdict, TunnelError> {
        let bytes = self.answer.bytes();
        let (code, family, length) = (bytes.get(1), bytes.get(3), bytes.get(4));
        // A refusal need not be complete.
        if let Some(&code) = code.filter(|&&code| code != SUCCEEDED) {
            return Err(TunnelError::Socks(SocksRefusal { version: VERSION, code }));
        }
        let address_bytes = match (family, length) {
            (Some(&IPV4), _) => 4,
            (Some(&IPV6), _) => 16,
            (Some(&NAME), Some(&length)) => 1 + usize::from(length),
            (Some(&NAME) | None, _) => return Ok(Verdict::More),
            (Some(_), _) => {
                return Err(TunnelError::Malformed("an address of an unknown kind"));
            }
        };
        let is_complete = bytes.len() == HEAD_BYTES + address_bytes + PORT_BYTES;
        Ok(if is_complete { Verdict::Open } else { Verdict::More })
    }
}

impl Socks for Socks5 {
    fn answer(&mut self) -> &mut Answer {
        &mut self.answer
    }

    fn judge(&mut self) -> Result<Verdict, TunnelError> {
        if self.stage == Stage::Password {
            // The first byte is another version than that of the request, in some proxies.
            return match *self.answer.bytes() {
                [_, SUCCEEDED] => Ok(self.begin(Stage::Tunnel)),
                [_, _] => Err(TunnelError::BadCredentials),
                _ => Ok(Verdict::More),
            };
        }
        self.answer.check_first(VERSION, ProxyProtocol::Socks5)?;
        if self.stage == Stage::Method { self.judge_method() } else { self.judge_tunnel() }
    }
}

/// Without user and password.
impl fmt::Debug for Socks5 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socks5")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("stage", &self.stage)
            .finish_non_exhaustive()
    }
}

/// Appends a text behind its length, which was checked.
fn push_text(out: &mut Vec<u8>, text: &str) {
    out.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
    out.extend_from_slice(text.as_bytes());
}

const VERSION: u8 = 5;
/// Of the negotiation of user and password (RFC 1929 §2).
const PASSWORD_VERSION: u8 = 1;

/// Methods (RFC 1928 §3).
const NO_AUTHENTICATION: u8 = 0;
const PASSWORD: u8 = 2;
const NO_ACCEPTABLE_METHOD: u8 = 0xFF;

/// The command (RFC 1928 §4), and kinds of addresses.
const CONNECT: u8 = 1;
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;

const SUCCEEDED: u8 = 0;

/// Of an answer, in front of the address and behind it.
const HEAD_BYTES: usize = 4;
const PORT_BYTES: usize = 2;
