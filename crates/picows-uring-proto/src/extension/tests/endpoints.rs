//! Two whole ends in memory that have agreed on permessage-deflate.

use super::*;
use crate::{ApiMisuse, ConversationRules, Endpoint, EndpointRules, SendError, Tick};
use std::sync::Arc;

/// A client and a server that have agreed on `bits`.
fn pair(settings: &Deflate, bits: u8, takeover: bool) -> (Endpoint, Endpoint) {
    let rules = Arc::new(EndpointRules {
        conversation: ConversationRules::default(),
        frames: FrameRules { validate_text: true, ..FrameRules::default() },
        ..EndpointRules::default()
    });
    let mut client = Endpoint::client(&rules, Tick::ZERO, || [0x37, 0xFA, 0x21, 0x3D]);
    let mut server = Endpoint::server(&rules, Tick::ZERO);
    for end in [&mut client, &mut server] {
        end.opened(Tick::ZERO);
        end.begin_deflate(settings, &agreed(bits, takeover));
    }
    (client, server)
}

/// Delivers what `from` has queued to `to` in pieces of `step` bytes: the bytes on the wire, and
/// the texts.
fn deliver(from: &mut Endpoint, to: &mut Endpoint, step: usize) -> (usize, Vec<Vec<u8>>) {
    let mut wire = from.outgoing().bytes().to_vec();
    from.sent(Tick::ZERO, wire.len());
    let mut texts = Vec::new();
    for piece in wire.chunks_mut(step) {
        to.receive(Tick::ZERO, piece, |_, frame| texts.push(frame.payload().to_vec())).unwrap();
    }
    (wire.len(), texts)
}

#[test]
fn two_ends_exchange_messages_both_ways() {
    for (bits, takeover) in [(8, true), (9, true), (12, true), (15, true), (12, false)] {
        let settings = Deflate::new().threshold(0);
        let (mut client, mut server) = pair(&settings, bits, takeover);
        let (mut plain, mut sent) = (0, 0);
        for number in 0..100 {
            let text = quote(number).repeat(1 + number as usize % 7);
            let head = FrameHead::new(MsgType::Text);
            for is_client in [true, false] {
                let (from, to) = match is_client {
                    true => (&mut client, &mut server),
                    false => (&mut server, &mut client),
                };
                from.outgoing().send(head, text.as_bytes()).unwrap();
                let step = if number % 2 == 0 { 7 } else { usize::MAX };
                let (wire, texts) = deliver(from, to, step);
                assert_eq!(texts, [text.as_bytes()]);
                (plain, sent) = (plain + text.len(), sent + wire);
            }
        }
        assert!(sent < plain * 9 / 10, "{bits} {takeover}: {sent} of {plain}");
    }
}

#[test]
fn rsv1_belongs_to_the_extension() {
    let (mut client, _) = pair(&Deflate::new(), 12, true);
    let head = FrameHead::new(MsgType::Text);
    let refused = client.outgoing().send(head.with_rsv(4), b"text");
    assert_eq!(refused, Err(SendError::Misuse(ApiMisuse::RsvOfDeflate)));
    assert!(client.outgoing().send(head.with_rsv(2), b"text").is_ok());
    let rules = Arc::new(EndpointRules::default());
    let mut plain = Endpoint::server(&rules, Tick::ZERO);
    plain.opened(Tick::ZERO);
    assert!(plain.outgoing().send(head.with_rsv(4).compressed(true), b"text").is_ok());
    assert_eq!(plain.outgoing().bytes(), b"\xc1\x04text", "nothing is compressed");
}

#[test]
fn broken_data_ends_the_conversation_with_1007_and_bombs_with_1009() {
    let zeros = oracle::Zlib::new(9, 15).compress(&vec![0; 20 * 1024 * 1024]);
    for (data, code) in [(&b"\xff\xff"[..], 1007_u16), (&zeros, 1009)] {
        let (mut client, mut server) = pair(&Deflate::new(), 12, true);
        let mut wire = frame(MsgType::Binary, true, 4, data);
        let outcome = client.receive(Tick::ZERO, &mut wire, |_, _| unreachable!());
        assert_eq!(outcome.unwrap_err().close_code().get(), code);
        let mut codes = Vec::new();
        let mut wire = client.outgoing().bytes().to_vec();
        let heard =
            server.receive(Tick::ZERO, &mut wire, |_, frame| codes.push(frame.close_code()));
        heard.unwrap();
        assert_eq!(codes[0].map(crate::CloseCode::get), Some(code));
    }
}
