//! The part that all versions of SOCKS share: answers of a small length, judged byte by byte.

use super::{ProxyProtocol, TunnelError, TunnelStep};

/// An answer, as far as it has arrived.
#[derive(Debug)]
pub(super) struct Answer(Vec<u8>);

/// State of an answer with its last byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It goes on.
    More,
    /// It is complete, and something is to be sent.
    Send,
    /// It is complete, and the tunnel open.
    Open,
}

/// A version of SOCKS.
pub(super) trait Socks {
    fn answer(&mut self) -> &mut Answer;

    /// Judges the answer, of which one more byte is there.
    fn judge(&mut self) -> Result<Verdict, TunnelError>;
}

impl Answer {
    pub(super) const fn new() -> Self {
        Self(Vec::new())
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Checks the first byte, which is that of every answer.
    pub(super) fn check_first(&self, first: u8, spoken: ProxyProtocol) -> Result<(), TunnelError> {
        match self.0.first() {
            Some(&other) if other != first => {
                let looks_like = ProxyProtocol::of_answer(other);
                Err(TunnelError::WrongProtocol { spoken, looks_like })
            }
            _ => Ok(()),
        }
    }
}

/// Takes bytes of the proxy.
pub(super) fn handle_input(
    socks: &mut impl Socks,
    input: &[u8],
) -> Result<Option<TunnelStep>, TunnelError> {
    for (at, &byte) in input.iter().enumerate() {
        let answer = &mut socks.answer().0;
        answer.try_reserve(1).map_err(|_| TunnelError::OutOfMemory)?;
        answer.push(byte);
        let verdict = socks.judge()?;
        if verdict == Verdict::More {
            continue;
        }
        socks.answer().0.clear();
        if at + 1 < input.len() {
            return Err(TunnelError::ExtraBytes);
        }
        return Ok((verdict == Verdict::Open).then_some(TunnelStep::Open));
    }
    Ok(None)
}

/// The proxy ended the connection.
pub(super) fn ended(socks: &mut impl Socks) -> TunnelError {
    TunnelError::Closed { in_answer: !socks.answer().0.is_empty() }
}
