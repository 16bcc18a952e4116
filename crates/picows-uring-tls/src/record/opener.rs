//! Opening of records: where they lie, or to another place.

use std::ops::Range;

use crate::alert::Alert;
use crate::error::RecordError;
use crate::record::aead::{RecordKey, aad_of_tls12};
use crate::record::{
    Form, HEADER_BYTES, PLAINTEXT_BYTES_MAX, RECORD_BYTES_MAX, TAG_BYTES, content,
};

/// Outcome of opening the next record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opened {
    /// The record is not whole yet.
    Incomplete {
        /// Length of the record, as far as it is known: at least so many bytes have to be there. Bytes
        /// behind the input are not touched, and the input is as it was.
        needed: usize,
    },
    /// Data of the application. Never empty.
    Data {
        /// Length of the record.
        consumed: usize,
        /// Where the plaintext is: in the input, or in the output of `open_to`.
        range: Range<usize>,
    },
    /// A record without data of the application.
    Control {
        /// Length of the record.
        consumed: usize,
        /// Its meaning.
        control: Control,
    },
}

/// Meaning of a record without data of the application. All that it wants of the record layer is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Control {
    /// Nothing to do: an empty record, or a warning without meaning.
    Nothing,
    /// The peer seals with a new key from here on.
    KeyUpdate {
        /// Whether it wants a new key of this side as well; `Secure::owes_control` returns it too.
        requested: bool,
    },
    /// A session that a later connection can resume. It is kept in `ClientTls`.
    Ticket,
    /// The peer has sent all its data. What follows is to be ignored.
    CloseNotify,
    /// The peer ends the connection over a fault.
    Alert(Alert),
}

/// Handler of the handshake messages of an open connection.
pub(crate) trait PostHandshake {
    /// Returns the next key of the peer.
    fn next_receive_key(&mut self) -> Result<RecordKey, RecordError>;
    /// Keeps a session: `body` is the message without its header.
    fn keep_ticket(&mut self, body: &[u8]) -> Result<(), RecordError>;
    /// Returns whether this side is a client, which tickets are sent to.
    fn is_client(&self) -> bool;
}

/// The receiving half: key, position and counters against floods.
pub(crate) struct Opener {
    form: Form,
    key: RecordKey,
    /// A handshake message whose end is in a later record. Without memory outside of one.
    partial: Vec<u8>,
    /// Empty records in a row.
    empty: u8,
    /// Key updates without data of the application between them.
    key_updates: u8,
    /// Warnings, of the whole connection.
    warnings: u8,
    is_broken: bool,
}

/// Length, type and explicit parts of the record at the beginning of an input.
struct Head {
    content: u8,
    record_bytes: usize,
}

impl Opener {
    pub(crate) fn new(form: Form, key: RecordKey) -> Self {
        Self {
            form,
            key,
            partial: Vec::new(),
            empty: 0,
            key_updates: 0,
            warnings: 0,
            is_broken: false,
        }
    }

    /// Opens the next record where it lies.
    pub(crate) fn next(
        &mut self,
        input: &mut [u8],
        keys: &mut impl PostHandshake,
    ) -> Result<Opened, RecordError> {
        self.guarded(|opener| opener.open_in_place(input, keys))
    }

    /// Opens the next record to the end of `output`. Only data of the application stays there.
    pub(crate) fn open_to(
        &mut self,
        input: &[u8],
        output: &mut Vec<u8>,
        keys: &mut impl PostHandshake,
    ) -> Result<Opened, RecordError> {
        let start = output.len();
        let opened = self.guarded(|opener| opener.open_elsewhere(input, output, keys));
        match &opened {
            Ok(Opened::Data { range, .. }) => output.truncate(range.end),
            Ok(Opened::Incomplete { .. } | Opened::Control { .. }) | Err(_) => {
                output.truncate(start);
            }
        }
        opened
    }

    /// Opens nothing more after an error, as the position is not that of the peer any more.
    fn guarded(
        &mut self,
        open: impl FnOnce(&mut Self) -> Result<Opened, RecordError>,
    ) -> Result<Opened, RecordError> {
        if self.is_broken {
            return Err(RecordError::Broken);
        }
        let opened = open(self);
        self.is_broken = opened.is_err();
        opened
    }

    fn open_in_place(
        &mut self,
        input: &mut [u8],
        keys: &mut impl PostHandshake,
    ) -> Result<Opened, RecordError> {
        let Head { content, record_bytes } = match self.head(input)? {
            Ok(head) => head,
            Err(needed) => return Ok(Opened::Incomplete { needed }),
        };
        let (header, body) = input[..record_bytes].split_at_mut(HEADER_BYTES);
        let (nonce, aad, explicit) = self.nonce_and_aad(header, body)?;
        let aad = &aad[..if self.form == Form::Tls13 { HEADER_BYTES } else { aad.len() }];
        let sealed = &mut body[explicit..];
        let plain = self.key.aead().open(nonce, aad, sealed).ok_or(RecordError::BadMac)?;
        let start = HEADER_BYTES + explicit;
        self.opened(content, record_bytes, start, &body[explicit..explicit + plain], keys)
    }

    fn open_elsewhere(
        &mut self,
        input: &[u8],
        output: &mut Vec<u8>,
        keys: &mut impl PostHandshake,
    ) -> Result<Opened, RecordError> {
        let Head { content, record_bytes } = match self.head(input)? {
            Ok(head) => head,
            Err(needed) => return Ok(Opened::Incomplete { needed }),
        };
        let (header, body) = input[..record_bytes].split_at(HEADER_BYTES);
        let (nonce, aad, explicit) = self.nonce_and_aad(header, body)?;
        let aad = &aad[..if self.form == Form::Tls13 { HEADER_BYTES } else { aad.len() }];
        let sealed = &body[explicit..];
        let start = output.len();
        output.resize(start + sealed.len() - TAG_BYTES, 0);
        let opened = self.key.aead().open_to(nonce, aad, sealed, &mut output[start..]);
        opened.ok_or(RecordError::BadMac)?;
        self.opened(content, record_bytes, start, &output[start..], keys)
    }

    /// Reads the header of the next record. `Ok(Err(…))` is how many bytes are needed.
    fn head(&self, input: &[u8]) -> Result<Result<Head, usize>, RecordError> {
        let Some(&[content, major, minor, high, low]) = input.first_chunk() else {
            return Ok(Err(HEADER_BYTES));
        };
        let is_known = match self.form {
            Form::Tls13 => content == content::DATA,
            Form::Tls12Gcm | Form::Tls12ChaCha => {
                matches!(content, content::DATA | content::ALERT | content::HANDSHAKE)
            }
        };
        if !is_known {
            return Err(RecordError::UnexpectedType(content));
        }
        if (major, minor) != (3, 3) {
            return Err(RecordError::BadVersion(u16::from_be_bytes([major, minor])));
        }
        let body_bytes = usize::from(u16::from_be_bytes([high, low]));
        let record_bytes = HEADER_BYTES + body_bytes;
        if record_bytes > RECORD_BYTES_MAX {
            return Err(RecordError::Overflow);
        }
        // Shorter ones cannot have been sealed.
        if record_bytes < self.form.prefix() + TAG_BYTES {
            return Err(RecordError::BadMac);
        }
        if input.len() < record_bytes {
            return Ok(Err(record_bytes));
        }
        if self.key.records_left() == 0 {
            return Err(RecordError::KeyExhausted);
        }
        Ok(Ok(Head { content, record_bytes }))
    }

    /// Returns the nonce, the additional data (the header first in TLS 1.3), and how many bytes of the
    /// body are a part of the nonce.
    fn nonce_and_aad(
        &self,
        header: &[u8],
        body: &[u8],
    ) -> Result<([u8; 12], [u8; 13], usize), RecordError> {
        let explicit = self.form.prefix() - HEADER_BYTES;
        let plain = body.len().checked_sub(explicit + TAG_BYTES).ok_or(RecordError::BadMac)?;
        let (nonce, aad) = match self.form {
            Form::Tls13 => {
                let mut aad = [0; 13];
                aad[..HEADER_BYTES].copy_from_slice(header);
                (self.key.nonce(), aad)
            }
            Form::Tls12Gcm => {
                let explicit = *body.first_chunk().ok_or(RecordError::BadMac)?;
                (self.key.nonce_with(explicit), aad_of_tls12(self.key.sequence(), header[0], plain))
            }
            Form::Tls12ChaCha => {
                (self.key.nonce(), aad_of_tls12(self.key.sequence(), header[0], plain))
            }
        };
        Ok((nonce, aad, explicit))
    }

    /// Judges an opened record, whose content begins at `start`.
    fn opened(
        &mut self,
        outer: u8,
        consumed: usize,
        start: usize,
        inner: &[u8],
        keys: &mut impl PostHandshake,
    ) -> Result<Opened, RecordError> {
        self.key.advance();
        let (content, plain) = match self.form {
            Form::Tls13 => {
                // The type of content counts, and so does padding (RFC 8446 §5.4).
                if inner.len() > PLAINTEXT_BYTES_MAX + 1 {
                    return Err(RecordError::Overflow);
                }
                let end =
                    inner.iter().rposition(|&byte| byte != 0).ok_or(RecordError::NoContent)?;
                (inner[end], &inner[..end])
            }
            Form::Tls12Gcm | Form::Tls12ChaCha => (outer, inner),
        };
        if plain.len() > PLAINTEXT_BYTES_MAX {
            return Err(RecordError::Overflow);
        }
        if content != content::HANDSHAKE && !self.partial.is_empty() {
            return Err(RecordError::Interrupted);
        }
        let control = match content {
            content::DATA if !plain.is_empty() => {
                (self.empty, self.key_updates) = (0, 0);
                return Ok(Opened::Data { consumed, range: start..start + plain.len() });
            }
            content::DATA => {
                self.empty += 1;
                if self.empty > EMPTY_RECORDS_MAX {
                    return Err(RecordError::TooManyEmpty);
                }
                Control::Nothing
            }
            content::ALERT => self.alert(plain)?,
            content::HANDSHAKE => self.handshake(plain, keys)?,
            other => return Err(RecordError::UnexpectedType(other)),
        };
        Ok(Opened::Control { consumed, control })
    }

    fn alert(&mut self, plain: &[u8]) -> Result<Control, RecordError> {
        let &[level, description] = plain else {
            return Err(RecordError::BadAlert);
        };
        let alert = Alert(description);
        if alert == Alert::CLOSE_NOTIFY {
            return Ok(Control::CloseNotify);
        }
        let is_warning = match self.form {
            // All others are fatal, whatever their level is (RFC 8446 §6).
            Form::Tls13 => alert == Alert::USER_CANCELED,
            Form::Tls12Gcm | Form::Tls12ChaCha => match level {
                1 => true,
                2 => false,
                _ => return Err(RecordError::BadAlert),
            },
        };
        if !is_warning {
            return Ok(Control::Alert(alert));
        }
        self.warnings += 1;
        if self.warnings > WARNINGS_MAX {
            Err(RecordError::TooManyWarnings)
        } else {
            Ok(Control::Nothing)
        }
    }

    /// Handles the handshake messages of a record, of which the first may have begun in an earlier one.
    fn handshake(
        &mut self,
        plain: &[u8],
        keys: &mut impl PostHandshake,
    ) -> Result<Control, RecordError> {
        if self.form != Form::Tls13 {
            return Err(RecordError::Renegotiation);
        }
        // RFC 8446 §5.1: no empty fragments.
        if plain.is_empty() {
            return Err(RecordError::NoContent);
        }
        if self.partial.is_empty() {
            let (control, rest) = self.messages(plain, keys)?;
            self.partial = rest.to_vec();
            return Ok(control);
        }
        let mut joined = std::mem::take(&mut self.partial);
        joined.extend_from_slice(plain);
        let (control, rest) = self.messages(&joined, keys)?;
        // Not copied while the first message is not whole, which may take thousands of records.
        let used = joined.len() - rest.len();
        if used < joined.len() {
            joined.drain(..used);
            self.partial = joined;
        }
        Ok(control)
    }

    /// Handles the messages that are whole, and returns the rest.
    fn messages<'a>(
        &mut self,
        mut rest: &'a [u8],
        keys: &mut impl PostHandshake,
    ) -> Result<(Control, &'a [u8]), RecordError> {
        let mut control = Control::Nothing;
        while let Some(&kind) = rest.first() {
            let is_allowed = kind == KEY_UPDATE || (kind == NEW_SESSION_TICKET && keys.is_client());
            if !is_allowed {
                return Err(RecordError::UnexpectedHandshake(kind));
            }
            let Some((&[_, a, b, c], behind)) = rest.split_first_chunk() else {
                break;
            };
            let body_bytes = u32::from_be_bytes([0, a, b, c]) as usize;
            if body_bytes > HANDSHAKE_BYTES_MAX {
                return Err(RecordError::HandshakeTooLong);
            }
            if kind == KEY_UPDATE && body_bytes != 1 {
                return Err(RecordError::BadKeyUpdate);
            }
            let Some((body, behind)) = behind.split_at_checked(body_bytes) else {
                break;
            };
            rest = behind;
            control = if kind == KEY_UPDATE {
                self.key_update(body, rest, keys)?
            } else {
                keys.keep_ticket(body)?;
                Control::Ticket
            };
        }
        Ok((control, rest))
    }

    fn key_update(
        &mut self,
        body: &[u8],
        behind: &[u8],
        keys: &mut impl PostHandshake,
    ) -> Result<Control, RecordError> {
        let requested = match body {
            [0] => false,
            [1] => true,
            _ => return Err(RecordError::BadKeyUpdate),
        };
        // The key changes with the next record, so the message is the last of its own.
        if !behind.is_empty() {
            return Err(RecordError::BadKeyUpdate);
        }
        self.key_updates += 1;
        if self.key_updates > KEY_UPDATES_MAX {
            return Err(RecordError::TooManyKeyUpdates);
        }
        self.key = keys.next_receive_key()?;
        Ok(Control::KeyUpdate { requested })
    }
}

const NEW_SESSION_TICKET: u8 = 4;
const KEY_UPDATE: u8 = 24;

/// As rustls allows. OpenSSL sends an empty record before data in some versions, one at a time.
const EMPTY_RECORDS_MAX: u8 = 32;
/// As rustls allows. Each costs the derivation of a key.
const KEY_UPDATES_MAX: u8 = 32;
/// As rustls allows.
const WARNINGS_MAX: u8 = 4;
/// A ticket that carries a chain of certificates has less than 16 KiB.
const HANDSHAKE_BYTES_MAX: usize = 64 * 1024;
