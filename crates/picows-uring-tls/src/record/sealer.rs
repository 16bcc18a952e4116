//! Sealing of records: in place, or from another place.

use crate::error::RecordError;
use crate::record::aead::{RecordKey, aad_of_tls12};
use crate::record::{Form, HEADER_BYTES, PLAINTEXT_BYTES_MAX, TAG_BYTES, content};

/// The sending half: key and position.
pub(crate) struct Sealer {
    pub(crate) form: Form,
    pub(crate) key: RecordKey,
}

impl Sealer {
    pub(crate) fn new(form: Form, key: RecordKey) -> Self {
        Self { form, key }
    }

    /// Seals a record in place: `record` has room for the prefix, the plaintext, and room for the suffix.
    pub(crate) fn seal_slice(&mut self, content: u8, record: &mut [u8]) -> Result<(), RecordError> {
        let overhead = self.form.prefix() + self.form.suffix();
        let plain = record.len().checked_sub(overhead).ok_or(RecordError::BadRoom)?;
        let (nonce, aad) = self.begin(content, plain, record)?;
        let body = &mut record[self.form.prefix()..];
        let sealed = if self.form == Form::Tls13 {
            body[plain] = content;
            let (in_out, tag) = body.split_at_mut(plain + 1);
            self.key.aead().seal(nonce, &aad[..HEADER_BYTES], in_out, tag)
        } else {
            let (in_out, tag) = body.split_at_mut(plain);
            self.key.aead().seal(nonce, &aad, in_out, tag)
        };
        self.key.advance();
        sealed.ok_or(RecordError::Broken)
    }

    /// Seals `plaintext` as one record to `record`, which has exactly its length.
    pub(crate) fn seal_to_slice(
        &mut self,
        content: u8,
        plaintext: &[u8],
        record: &mut [u8],
    ) -> Result<(), RecordError> {
        if record.len() != self.form.prefix() + plaintext.len() + self.form.suffix() {
            return Err(RecordError::BadRoom);
        }
        let (nonce, aad) = self.begin(content, plaintext.len(), record)?;
        let body = &mut record[self.form.prefix()..];
        let sealed = if self.form == Form::Tls13 {
            let aad = &aad[..HEADER_BYTES];
            self.key.aead().seal_to(nonce, aad, plaintext, &[content], body)
        } else {
            self.key.aead().seal_to(nonce, &aad, plaintext, &[], body)
        };
        self.key.advance();
        sealed.ok_or(RecordError::Broken)
    }

    /// Writes the header, and the explicit part of the nonce. Returns the nonce and the additional data.
    fn begin(
        &self,
        content: u8,
        plain: usize,
        record: &mut [u8],
    ) -> Result<([u8; 12], [u8; 13]), RecordError> {
        if plain > PLAINTEXT_BYTES_MAX {
            return Err(RecordError::BadRoom);
        }
        if self.key.records_left() == 0 {
            return Err(RecordError::KeyExhausted);
        }
        let outer = if self.form == Form::Tls13 { content::DATA } else { content };
        // At most 2^14 and the overhead: fits.
        let body_bytes = (self.form.prefix() - HEADER_BYTES + plain + self.form.suffix()) as u16;
        let [high, low] = body_bytes.to_be_bytes();
        let header = [outer, 3, 3, high, low];
        record[..HEADER_BYTES].copy_from_slice(&header);
        let nonce = self.key.nonce();
        if self.form == Form::Tls12Gcm {
            record[HEADER_BYTES..HEADER_BYTES + 8].copy_from_slice(&nonce[4..]);
        }
        let aad = if self.form == Form::Tls13 {
            let mut aad = [0; 13];
            aad[..HEADER_BYTES].copy_from_slice(&header);
            aad
        } else {
            aad_of_tls12(self.key.sequence(), content, plain)
        };
        Ok((nonce, aad))
    }
}

const _: () = assert!(PLAINTEXT_BYTES_MAX + HEADER_BYTES + 8 + TAG_BYTES < u16::MAX as usize);
