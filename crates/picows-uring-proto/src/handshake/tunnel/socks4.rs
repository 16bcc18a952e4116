//! SOCKS4, and SOCKS4a with a name that the proxy resolves.

use super::socks::{Answer, Socks, Verdict};
use super::{
    ProxyCredentials, ProxyProtocol, SocksRefusal, TunnelError, TunnelMisuse, short_enough,
};
use std::fmt;
use std::net::Ipv4Addr;

/// The opening of a tunnel through a SOCKS4 proxy: one request, one answer.
pub(super) struct Socks4 {
    address: Ipv4Addr,
    port: u16,
    name: Option<String>,
    user: String,
    is_sent: bool,
    answer: Answer,
}

impl Socks4 {
    pub(super) const fn new(address: Ipv4Addr, port: u16, name: Option<String>) -> Self {
        let answer = Answer::new();
        Self { address, port, name, user: String::new(), is_sent: false, answer }
    }

    pub(super) fn set_user(&mut self, credentials: &ProxyCredentials) -> Result<(), TunnelMisuse> {
        if !credentials.password.is_empty() {
            return Err(TunnelMisuse::PasswordOverSocks4);
        }
        self.user = short_enough("user", &credentials.user)?;
        Ok(())
    }

    pub(super) fn poll_transmit(&mut self, out: &mut Vec<u8>) {
        if self.is_sent {
            return;
        }
        self.is_sent = true;
        out.extend_from_slice(&[VERSION, CONNECT]);
        out.extend_from_slice(&self.port.to_be_bytes());
        out.extend_from_slice(&self.address.octets());
        out.extend_from_slice(self.user.as_bytes());
        out.push(0);
        if let Some(name) = &self.name {
            out.extend_from_slice(name.as_bytes());
            out.push(0);
        }
    }
}

impl Socks for Socks4 {
    fn answer(&mut self) -> &mut Answer {
        &mut self.answer
    }

    fn judge(&mut self) -> Result<Verdict, TunnelError> {
        self.answer.check_first(ANSWER_VERSION, ProxyProtocol::Socks4)?;
        match *self.answer.bytes() {
            // A refusal need not be complete.
            [_, code, ..] if code != GRANTED => {
                Err(TunnelError::Socks(SocksRefusal { version: VERSION, code }))
            }
            [_, _, _, _, _, _, _, _] => Ok(Verdict::Open),
            _ => Ok(Verdict::More),
        }
    }
}

/// Without the user.
impl fmt::Debug for Socks4 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socks4")
            .field("address", &self.address)
            .field("port", &self.port)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// An address that no server has: the name behind the user counts.
pub(super) const NAME_FOLLOWS: Ipv4Addr = Ipv4Addr::new(0, 0, 0, 1);

const VERSION: u8 = 4;
const CONNECT: u8 = 1;

/// The version of an answer is another one.
const ANSWER_VERSION: u8 = 0;
const GRANTED: u8 = 90;
