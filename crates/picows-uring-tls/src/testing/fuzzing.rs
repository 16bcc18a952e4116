//! Bodies of the fuzz targets, for bytes of a fuzzer or of a test with its seeds.
//!
//! Not part of the library: compiled for tests, and by `cargo fuzz`, whose targets in `fuzz/` call
//! these. Each states what holds for every input, beside that nothing panics.

use crate::client::ClientTls;
use crate::error::RecordError;
use crate::handshake::{Handshake, Step};
use crate::provider::Provider;
use crate::record::{
    Cipher, Control, Form, HEADER_BYTES, Key, Opened, Opener, PostHandshake, RECORD_BYTES_MAX,
    RecordKey, Sealer, TAG_BYTES,
};
use crate::secure::Secure;
use crate::server::ServerTls;

/// Records, good and bad, some with any inside that a sender with the key may choose: opened in place and
/// elsewhere, and delivered in two parts.
pub fn records(data: &[u8]) {
    let Some((&choice, script)) = data.split_first() else { return };
    let (form, cipher) = FORMS[usize::from(choice) % FORMS.len()];
    let stream = stream(form, cipher, script);
    let is_client = choice & 0x80 != 0;
    let (in_place, elsewhere) =
        (Reader::new(form, cipher, is_client), Reader::new(form, cipher, is_client));
    let whole = in_place.in_place(stream.clone(), stream.len());
    let copied = elsewhere.elsewhere(&stream);
    assert_eq!(whole, copied, "in place and elsewhere are the same");
    let cut = usize::from(*script.first().unwrap_or(&0)) * 7 % (stream.len() + 1);
    let parts = Reader::new(form, cipher, is_client).in_place(stream, cut);
    assert_eq!(whole, parts, "the length of the parts makes no difference");
}

/// Outcome of a stream: data, control records, and the error at its end.
#[derive(Debug, PartialEq)]
struct Outcome {
    data: Vec<u8>,
    controls: Vec<Control>,
    error: Option<RecordError>,
}

struct Reader {
    opener: Opener,
    keys: Keys,
    outcome: Outcome,
}

impl Reader {
    fn new(form: Form, cipher: Cipher, is_client: bool) -> Self {
        Self {
            opener: Opener::new(form, key(cipher, 0)),
            keys: Keys { cipher, is_client, generation: 0 },
            outcome: Outcome { data: Vec::new(), controls: Vec::new(), error: None },
        }
    }

    /// Opens what is there of the first `cut` bytes, and then the rest.
    fn in_place(mut self, mut stream: Vec<u8>, cut: usize) -> Outcome {
        let mut start = 0;
        for end in [cut, stream.len()] {
            while self.outcome.error.is_none() {
                let input = &mut stream[start..end];
                let opened = self.opener.next(input, &mut self.keys);
                if let Ok(Opened::Data { range, .. }) = &opened {
                    self.outcome.data.extend_from_slice(&input[range.clone()]);
                }
                match self.note(opened, end - start) {
                    0 => break,
                    consumed => start += consumed,
                }
            }
        }
        self.outcome
    }

    fn elsewhere(mut self, mut stream: &[u8]) -> Outcome {
        while self.outcome.error.is_none() {
            let mut output = Vec::new();
            let opened = self.opener.open_to(stream, &mut output, &mut self.keys);
            if let Ok(Opened::Data { range, .. }) = &opened {
                assert_eq!(*range, 0..output.len());
                self.outcome.data.extend_from_slice(&output);
            } else {
                assert!(output.is_empty(), "only data stays in the output");
            }
            match self.note(opened, stream.len()) {
                0 => break,
                consumed => stream = &stream[consumed..],
            }
        }
        self.outcome
    }

    /// Returns the length of the record, or 0 at the end of what can be opened.
    fn note(&mut self, opened: Result<Opened, RecordError>, have: usize) -> usize {
        match opened {
            Ok(Opened::Incomplete { needed }) => {
                assert!(needed > have && needed <= RECORD_BYTES_MAX);
                0
            }
            Ok(Opened::Data { consumed, range }) => {
                assert!(!range.is_empty() && consumed <= have);
                consumed
            }
            Ok(Opened::Control { consumed, control }) => {
                assert!(consumed > HEADER_BYTES && consumed <= have);
                self.outcome.controls.push(control);
                consumed
            }
            Err(error) => {
                assert!(error.alert().name().is_some());
                self.outcome.error = Some(error);
                0
            }
        }
    }
}

/// Makes a stream of records: each part of the script is a kind, a length and so many bytes.
fn stream(form: Form, cipher: Cipher, mut script: &[u8]) -> Vec<u8> {
    let mut sealer = Sealer::new(form, key(cipher, 0));
    let (mut stream, mut generation) = (Vec::new(), 0);
    while let Some((&[kind, length], rest)) = script.split_first_chunk() {
        let (part, rest) = rest.split_at(usize::from(length).min(rest.len()));
        script = rest;
        match kind % 4 {
            // As it is.
            0 => stream.extend_from_slice(part),
            // A record of a type of its choice.
            1 => {
                let (content, plain) =
                    part.split_first().map_or((23, part), |(&first, rest)| (first, rest));
                let start = stream.len();
                stream.resize(start + form.prefix() + plain.len() + form.suffix(), 0);
                let sealed = sealer.seal_to_slice(content, plain, &mut stream[start..]);
                assert_eq!(sealed, Ok(()));
            }
            // TLS 1.3: padding of its choice, or nothing inside.
            2 => seal_inner(&mut sealer, part, &mut stream),
            // The next key, as behind a key update.
            _ => {
                generation = u8::wrapping_add(generation, 1);
                sealer.key = key(cipher, generation);
            }
        }
    }
    stream
}

fn seal_inner(sealer: &mut Sealer, inner: &[u8], stream: &mut Vec<u8>) {
    let start = stream.len();
    stream.extend_from_slice(&[23, 3, 3]);
    let body_bytes = (inner.len() + TAG_BYTES) as u16;
    stream.extend_from_slice(&body_bytes.to_be_bytes());
    let aad = stream[start..].to_vec();
    stream.extend_from_slice(inner);
    let mut tag = [0; TAG_BYTES];
    let key = &mut sealer.key;
    let sealed = key.aead().seal(key.nonce(), &aad, &mut stream[start + HEADER_BYTES..], &mut tag);
    assert!(sealed.is_some());
    key.advance();
    stream.extend_from_slice(&tag);
}

/// Keys that are known to both sides.
struct Keys {
    cipher: Cipher,
    is_client: bool,
    generation: u8,
}

impl PostHandshake for Keys {
    fn next_receive_key(&mut self) -> Result<RecordKey, RecordError> {
        self.generation = self.generation.wrapping_add(1);
        Ok(key(self.cipher, self.generation))
    }

    fn keep_ticket(&mut self, body: &[u8]) -> Result<(), RecordError> {
        if body.is_empty() { Err(RecordError::BadTicket) } else { Ok(()) }
    }

    fn is_client(&self) -> bool {
        self.is_client
    }
}

fn key(cipher: Cipher, generation: u8) -> RecordKey {
    let bytes = [generation; 32];
    let bytes = if cipher == Cipher::Aes128Gcm { &bytes[..16] } else { &bytes[..] };
    let key = Key::new(Provider::preferred(), cipher, bytes).expect("the length fits");
    RecordKey::new(key, [generation; 12], 0, u64::MAX)
}

const FORMS: [(Form, Cipher); 5] = [
    (Form::Tls13, Cipher::Aes128Gcm),
    (Form::Tls13, Cipher::ChaCha20Poly1305),
    (Form::Tls12Gcm, Cipher::Aes128Gcm),
    (Form::Tls12Gcm, Cipher::Aes256Gcm),
    (Form::Tls12ChaCha, Cipher::ChaCha20Poly1305),
];

/// A handshake of one side with any bytes, or of both with bytes that were changed on their way.
pub fn handshake(data: &[u8], server: &ServerTls, client: &ClientTls) {
    let Some((&choice, rest)) = data.split_first() else { return };
    let server = Handshake::server(server).expect("the settings are good");
    let client = Handshake::client(client, "localhost").expect("a name");
    match choice % 3 {
        0 => alone(server, choice, rest),
        1 => alone(client, choice, rest),
        _ => both(client, server, rest),
    }
}

/// Feeds bytes in pieces whose length is the choice's.
fn alone(mut handshake: Handshake, choice: u8, bytes: &[u8]) {
    let mut output = Vec::new();
    let begun = handshake.advance(&mut [], &mut output);
    assert!(matches!(begun, Ok(Step::NeedsMore { consumed: 0 })));
    for piece in bytes.chunks(1 + usize::from(choice)) {
        match handshake.advance(&mut piece.to_vec(), &mut output) {
            Ok(Step::NeedsMore { consumed }) => assert_eq!(consumed, piece.len()),
            Ok(Step::Done { consumed, .. }) => return assert!(consumed <= piece.len()),
            Err(error) => {
                assert!(!error.to_string().contains('\n'), "one line of a log");
                assert!(handshake.advance(&mut piece.to_vec(), &mut output).is_err(), "it is over");
                break;
            }
        }
    }
    assert!(output.len() < 64 * 1024);
}

/// Runs both sides. The script is places in the bytes of both directions, and what is changed there.
fn both(mut client: Handshake, mut server: Handshake, script: &[u8]) {
    let mut changes: Vec<(usize, u8)> = script
        .chunks_exact(3)
        .map(|part| (usize::from(u16::from_be_bytes([part[0], part[1]])), part[2]))
        .collect();
    let (mut to_server, mut to_client, mut passed) = (Vec::new(), Vec::new(), 0);
    let mut ends: [Option<Box<Secure>>; 2] = [None, None];
    let Ok(_) = client.advance(&mut [], &mut to_server) else { return };
    while ends.iter().any(Option::is_none) && to_server.len() + to_client.len() > 0 {
        for (side, end) in ends.iter_mut().enumerate() {
            let (handshake, input, output) = if side == 0 {
                (&mut server, &mut to_server, &mut to_client)
            } else {
                (&mut client, &mut to_client, &mut to_server)
            };
            let mut bytes = std::mem::take(input);
            change(&mut bytes, &mut passed, &mut changes);
            if end.is_some() {
                continue;
            }
            match handshake.advance(&mut bytes, output) {
                Ok(Step::NeedsMore { .. }) => {}
                Ok(Step::Done { secure, consumed, .. }) => {
                    *end = Some(secure);
                    *input = bytes.split_off(consumed);
                }
                Err(_) => return,
            }
        }
    }
    let [Some(mut server), Some(mut client)] = ends else { return };
    // Both have agreed, whatever was changed: records go through.
    let mut record = Vec::new();
    client.seal_from(b"data", &mut record).expect("a fresh key");
    let mut data = Vec::new();
    server.open_to(&record, &mut data).expect("the same key");
    assert_eq!(data, b"data");
}

fn change(bytes: &mut [u8], passed: &mut usize, changes: &mut Vec<(usize, u8)>) {
    let start = *passed;
    *passed += bytes.len();
    changes.retain(|&(place, bits)| {
        let Some(byte) = place.checked_sub(start).and_then(|at| bytes.get_mut(at)) else {
            return true;
        };
        *byte ^= bits;
        false
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificate::Certificate;

    /// Runs a body over the seeds of its target.
    fn over_seeds(target: &str, mut body: impl FnMut(&[u8])) {
        let folder = format!("{}/../../fuzz/seeds/{target}", env!("CARGO_MANIFEST_DIR"));
        let mut count = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            body(&std::fs::read(entry.unwrap().path()).unwrap());
            count += 1;
        }
        assert!(count > 0);
    }

    /// Numbers from a seed, as bytes.
    fn noise(seed: u64, bytes: usize) -> Vec<u8> {
        let mut state = seed | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        };
        (0..bytes).map(|_| next()).collect()
    }

    #[test]
    fn records_of_the_seeds_and_of_noise_keep_the_rules() {
        over_seeds("tls_records", records);
        for seed in 0..2_000 {
            records(&noise(seed, seed as usize % 200));
        }
    }

    #[test]
    fn handshakes_of_the_seeds_and_of_noise_keep_the_rules() {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let pair = Certificate::pem(made.cert.pem(), made.signing_key.serialize_pem());
        let server = ServerTls::builder().certificate(pair).build().unwrap();
        let client = ClientTls::builder().danger_accept_invalid_certificates().build().unwrap();
        over_seeds("tls_handshake", |data| handshake(data, &server, &client));
        for seed in 0..200 {
            let mut script = vec![2];
            let places = noise(seed, seed as usize % 4 * 3);
            // Within the flights of both sides.
            script.extend(places.chunks(3).flat_map(|part| [part[0] % 12, part[1], part[2]]));
            handshake(&script, &server, &client);
            handshake(&noise(seed, 100), &server, &client);
        }
    }
}
