//! An open connection: both halves of the record layer, and what rustls keeps for later keys.

use rustls::client::ClientConnectionData;
use rustls::kernel::KernelConnection;
use rustls::{ConnectionTrafficSecrets, ExtractedSecrets, Tls13CipherSuite};
use zeroize::Zeroizing;

use crate::alert::Alert;
use crate::error::RecordError;
use crate::info::TlsVersion;
use crate::provider::Provider;
use crate::record::{
    Cipher, Form, Key, Opened, Opener, PLAINTEXT_BYTES_MAX, PostHandshake, RecordKey, Sealer,
    content,
};
use crate::secret::Secret;

/// The record layer of an open connection: opens what the peer sends, seals what it gets.
///
/// Does no I/O. Errors are final: after one, [`Secure::seal_alert`] with [`RecordError::alert`] is owed to
/// the peer, and nothing else is sent.
pub struct Secure {
    opener: Opener,
    sealer: Sealer,
    keys: Keys,
    /// Most plaintext in a record, by the settings.
    record_bytes_max: u16,
}

/// Later keys, and tickets.
struct Keys {
    provider: Provider,
    /// Records that may be sealed with one key.
    records_max: u64,
    kernel: Kernel,
    /// Whether the peer is owed a key update of ours.
    owes_key_update: bool,
}

/// Source of later keys.
enum Kernel {
    /// TLS 1.2 has neither key updates nor later tickets.
    None,
    /// A client's: rustls also keeps its tickets.
    Client(Box<KernelConnection<ClientConnectionData>>),
    /// A server's.
    Server(Box<ServerSecrets>),
}

/// Secrets from which the later keys of a server are derived.
struct ServerSecrets {
    suite: &'static Tls13CipherSuite,
    cipher: Cipher,
    client: Secret,
    server: Secret,
}

/// State of rustls at the end of a handshake, as far as it is kept.
pub(crate) enum Extracted {
    /// On the client.
    Client(Box<KernelConnection<ClientConnectionData>>),
    /// On the server: the secrets of the client and its own, in TLS 1.3.
    Server(Option<Secret>, Option<Secret>),
}

impl Secure {
    /// Takes over from rustls.
    pub(crate) fn new(
        provider: Provider,
        secrets: ExtractedSecrets,
        extracted: Extracted,
        tls13: Option<&'static Tls13CipherSuite>,
        records_max: u64,
    ) -> Result<Self, RecordError> {
        let (cipher, ..) = parts(&secrets.tx.1)?;
        let form = Form::new(tls13.is_some(), cipher);
        let kernel = match (tls13, extracted) {
            (None, _) => Kernel::None,
            (Some(_), Extracted::Client(kernel)) => Kernel::Client(kernel),
            (Some(suite), Extracted::Server(Some(client), Some(server))) => {
                Kernel::Server(Box::new(ServerSecrets { suite, cipher, client, server }))
            }
            // rustls logs both secrets in every handshake of TLS 1.3.
            (Some(_), Extracted::Server(..)) => return Err(RecordError::Broken),
        };
        let keys = Keys { provider, records_max, kernel, owes_key_update: false };
        let sealer = Sealer::new(form, keys.record_key(secrets.tx, records_max)?);
        let opener = Opener::new(form, keys.record_key(secrets.rx, u64::MAX)?);
        Ok(Self { opener, sealer, keys, record_bytes_max: PLAINTEXT_BYTES_MAX as u16 })
    }

    /// Returns the version.
    pub fn version(&self) -> TlsVersion {
        if self.sealer.form == Form::Tls13 { TlsVersion::Tls13 } else { TlsVersion::Tls12 }
    }

    /// Returns how many bytes of plaintext a record should have at most, by the settings.
    #[inline]
    pub fn record_bytes_max(&self) -> usize {
        usize::from(self.record_bytes_max)
    }

    pub(crate) fn set_record_bytes_max(&mut self, bytes: usize) {
        // At most 2^14.
        self.record_bytes_max = bytes.min(PLAINTEXT_BYTES_MAX) as u16;
    }

    /// Opens the record at the beginning of `input`, where it lies, and decrypts it there.
    ///
    /// Does all that a record without data asks for: replaces the key of the peer, keeps a ticket. Call it
    /// again with what follows the record.
    pub fn next(&mut self, input: &mut [u8]) -> Result<Opened, RecordError> {
        let opened = self.opener.next(input, &mut self.keys);
        self.note(&opened);
        opened
    }

    /// Opens the record at the beginning of `input` and appends its data to `output`. The input stays as it
    /// is.
    pub fn open_to(&mut self, input: &[u8], output: &mut Vec<u8>) -> Result<Opened, RecordError> {
        let opened = self.opener.open_to(input, output, &mut self.keys);
        self.note(&opened);
        opened
    }

    fn note(&mut self, opened: &Result<Opened, RecordError>) {
        use crate::record::Control;
        if let Ok(Opened::Control { control: Control::KeyUpdate { requested: true }, .. }) = opened
        {
            self.keys.owes_key_update = true;
        }
    }

    /// Returns how many bytes have to be free before the plaintext of a record.
    pub fn prefix_bytes(&self) -> usize {
        self.sealer.form.prefix()
    }

    /// Returns how many bytes a record has behind its plaintext.
    pub fn suffix_bytes(&self) -> usize {
        self.sealer.form.suffix()
    }

    /// Returns how long the records of so much plaintext are, at `record_bytes_max` of it in each.
    pub fn sealed_bytes(&self, plaintext: usize, record_bytes_max: usize) -> usize {
        let per_record = record_bytes_max.clamp(1, PLAINTEXT_BYTES_MAX);
        plaintext + plaintext.div_ceil(per_record) * (self.prefix_bytes() + self.suffix_bytes())
    }

    /// Seals what is in `buffer` behind `start` as one record, in place.
    ///
    /// The bytes from `start` on are [`Self::prefix_bytes`] that are free, and then at most
    /// [`PLAINTEXT_BYTES_MAX`] of plaintext. [`Self::suffix_bytes`] are appended.
    pub fn seal_in_place(&mut self, buffer: &mut Vec<u8>, start: usize) -> Result<(), RecordError> {
        let end = buffer.len();
        if end.checked_sub(start).is_none_or(|length| length < self.prefix_bytes()) {
            return Err(RecordError::BadRoom);
        }
        buffer.resize(end + self.suffix_bytes(), 0);
        self.sealer.seal_slice(content::DATA, &mut buffer[start..])
    }

    /// Seals a record in place: `record` is the prefix, the plaintext and the suffix.
    pub fn seal_slice(&mut self, record: &mut [u8]) -> Result<(), RecordError> {
        self.sealer.seal_slice(content::DATA, record)
    }

    /// Seals `plaintext` to the end of `output`, in as many records as it takes.
    pub fn seal_from(&mut self, plaintext: &[u8], output: &mut Vec<u8>) -> Result<(), RecordError> {
        let bytes = self.sealed_bytes(plaintext.len(), PLAINTEXT_BYTES_MAX);
        output.reserve(bytes);
        for part in plaintext.chunks(PLAINTEXT_BYTES_MAX) {
            self.seal_record(content::DATA, part, output)?;
        }
        Ok(())
    }

    /// Seals `plaintext` as one record to `record`, which has exactly its length:
    /// [`Self::prefix_bytes`], the plaintext, [`Self::suffix_bytes`].
    pub fn seal_to_slice(
        &mut self,
        plaintext: &[u8],
        record: &mut [u8],
    ) -> Result<(), RecordError> {
        self.sealer.seal_to_slice(content::DATA, plaintext, record)
    }

    fn seal_record(
        &mut self,
        content: u8,
        plaintext: &[u8],
        output: &mut Vec<u8>,
    ) -> Result<(), RecordError> {
        let start = output.len();
        output.resize(start + self.prefix_bytes() + plaintext.len() + self.suffix_bytes(), 0);
        let sealed = self.sealer.seal_to_slice(content, plaintext, &mut output[start..]);
        if sealed.is_err() {
            output.truncate(start);
        }
        sealed
    }

    /// Returns whether a key update has to go out before the next record of data: the peer asked for it, or
    /// the key has sealed nearly as many records as are safe. [`Self::seal_owed`] seals it.
    pub fn owes_control(&self) -> bool {
        self.keys.owes_key_update || (self.is_near_limit() && self.keys.has_next_key())
    }

    /// Seals the key update that is owed, if one is.
    pub fn seal_owed(&mut self, output: &mut Vec<u8>) -> Result<(), RecordError> {
        if self.owes_control() { self.seal_key_update(false, output) } else { Ok(()) }
    }

    /// Returns whether the connection has to be closed, as its key has sealed nearly as many records as are
    /// safe and the version has no key update (TLS 1.2): about a thousand are left.
    pub fn must_close(&self) -> bool {
        self.is_near_limit() && !self.keys.has_next_key()
    }

    fn is_near_limit(&self) -> bool {
        self.sealer.key.records_left() <= RECORDS_IN_RESERVE
    }

    /// Seals a key update and uses the next key. With `request`, the peer is to update its own.
    ///
    /// TLS 1.3 only: with 1.2 nothing is appended.
    pub fn seal_key_update(
        &mut self,
        request: bool,
        output: &mut Vec<u8>,
    ) -> Result<(), RecordError> {
        if !self.keys.has_next_key() {
            return Ok(());
        }
        let message = [KEY_UPDATE, 0, 0, 1, u8::from(request)];
        self.seal_record(content::HANDSHAKE, &message, output)?;
        self.keys.owes_key_update = false;
        self.sealer.key = self.keys.next_send_key()?;
        Ok(())
    }

    /// Seals close_notify: no data follows.
    pub fn seal_close_notify(&mut self, output: &mut Vec<u8>) -> Result<(), RecordError> {
        self.seal_record(content::ALERT, &[WARNING, Alert::CLOSE_NOTIFY.0], output)
    }

    /// Seals a fatal alert: nothing follows.
    pub fn seal_alert(&mut self, alert: Alert, output: &mut Vec<u8>) -> Result<(), RecordError> {
        self.seal_record(content::ALERT, &[FATAL, alert.0], output)
    }
}

impl std::fmt::Debug for Secure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secure").field("form", &self.sealer.form).finish_non_exhaustive()
    }
}

impl Keys {
    fn has_next_key(&self) -> bool {
        !matches!(self.kernel, Kernel::None)
    }

    fn record_key(
        &self,
        (sequence, secrets): (u64, ConnectionTrafficSecrets),
        records_max: u64,
    ) -> Result<RecordKey, RecordError> {
        let (cipher, key, iv) = parts(&secrets)?;
        Ok(RecordKey::new(Key::new(self.provider, cipher, key)?, iv, sequence, records_max))
    }

    fn next_send_key(&mut self) -> Result<RecordKey, RecordError> {
        match &mut self.kernel {
            Kernel::None => Err(RecordError::Broken),
            Kernel::Client(kernel) => {
                let secrets = kernel.update_tx_secret().map_err(|_| RecordError::Broken)?;
                self.record_key(secrets, self.records_max)
            }
            Kernel::Server(secrets) => {
                let ServerSecrets { suite, cipher, server, .. } = &mut **secrets;
                next_key(self.provider, suite, *cipher, server, self.records_max)
            }
        }
    }
}

impl PostHandshake for Keys {
    fn next_receive_key(&mut self) -> Result<RecordKey, RecordError> {
        match &mut self.kernel {
            Kernel::None => Err(RecordError::Renegotiation),
            Kernel::Client(kernel) => {
                let secrets = kernel.update_rx_secret().map_err(|_| RecordError::Broken)?;
                self.record_key(secrets, u64::MAX)
            }
            Kernel::Server(secrets) => {
                let ServerSecrets { suite, cipher, client, .. } = &mut **secrets;
                next_key(self.provider, suite, *cipher, client, u64::MAX)
            }
        }
    }

    fn keep_ticket(&mut self, body: &[u8]) -> Result<(), RecordError> {
        match &mut self.kernel {
            Kernel::Client(kernel) => {
                kernel.handle_new_session_ticket(body).map_err(|_| RecordError::BadTicket)
            }
            Kernel::None | Kernel::Server(_) => Err(RecordError::BadTicket),
        }
    }

    fn is_client(&self) -> bool {
        matches!(self.kernel, Kernel::Client(_))
    }
}

/// Goes on to the next secret, and makes the key that comes from it.
fn next_key(
    provider: Provider,
    suite: &Tls13CipherSuite,
    cipher: Cipher,
    secret: &mut Secret,
    records_max: u64,
) -> Result<RecordKey, RecordError> {
    let (mut key, mut iv) = (Zeroizing::new([0; 32]), [0; 12]);
    let key = &mut key[..cipher.key_bytes()];
    secret.update(suite, key, &mut iv).ok_or(RecordError::Broken)?;
    Ok(RecordKey::new(Key::new(provider, cipher, key)?, iv, 0, records_max))
}

/// Returns cipher, key and IV.
fn parts(secrets: &ConnectionTrafficSecrets) -> Result<(Cipher, &[u8], [u8; 12]), RecordError> {
    let (cipher, key, iv) = match secrets {
        ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (Cipher::Aes128Gcm, key, iv),
        ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (Cipher::Aes256Gcm, key, iv),
        ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => {
            (Cipher::ChaCha20Poly1305, key, iv)
        }
        _ => return Err(RecordError::Broken),
    };
    let iv = iv.as_ref().try_into().map_err(|_| RecordError::Broken)?;
    Ok((cipher, key.as_ref(), iv))
}

const KEY_UPDATE: u8 = 24;
const WARNING: u8 = 1;
const FATAL: u8 = 2;

/// Records that a key has left when it is replaced: enough for the rest of a turn, alerts included.
const RECORDS_IN_RESERVE: u64 = 1024;
