//! Records against their rules, each with the alert that it costs.

use super::*;
use crate::alert::Alert;
use crate::error::RecordError;
use crate::provider::Provider;

/// Keys that count what handshake messages asked for.
#[derive(Default)]
struct Fake {
    is_client: bool,
    updates: u8,
    tickets: Vec<Vec<u8>>,
}

impl PostHandshake for Fake {
    fn next_receive_key(&mut self) -> Result<RecordKey, RecordError> {
        self.updates += 1;
        Ok(key(self.updates))
    }

    fn keep_ticket(&mut self, body: &[u8]) -> Result<(), RecordError> {
        self.tickets.push(body.to_vec());
        Ok(())
    }

    fn is_client(&self) -> bool {
        self.is_client
    }
}

fn key_of(cipher: Cipher, generation: u8) -> RecordKey {
    let bytes = [generation + 1; 32];
    let bytes = if cipher == Cipher::Aes128Gcm { &bytes[..16] } else { &bytes[..] };
    let key = Key::new(Provider::preferred(), cipher, bytes).unwrap();
    RecordKey::new(key, [generation + 7; 12], 0, u64::MAX)
}

fn key(generation: u8) -> RecordKey {
    key_of(Cipher::Aes128Gcm, generation)
}

/// A sender that breaks rules and a receiver that keeps them.
struct Wire {
    sealer: Sealer,
    opener: Opener,
    keys: Fake,
}

const FORMS: [(Form, Cipher); 6] = [
    (Form::Tls13, Cipher::Aes128Gcm),
    (Form::Tls13, Cipher::Aes256Gcm),
    (Form::Tls13, Cipher::ChaCha20Poly1305),
    (Form::Tls12Gcm, Cipher::Aes128Gcm),
    (Form::Tls12Gcm, Cipher::Aes256Gcm),
    (Form::Tls12ChaCha, Cipher::ChaCha20Poly1305),
];

impl Wire {
    fn new(form: Form) -> Self {
        Self::with(form, Cipher::Aes128Gcm)
    }

    fn with(form: Form, cipher: Cipher) -> Self {
        Self {
            sealer: Sealer::new(form, key_of(cipher, 0)),
            opener: Opener::new(form, key_of(cipher, 0)),
            keys: Fake { is_client: true, ..Fake::default() },
        }
    }

    fn seal(&mut self, content: u8, plain: &[u8]) -> Vec<u8> {
        let form = self.sealer.form;
        let mut record = vec![0; form.prefix() + plain.len() + form.suffix()];
        self.sealer.seal_to_slice(content, plain, &mut record).unwrap();
        record
    }

    /// Seals what stands inside of a record of TLS 1.3 as it is, with type and padding or without.
    fn seal_inner(&mut self, inner: &[u8]) -> Vec<u8> {
        let bytes = (inner.len() + TAG_BYTES) as u16;
        let mut record = vec![23, 3, 3];
        record.extend(bytes.to_be_bytes());
        let aad: Vec<u8> = record.clone();
        record.extend(inner);
        let mut tag = [0; TAG_BYTES];
        let key = &mut self.sealer.key;
        key.aead().seal(key.nonce(), &aad, &mut record[HEADER_BYTES..], &mut tag).unwrap();
        key.advance();
        record.extend(tag);
        record
    }

    /// Opens a record both ways, which have to agree.
    fn open(&mut self, record: &[u8]) -> Result<(Opened, Vec<u8>), RecordError> {
        let mut copy = record.to_vec();
        let opened = self.opener.next(&mut copy, &mut self.keys)?;
        let data = match &opened {
            Opened::Data { range, .. } => copy[range.clone()].to_vec(),
            _ => Vec::new(),
        };
        Ok((opened, data))
    }

    #[track_caller]
    fn refuses(&mut self, record: &[u8], error: RecordError, alert: Alert) {
        assert_eq!(self.open(record).unwrap_err(), error);
        assert_eq!(error.alert(), alert);
        let next = self.seal(content::DATA, b"x");
        assert_eq!(self.open(&next).unwrap_err(), RecordError::Broken, "nothing after an error");
    }

    fn control(&mut self, record: &[u8]) -> Control {
        match self.open(record).unwrap().0 {
            Opened::Control { consumed, control } => {
                assert_eq!(consumed, record.len());
                control
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn what_is_sealed_is_opened_in_place_and_elsewhere() {
    for (form, cipher) in FORMS {
        for bytes in [1, 2, 15, 16, 17, 255, 256, 1000, PLAINTEXT_BYTES_MAX] {
            let plain: Vec<u8> = (0..bytes).map(|number| number as u8).collect();
            let mut wire = Wire::with(form, cipher);
            let elsewhere = wire.seal(content::DATA, &plain);
            let mut in_place = vec![0; form.prefix()];
            in_place.extend_from_slice(&plain);
            in_place.resize(form.prefix() + bytes + form.suffix(), 0);
            wire.sealer.seal_slice(content::DATA, &mut in_place).unwrap();
            assert!(elsewhere.len() <= RECORD_BYTES_MAX);
            assert_eq!(wire.open(&elsewhere).unwrap().1, plain);
            let mut output = b"before".to_vec();
            let opened = wire.opener.open_to(&in_place, &mut output, &mut wire.keys).unwrap();
            assert_eq!(opened, Opened::Data { consumed: in_place.len(), range: 6..6 + bytes });
            assert_eq!(output[6..], plain);
        }
    }
}

#[test]
fn sealing_in_place_and_from_elsewhere_are_the_same() {
    for (form, cipher) in FORMS {
        let plain = b"the same plaintext";
        let (mut one, mut other) = (Wire::with(form, cipher), Wire::with(form, cipher));
        let elsewhere = one.seal(content::DATA, plain);
        let mut in_place = vec![0; form.prefix()];
        in_place.extend_from_slice(plain);
        in_place.resize(elsewhere.len(), 0);
        other.sealer.seal_slice(content::DATA, &mut in_place).unwrap();
        assert_eq!(in_place, elsewhere, "{form:?}");
    }
}

#[cfg(all(feature = "aws-lc", feature = "ring"))]
#[test]
fn the_providers_seal_the_same_records() {
    for (form, cipher) in FORMS {
        let bytes = [9; 32];
        let bytes = if cipher == Cipher::Aes128Gcm { &bytes[..16] } else { &bytes[..] };
        let records = [Provider::AwsLc, Provider::Ring].map(|provider| {
            let make = || {
                let key = Key::new(provider, cipher, bytes).unwrap();
                RecordKey::new(key, [5; 12], 0, u64::MAX)
            };
            let mut wire = Wire::with(form, cipher);
            (wire.sealer, wire.opener) = (Sealer::new(form, make()), Opener::new(form, make()));
            let record = wire.seal(content::DATA, b"data");
            assert_eq!(wire.open(&record).unwrap().1, b"data");
            let record2 = wire.seal(content::DATA, b"more");
            let mut output = Vec::new();
            wire.opener.open_to(&record2, &mut output, &mut wire.keys).unwrap();
            assert_eq!(output, b"more");
            record
        });
        assert_eq!(records[0], records[1]);
    }
}

#[test]
fn a_record_is_incomplete_at_every_byte_before_its_end() {
    for (form, cipher) in FORMS {
        let mut wire = Wire::with(form, cipher);
        let record = wire.seal(content::DATA, b"some data");
        for cut in 0..record.len() {
            let mut part = record[..cut].to_vec();
            let needed = if cut < HEADER_BYTES { HEADER_BYTES } else { record.len() };
            let opened = wire.opener.next(&mut part, &mut wire.keys).unwrap();
            assert_eq!(opened, Opened::Incomplete { needed });
            assert_eq!(part, record[..cut], "untouched");
            let mut output = Vec::new();
            let opened = wire.opener.open_to(&part, &mut output, &mut wire.keys).unwrap();
            assert_eq!((opened, output.len()), (Opened::Incomplete { needed }, 0));
        }
        assert_eq!(wire.open(&record).unwrap().1, b"some data");
    }
}

#[test]
fn every_changed_bit_is_noticed() {
    for (form, cipher) in FORMS {
        let record = Wire::with(form, cipher).seal(content::DATA, b"some data");
        for bit in 0..record.len() * 8 {
            let mut wire = Wire::with(form, cipher);
            let mut changed = record.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            match wire.open(&changed) {
                // A longer record.
                Ok((Opened::Incomplete { .. }, _)) => assert!((24..40).contains(&bit)),
                Ok(opened) => panic!("bit {bit}: {opened:?}"),
                Err(_) => {}
            }
        }
    }
}

#[test]
fn records_out_of_order_or_twice_are_refused() {
    for (form, cipher) in FORMS {
        let mut wire = Wire::with(form, cipher);
        let (first, second) = (wire.seal(content::DATA, b"1"), wire.seal(content::DATA, b"2"));
        wire.refuses(&second, RecordError::BadMac, Alert::BAD_RECORD_MAC);
        let mut wire = Wire::with(form, cipher);
        assert_eq!(wire.open(&first).unwrap().1, b"1");
        wire.refuses(&first, RecordError::BadMac, Alert::BAD_RECORD_MAC);
    }
}

#[test]
fn types_that_are_not_allowed_are_refused() {
    for form in [Form::Tls13, Form::Tls12Gcm] {
        for outer in 0..=255_u8 {
            let is_allowed = outer == 23 || (form == Form::Tls12Gcm && matches!(outer, 21 | 22));
            let opened = Wire::new(form).open(&[outer, 3, 3, 0, 100]);
            let expected = (!is_allowed).then_some(RecordError::UnexpectedType(outer));
            assert_eq!(opened.err(), expected);
        }
    }
    // The type inside (RFC 8446 §5.4).
    for inner in (1..=255_u8).filter(|inner| !matches!(inner, 21..=23)) {
        let mut wire = Wire::new(Form::Tls13);
        let record = wire.seal(inner, b"data");
        let alert = Alert::UNEXPECTED_MESSAGE;
        wire.refuses(&record, RecordError::UnexpectedType(inner), alert);
    }
}

#[test]
fn padding_is_removed_and_does_not_stand_alone() {
    for padding in [0, 1, 255, 5000] {
        let mut wire = Wire::new(Form::Tls13);
        let inner = [&b"data\0\0"[..], &[content::DATA], &vec![0; padding]].concat();
        let record = wire.seal_inner(&inner);
        assert_eq!(wire.open(&record).unwrap().1, b"data\0\0");
        let mut wire = Wire::new(Form::Tls13);
        let record = wire.seal_inner(&vec![0; padding]);
        wire.refuses(&record, RecordError::NoContent, Alert::UNEXPECTED_MESSAGE);
    }
}

#[test]
fn records_that_are_too_long_or_too_short_are_refused() {
    let overflow = (RecordError::Overflow, Alert::RECORD_OVERFLOW);
    for form in [Form::Tls13, Form::Tls12Gcm, Form::Tls12ChaCha] {
        let over = (PLAINTEXT_BYTES_MAX as u16 + 257).to_be_bytes();
        Wire::new(form).refuses(&[23, 3, 3, over[0], over[1]], overflow.0, overflow.1);
        for short in 0..(form.prefix() - HEADER_BYTES + TAG_BYTES) as u8 {
            let record = [&[23, 3, 3, 0, short][..], &vec![0; usize::from(short)]].concat();
            Wire::new(form).refuses(&record, RecordError::BadMac, Alert::BAD_RECORD_MAC);
        }
    }
    // The type and the padding count (RFC 8446 §5.2).
    let mut full = vec![1; PLAINTEXT_BYTES_MAX];
    full.push(content::DATA);
    let mut wire = Wire::new(Form::Tls13);
    let record = wire.seal_inner(&full);
    assert_eq!(wire.open(&record).unwrap().1.len(), PLAINTEXT_BYTES_MAX);
    for add in [vec![0], vec![0; 239], vec![content::DATA]] {
        let record = wire.seal_inner(&[full.clone(), add].concat());
        wire.refuses(&record, overflow.0, overflow.1);
        wire = Wire::new(Form::Tls13);
    }
    let mut buffer = vec![0; PLAINTEXT_BYTES_MAX + 1 + 22];
    let sealed = wire.sealer.seal_slice(content::DATA, &mut buffer);
    assert_eq!(sealed, Err(RecordError::BadRoom));
    assert_eq!(wire.sealer.seal_slice(content::DATA, &mut [0; 21]), Err(RecordError::BadRoom));
    assert_eq!(wire.sealer.key.sequence(), 0);
}

#[test]
fn versions_of_records_are_checked() {
    for version in [0x0300_u16, 0x0301, 0x0304, 0x0203, 0xfefd] {
        let [major, minor] = version.to_be_bytes();
        let record = [23, major, minor, 0, 100];
        let error = RecordError::BadVersion(version);
        Wire::new(Form::Tls12Gcm).refuses(&record, error, Alert::PROTOCOL_VERSION);
    }
}

#[test]
fn empty_records_are_taken_up_to_a_number_in_a_row() {
    for (form, cipher) in FORMS {
        let mut wire = Wire::with(form, cipher);
        for _ in 0..3 {
            for _ in 0..32 {
                let record = wire.seal(content::DATA, b"");
                assert_eq!(wire.control(&record), Control::Nothing);
            }
            let record = wire.seal(content::DATA, b"x");
            assert_eq!(wire.open(&record).unwrap().1, b"x");
        }
        for _ in 0..32 {
            let record = wire.seal(content::DATA, b"");
            wire.control(&record);
        }
        let record = wire.seal(content::DATA, b"");
        wire.refuses(&record, RecordError::TooManyEmpty, Alert::UNEXPECTED_MESSAGE);
    }
}

const UPDATE: [u8; 5] = [24, 0, 0, 1, 0];
const REQUEST: [u8; 5] = [24, 0, 0, 1, 1];

#[test]
fn key_updates_change_the_key_at_once() {
    let mut wire = Wire::new(Form::Tls13);
    for (generation, message) in [UPDATE, REQUEST].into_iter().cycle().take(20).enumerate() {
        let record = wire.seal(content::HANDSHAKE, &message);
        let requested = message == REQUEST;
        assert_eq!(wire.control(&record), Control::KeyUpdate { requested });
        wire.sealer.key = key(generation as u8 + 1);
        let record = wire.seal(content::DATA, b"new");
        assert_eq!(wire.open(&record).unwrap().1, b"new");
    }
    // The old key is worth nothing.
    let mut wire = Wire::new(Form::Tls13);
    let record = wire.seal(content::HANDSHAKE, &UPDATE);
    wire.control(&record);
    let old = wire.seal(content::DATA, b"old");
    wire.refuses(&old, RecordError::BadMac, Alert::BAD_RECORD_MAC);
}

#[test]
fn floods_of_key_updates_are_refused() {
    let mut wire = Wire::new(Form::Tls13);
    for generation in 1..=33 {
        let record = wire.seal(content::HANDSHAKE, &REQUEST);
        if generation > 32 {
            let error = RecordError::TooManyKeyUpdates;
            assert_eq!(wire.open(&record).unwrap_err(), error);
            return;
        }
        wire.control(&record);
        wire.sealer.key = key(generation);
        // Empty records are no data.
        let record = wire.seal(content::DATA, b"");
        wire.control(&record);
    }
}

#[test]
fn malformed_key_updates_are_refused() {
    for message in [
        &[24, 0, 0, 1, 2][..],
        &[24, 0, 0, 0],
        &[24, 0, 0, 2, 0, 0],
        &[24, 0, 0, 1, 0, 0],
        &[24, 0, 0, 1, 0, 24, 0, 0, 1, 0],
        &[24, 0, 0, 1, 0, 4, 0, 0, 1, 0],
        &[24, 1, 0, 1, 0],
    ] {
        let mut wire = Wire::new(Form::Tls13);
        let record = wire.seal(content::HANDSHAKE, message);
        let error = wire.open(&record).unwrap_err();
        assert!(matches!(error, RecordError::BadKeyUpdate | RecordError::HandshakeTooLong));
        assert_eq!((error.alert(), wire.keys.updates), (Alert::DECODE_ERROR, 0), "{message:?}");
    }
}

#[test]
fn handshake_messages_may_be_cut_and_joined() {
    let ticket = [&[4, 0, 0, 9][..], b"a ticket!"].concat();
    let stream = [ticket.clone(), ticket.clone(), UPDATE.to_vec()].concat();
    for first in 1..stream.len() {
        for second in first..stream.len() {
            let mut wire = Wire::new(Form::Tls13);
            let parts = [&stream[..first], &stream[first..second], &stream[second..]];
            let mut last = Control::Nothing;
            for part in parts.into_iter().filter(|part| !part.is_empty()) {
                let record = wire.seal(content::HANDSHAKE, part);
                last = wire.control(&record);
            }
            assert_eq!(last, Control::KeyUpdate { requested: false });
            assert_eq!(wire.keys.tickets, [b"a ticket!"; 2], "{first} {second}");
        }
    }
}

#[test]
fn nothing_comes_between_the_parts_of_a_message() {
    for (content, plain) in
        [(content::DATA, &b"x"[..]), (content::DATA, b""), (content::ALERT, &[1, 0])]
    {
        let mut wire = Wire::new(Form::Tls13);
        let record = wire.seal(content::HANDSHAKE, &UPDATE[..3]);
        assert_eq!(wire.control(&record), Control::Nothing);
        let record = wire.seal(content, plain);
        wire.refuses(&record, RecordError::Interrupted, Alert::UNEXPECTED_MESSAGE);
    }
}

#[test]
fn other_handshake_messages_are_refused() {
    for is_client in [true, false] {
        for kind in 0..=255_u8 {
            let mut wire = Wire::new(Form::Tls13);
            wire.keys.is_client = is_client;
            let record = wire.seal(content::HANDSHAKE, &[kind]);
            let is_allowed = kind == 24 || (kind == 4 && is_client);
            let expected = (!is_allowed).then_some(RecordError::UnexpectedHandshake(kind));
            assert_eq!(wire.open(&record).err(), expected);
        }
    }
    let mut wire = Wire::new(Form::Tls13);
    let record = wire.seal(content::HANDSHAKE, b"");
    wire.refuses(&record, RecordError::NoContent, Alert::UNEXPECTED_MESSAGE);
    let mut wire = Wire::new(Form::Tls13);
    let record = wire.seal(content::HANDSHAKE, &[4, 1, 0, 1]);
    wire.refuses(&record, RecordError::HandshakeTooLong, Alert::DECODE_ERROR);
}

#[test]
fn negotiating_anew_is_refused() {
    for message in [&[0, 0, 0, 0][..], &[1, 0, 0, 1, 0], b""] {
        for form in [Form::Tls12Gcm, Form::Tls12ChaCha] {
            let cipher =
                if form == Form::Tls12Gcm { Cipher::Aes128Gcm } else { Cipher::ChaCha20Poly1305 };
            let mut wire = Wire::with(form, cipher);
            let record = wire.seal(content::HANDSHAKE, message);
            wire.refuses(&record, RecordError::Renegotiation, Alert::NO_RENEGOTIATION);
        }
    }
}

#[test]
fn alerts_are_fatal_but_for_those_that_are_not() {
    let alert = |form, plain: &[u8]| {
        let mut wire = Wire::new(form);
        let record = wire.seal(content::ALERT, plain);
        wire.open(&record).map(|(opened, _)| match opened {
            Opened::Control { control, .. } => control,
            other => panic!("{other:?}"),
        })
    };
    for form in [Form::Tls13, Form::Tls12Gcm] {
        assert_eq!(alert(form, &[1, 0]), Ok(Control::CloseNotify));
        assert_eq!(alert(form, &[2, 0]), Ok(Control::CloseNotify));
        assert_eq!(alert(form, &[2, 40]), Ok(Control::Alert(Alert::HANDSHAKE_FAILURE)));
        assert_eq!(alert(form, &[1, 90]), Ok(Control::Nothing));
        for bad in [&[][..], &[2], &[2, 40, 0]] {
            assert_eq!(alert(form, bad), Err(RecordError::BadAlert));
        }
    }
    // Levels mean nothing in TLS 1.3 (RFC 8446 §6).
    assert_eq!(alert(Form::Tls13, &[1, 40]), Ok(Control::Alert(Alert::HANDSHAKE_FAILURE)));
    assert_eq!(alert(Form::Tls12Gcm, &[1, 40]), Ok(Control::Nothing));
    assert_eq!(alert(Form::Tls12Gcm, &[3, 40]), Err(RecordError::BadAlert));
    for (form, plain) in [(Form::Tls13, [1, 90]), (Form::Tls12Gcm, [1, 100])] {
        let mut wire = Wire::new(form);
        for _ in 0..4 {
            let record = wire.seal(content::ALERT, &plain);
            wire.control(&record);
        }
        let record = wire.seal(content::ALERT, &plain);
        wire.refuses(&record, RecordError::TooManyWarnings, Alert::UNEXPECTED_MESSAGE);
    }
}

#[test]
fn keys_end_before_their_numbers_do() {
    for form in [Form::Tls13, Form::Tls12Gcm] {
        let limited = |sequence, records_max| {
            let key = Key::new(Provider::preferred(), Cipher::Aes128Gcm, &[1; 16]).unwrap();
            RecordKey::new(key, [7; 12], sequence, records_max)
        };
        let mut wire = Wire::new(form);
        wire.sealer.key = limited(10, 12);
        wire.opener = Opener::new(form, limited(u64::MAX - 2, u64::MAX));
        wire.seal(content::DATA, b"x");
        wire.seal(content::DATA, b"x");
        let mut record = vec![0; form.prefix() + 1 + form.suffix()];
        let sealed = wire.sealer.seal_to_slice(content::DATA, b"x", &mut record);
        assert_eq!(sealed, Err(RecordError::KeyExhausted));
        assert_eq!(wire.sealer.seal_slice(content::DATA, &mut record), sealed);
        wire.sealer.key = limited(u64::MAX - 2, u64::MAX);
        let record = wire.seal(content::DATA, b"last");
        assert_eq!(wire.open(&record).unwrap().1, b"last");
        let another = vec![23, 3, 3, 0, 30];
        let another = [another, vec![0; 30]].concat();
        assert_eq!(wire.open(&another).unwrap_err(), RecordError::KeyExhausted);
    }
}

/// RFC 8448 §3: both directions of a connection, from the application keys on.
#[test]
fn the_records_of_rfc_8448_are_opened_and_sealed() {
    let wire = |key: &str, iv: &str| {
        let make = || {
            let key = Key::new(Provider::preferred(), Cipher::Aes128Gcm, &hex(key)).unwrap();
            RecordKey::new(key, hex(iv).try_into().unwrap(), 0, u64::MAX)
        };
        let mut wire = Wire::new(Form::Tls13);
        wire.sealer = Sealer::new(Form::Tls13, make());
        wire.opener = Opener::new(Form::Tls13, make());
        wire
    };
    let data: Vec<u8> = (0..50).collect();
    let mut client = wire("17422dda596ed5d9acd890e3c63f5051", "5b78923dee08579033e523d9");
    let record = hex(CLIENT_DATA);
    assert_eq!(client.seal(content::DATA, &data), record);
    assert_eq!(client.open(&record).unwrap().1, data);
    let record = hex("1703030013c9872760655666b74d7ff1153efd6db6d0b0e3");
    assert_eq!(client.seal(content::ALERT, &[1, 0]), record);
    assert_eq!(client.control(&record), Control::CloseNotify);
    let mut server = wire("9f02283b6c9c07efc26bb9f2ac92e356", "cf782b88dd83549aadf1e984");
    // The first record has the session ticket, whose text the vector below does not need.
    server.sealer.key.advance();
    server.opener = {
        let key = hex("9f02283b6c9c07efc26bb9f2ac92e356");
        let key = Key::new(Provider::preferred(), Cipher::Aes128Gcm, &key).unwrap();
        let iv = hex("cf782b88dd83549aadf1e984").try_into().unwrap();
        Opener::new(Form::Tls13, RecordKey::new(key, iv, 1, u64::MAX))
    };
    let record = hex(SERVER_DATA);
    assert_eq!(server.seal(content::DATA, &data), record);
    assert_eq!(server.open(&record).unwrap().1, data);
    let record = hex("1703030013b58fd67166ebf599d24720cfbe7efa7a8864a9");
    assert_eq!(server.seal(content::ALERT, &[1, 0]), record);
    assert_eq!(server.control(&record), Control::CloseNotify);
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.chars().map(|char| char.to_digit(16).unwrap() as u8).collect();
    digits.chunks(2).map(|pair| pair[0] * 16 + pair[1]).collect()
}

const CLIENT_DATA: &str = "1703030043a23f7054b62c94d0affafe8228ba55cbefacea42f914aa66bcab3f2b\
    9819a8a5b46b395bd54a9a20441e2b62974e1f5a6292a2977014bd1e3deae63aeebb21694915e4";
const SERVER_DATA: &str = "17030300432e937e11ef4ac740e538ad36005fc4a46932fc3225d05f82aa1b36e3\
    0efaf97d90e6dffc602dcb501a59a8fcc49c4bf2e5f0a21c0047c2abf332540dd032e167c2955d";
