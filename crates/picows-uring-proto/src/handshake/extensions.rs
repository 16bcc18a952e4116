//! Negotiation of permessage-deflate (RFC 7692 §5, §7.1), both sides.
//!
//! Decides on header values only. A server declines what it cannot honour and goes on without; a
//! client ends the handshake over an answer that does not fit its offer.

use super::head::{is_token, is_token_byte};
use super::{ResponseHead, UpgradeRequest};
use crate::debug_with_text;
use crate::escape::short;
use crate::extension::{
    Deflate, NegotiatedDeflate, WINDOW_BITS, WINDOW_BITS_DEFAULT, WINDOW_BITS_MAX,
};
use std::fmt;

/// Parameters of one offer or answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Parameters {
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    server_max_window_bits: Option<u8>,
    client_max_window_bits: ClientWindow,
}

/// The parameter that may come without a value in an offer (RFC 7692 §7.1.2.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum ClientWindow {
    #[default]
    Absent,
    /// Whatever the server chooses.
    Any,
    Bits(u8),
}

/// Why an answer about permessage-deflate ends the handshake of a client.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeflateFault {
    /// The extension is listed more than once.
    #[error("permessage-deflate is answered more than once")]
    Repeated,
    /// It is not in the form of a list of parameters.
    #[error("the parameters of permessage-deflate are malformed")]
    Malformed,
    /// A parameter that RFC 7692 does not have.
    #[error("permessage-deflate has no parameter {}", short(.0))]
    UnknownParameter(String),
    /// A parameter is there twice.
    #[error("parameter {0} of permessage-deflate is repeated")]
    RepeatedParameter(&'static str),
    /// The value of a parameter is missing, or is not one that it can have.
    #[error("parameter {0} of permessage-deflate has no valid value")]
    InvalidValue(&'static str),
    /// The parameter was not offered, or has a value beyond the one that was.
    #[error("parameter {0} of permessage-deflate is not what was offered")]
    NotOffered(&'static str),
    /// The offer demands the parameter, and the answer does not have it.
    #[error("parameter {0} of permessage-deflate was demanded and is missing")]
    Missing(&'static str),
}

debug_with_text! { DeflateFault: Repeated, Malformed, UnknownParameter, RepeatedParameter, InvalidValue, NotOffered, Missing }

impl Deflate {
    /// What a client with these settings offers: the value of `Sec-WebSocket-Extensions`, with a
    /// second offer to fall back on where the first demands something of the server.
    ///
    /// ```
    /// use picows_uring_proto::Deflate;
    ///
    /// let offer = Deflate::new().offer();
    /// assert_eq!(offer, "permessage-deflate; client_max_window_bits");
    /// ```
    #[must_use]
    pub fn offer(&self) -> String {
        let offers = self.offers().map(|offer| format!("{NAME}{offer}"));
        if offers[0] == offers[1] { offers[0].clone() } else { offers.join(", ") }
    }

    /// Its offer, and the one to fall back on, which may be the same.
    fn offers(&self) -> [Parameters; 2] {
        if self.bare_offer {
            return [Parameters::default(); 2];
        }
        let least = Parameters {
            client_no_context_takeover: !self.context_takeover,
            client_max_window_bits: ClientWindow::Any,
            ..Parameters::default()
        };
        let all = Parameters {
            server_no_context_takeover: !self.peer_context_takeover,
            server_max_window_bits: self.peer_window_bits,
            ..least
        };
        [all, least]
    }

    /// Accepts the first offer of a client that a server with these settings can honour. Returns
    /// what is agreed on, and the value of `Sec-WebSocket-Extensions` that answers it; `None` where
    /// there is no such offer.
    ///
    /// ```
    /// use picows_uring_proto::{Deflate, HeadLimits, UpgradeRequest};
    ///
    /// let head = b"GET / HTTP/1.1\r\nHost: a\r\n\
    ///     Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n";
    /// let (request, _) = UpgradeRequest::parse(head, &HeadLimits::default())?.unwrap();
    /// let (agreed, answer) = Deflate::new().accept(&request).unwrap();
    /// assert_eq!(answer, "permessage-deflate; client_max_window_bits=12");
    /// assert_eq!((agreed.window_bits, agreed.peer_window_bits), (12, 12));
    /// # Ok::<(), picows_uring_proto::RequestError>(())
    /// ```
    #[must_use]
    pub fn accept(&self, request: &UpgradeRequest) -> Option<(NegotiatedDeflate, String)> {
        let offers = request.extensions().flat_map(elements);
        let mut offers = offers.filter_map(|offer| parse(offer, Side::Offer)?.ok());
        let (agreed, answer) = offers.next().map(|offer| self.answer(&offer))?;
        Some((agreed, format!("{NAME}{answer}")))
    }

    fn answer(&self, offer: &Parameters) -> (NegotiatedDeflate, Parameters) {
        let is_bare = *offer == Parameters::default();
        let ours = self.window_bits.min(offer.server_max_window_bits.unwrap_or(WINDOW_BITS_MAX));
        let wanted = self.peer_window_bits.unwrap_or(WINDOW_BITS_DEFAULT);
        let peers = match offer.client_max_window_bits {
            ClientWindow::Absent => WINDOW_BITS_MAX,
            ClientWindow::Any => wanted,
            ClientWindow::Bits(bits) => wanted.min(bits),
        };
        let is_peers_asked = offer.client_max_window_bits != ClientWindow::Absent;
        let context_takeover = self.context_takeover && !offer.server_no_context_takeover;
        // Clients that send a bare offer are known to refer to earlier messages whatever the answer
        // says, so it says nothing of them.
        let peer_context_takeover =
            !offer.client_no_context_takeover && (self.peer_context_takeover || is_bare);
        let answer = Parameters {
            server_no_context_takeover: !context_takeover,
            client_no_context_takeover: !peer_context_takeover,
            server_max_window_bits: offer.server_max_window_bits.map(|_| ours),
            client_max_window_bits: match peers {
                bits if is_peers_asked && bits < WINDOW_BITS_MAX => ClientWindow::Bits(bits),
                _ => ClientWindow::Absent,
            },
        };
        let agreed = NegotiatedDeflate {
            window_bits: ours,
            peer_window_bits: peers,
            context_takeover,
            peer_context_takeover,
        };
        (agreed, answer)
    }

    /// Judges the answer of a server to the offer of a client with these settings. Returns what is
    /// agreed on, or `None` where the server has declined.
    ///
    /// # Errors
    ///
    /// When the answer does not fit the offer: the connection has to be failed (RFC 7692 §5.1).
    pub fn judge(
        &self,
        response: &ResponseHead,
    ) -> Result<Option<NegotiatedDeflate>, DeflateFault> {
        let answers = response.extensions().flat_map(elements);
        let mut answers = answers.filter_map(|answer| parse(answer, Side::Answer));
        let answer = match (answers.next(), answers.next()) {
            (None, _) => return Ok(None),
            (Some(answer), None) => answer?,
            (Some(_), Some(_)) => return Err(DeflateFault::Repeated),
        };
        let [offer, fallback] = self.offers();
        fits(&answer, &offer).or_else(|fault| fits(&answer, &fallback).map_err(|_| fault))?;
        let ours = match answer.client_max_window_bits {
            ClientWindow::Bits(bits) => self.window_bits.min(bits),
            ClientWindow::Absent | ClientWindow::Any => self.window_bits,
        };
        Ok(Some(NegotiatedDeflate {
            window_bits: ours,
            peer_window_bits: answer.server_max_window_bits.unwrap_or(WINDOW_BITS_MAX),
            context_takeover: self.context_takeover && !answer.client_no_context_takeover,
            peer_context_takeover: !answer.server_no_context_takeover,
        }))
    }
}

/// Whether a server may answer `offer` with `answer` (RFC 7692 §7.1).
fn fits(answer: &Parameters, offer: &Parameters) -> Result<(), DeflateFault> {
    if offer.server_no_context_takeover && !answer.server_no_context_takeover {
        return Err(DeflateFault::Missing(SERVER_NO_CONTEXT));
    }
    match (offer.server_max_window_bits, answer.server_max_window_bits) {
        (Some(_), None) => return Err(DeflateFault::Missing(SERVER_WINDOW)),
        (Some(offered), Some(bits)) if bits > offered => {
            return Err(DeflateFault::NotOffered(SERVER_WINDOW));
        }
        _ => {}
    }
    match (offer.client_max_window_bits, answer.client_max_window_bits) {
        (ClientWindow::Absent, ClientWindow::Bits(_)) => {
            Err(DeflateFault::NotOffered(CLIENT_WINDOW))
        }
        _ => Ok(()),
    }
}

/// Who has written a list of parameters.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Offer,
    Answer,
}

/// Parses the parameters of an element of the list; `None` where it is another extension.
fn parse(element: &[u8], side: Side) -> Option<Result<Parameters, DeflateFault>> {
    let mut parts = split(element, b';');
    if parts.next()?.trim_ascii() != NAME.as_bytes() {
        return None;
    }
    let mut parameters = Parameters::default();
    Some(parts.try_for_each(|part| parameters.add(part.trim_ascii(), side)).map(|()| parameters))
}

impl Parameters {
    fn add(&mut self, part: &[u8], side: Side) -> Result<(), DeflateFault> {
        let (name, value) = match part.iter().position(|&byte| byte == b'=') {
            Some(at) => {
                let value = unquoted(part[at + 1..].trim_ascii()).ok_or(DeflateFault::Malformed)?;
                (part[..at].trim_ascii(), Some(value))
            }
            None => (part, None),
        };
        if !is_token(name) {
            return Err(DeflateFault::Malformed);
        }
        let bits = value.as_deref().map(window_bits);
        match name {
            b"server_no_context_takeover" => {
                set_flag(SERVER_NO_CONTEXT, &mut self.server_no_context_takeover, value.is_none())
            }
            b"client_no_context_takeover" => {
                set_flag(CLIENT_NO_CONTEXT, &mut self.client_no_context_takeover, value.is_none())
            }
            b"server_max_window_bits" => match (self.server_max_window_bits, bits) {
                (Some(_), _) => Err(DeflateFault::RepeatedParameter(SERVER_WINDOW)),
                (None, Some(Some(bits))) => {
                    self.server_max_window_bits = Some(bits);
                    Ok(())
                }
                _ => Err(DeflateFault::InvalidValue(SERVER_WINDOW)),
            },
            b"client_max_window_bits" => {
                if self.client_max_window_bits != ClientWindow::Absent {
                    return Err(DeflateFault::RepeatedParameter(CLIENT_WINDOW));
                }
                self.client_max_window_bits = match bits {
                    Some(Some(bits)) => ClientWindow::Bits(bits),
                    None if side == Side::Offer => ClientWindow::Any,
                    _ => return Err(DeflateFault::InvalidValue(CLIENT_WINDOW)),
                };
                Ok(())
            }
            other => {
                Err(DeflateFault::UnknownParameter(String::from_utf8_lossy(other).into_owned()))
            }
        }
    }
}

fn set_flag(
    name: &'static str,
    flag: &mut bool,
    is_without_value: bool,
) -> Result<(), DeflateFault> {
    if !is_without_value {
        return Err(DeflateFault::InvalidValue(name));
    }
    if std::mem::replace(flag, true) {
        return Err(DeflateFault::RepeatedParameter(name));
    }
    Ok(())
}

/// A decimal number from 8 to 15 without leading zeros (RFC 7692 §7.1.2.1).
fn window_bits(value: &[u8]) -> Option<u8> {
    let bits = match value {
        [digit @ b'8'..=b'9'] => digit - b'0',
        [b'1', digit @ b'0'..=b'5'] => 10 + digit - b'0',
        _ => return None,
    };
    WINDOW_BITS.contains(&bits).then_some(bits)
}

/// The value of a parameter, which is a token, quoted or not (RFC 6455 §9.1).
fn unquoted(value: &[u8]) -> Option<Vec<u8>> {
    let Some(quoted) = value.strip_prefix(b"\"") else {
        return is_token(value).then(|| value.to_vec());
    };
    let quoted = quoted.strip_suffix(b"\"")?;
    let (mut token, mut is_escaped) = (Vec::new(), false);
    for &byte in quoted {
        match byte {
            b'\\' if !is_escaped => is_escaped = true,
            byte if is_token_byte(byte) => {
                token.push(byte);
                is_escaped = false;
            }
            _ => return None,
        }
    }
    (!is_escaped && !token.is_empty()).then_some(token)
}

/// The elements of a `Sec-WebSocket-Extensions` value, but for empty ones (RFC 9110 §5.6.1).
fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    split(value, b',').map(<[u8]>::trim_ascii).filter(|element| !element.is_empty())
}

/// The parts of `value` between separators that are not quoted.
fn split(value: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    value.split(move |&byte| {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_quoted => is_escaped = true,
            b'"' => is_quoted = !is_quoted,
            byte => return byte == separator && !is_quoted,
        }
        false
    })
}

/// The parameters as they follow the name.
impl fmt::Display for Parameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = [
            (SERVER_NO_CONTEXT, self.server_no_context_takeover),
            (CLIENT_NO_CONTEXT, self.client_no_context_takeover),
        ];
        for (name, _) in flags.iter().filter(|(_, is_set)| *is_set) {
            write!(f, "; {name}")?;
        }
        if let Some(bits) = self.server_max_window_bits {
            write!(f, "; {SERVER_WINDOW}={bits}")?;
        }
        match self.client_max_window_bits {
            ClientWindow::Absent => Ok(()),
            ClientWindow::Any => write!(f, "; {CLIENT_WINDOW}"),
            ClientWindow::Bits(bits) => write!(f, "; {CLIENT_WINDOW}={bits}"),
        }
    }
}

/// Its name (RFC 7692 §7).
pub(super) const NAME: &str = "permessage-deflate";
const SERVER_NO_CONTEXT: &str = "server_no_context_takeover";
const CLIENT_NO_CONTEXT: &str = "client_no_context_takeover";
const SERVER_WINDOW: &str = "server_max_window_bits";
const CLIENT_WINDOW: &str = "client_max_window_bits";
