//! Negotiation of permessage-deflate, with the values that peers really send.

use super::*;
use crate::{
    AcceptKey, ClientHandshake, Deflate, DeflateFault, HandshakeMisuse, NegotiatedDeflate,
    ResponseError,
};

/// What a server answers to offers in the header values `offers`.
fn answer(settings: Deflate, offers: &[&str]) -> Option<(NegotiatedDeflate, String)> {
    let mut head = b"GET / HTTP/1.1\r\nHost: a\r\n".to_vec();
    for offer in offers {
        head.extend(format!("Sec-WebSocket-Extensions: {offer}\r\n").as_bytes());
    }
    head.extend(b"\r\n");
    let (request, _) = UpgradeRequest::parse(&head, &HeadLimits::default()).unwrap().unwrap();
    settings.accept(&request)
}

fn answer_text(settings: Deflate, offer: &str) -> Option<String> {
    answer(settings, &[offer]).map(|(_, text)| text)
}

/// Windows of both ways, ours first, and whether each keeps its context.
fn agreed(agreed: &NegotiatedDeflate) -> (u8, u8, bool, bool) {
    let it = agreed;
    (it.window_bits, it.peer_window_bits, it.context_takeover, it.peer_context_takeover)
}

/// What a client makes of an answer.
fn judge(settings: Deflate, answer: &str) -> Result<Option<NegotiatedDeflate>, ResponseError> {
    let handshake = ClientHandshake::new("a", "/", [7; 16]).unwrap();
    let handshake = handshake.with_deflate(settings).unwrap();
    let accept = AcceptKey::for_key(&crate::handshake::accept::key_for_nonce([7; 16]));
    let line = match answer {
        "" => String::new(),
        answer => format!("Sec-WebSocket-Extensions: {answer}\r\n"),
    };
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n{line}\r\n"
    );
    let parsed = handshake.parse_response(head.as_bytes(), &HeadLimits::default());
    parsed.map(|found| handshake.negotiated_deflate(&found.unwrap().0))
}

fn fault(settings: Deflate, answer: &str) -> DeflateFault {
    match judge(settings, answer) {
        Err(ResponseError::InvalidDeflate { fault, .. }) => fault,
        other => panic!("{answer}: {other:?}"),
    }
}

#[test]
fn a_server_answers_what_browsers_and_libraries_offer() {
    let server = Deflate::new();
    let cases = [
        // Chromium.
        ("permessage-deflate; client_max_window_bits", "; client_max_window_bits=12", 12),
        // Firefox, Safari: nothing about the client, and 32 KiB for it.
        ("permessage-deflate", "", 15),
        ("permessage-deflate; client_max_window_bits=10", "; client_max_window_bits=10", 10),
        ("permessage-deflate; client_max_window_bits=15", "; client_max_window_bits=12", 12),
        ("permessage-deflate; client_max_window_bits=\"11\"", "; client_max_window_bits=11", 11),
        // Boost.Beast.
        (
            "permessage-deflate; server_max_window_bits=15; client_max_window_bits=15",
            "; server_max_window_bits=12; client_max_window_bits=12",
            12,
        ),
    ];
    for (offer, wanted, peers) in cases {
        let (it, text) = answer(server, &[offer]).unwrap();
        assert_eq!(text, format!("permessage-deflate{wanted}"), "{offer}");
        assert_eq!(agreed(&it), (12, peers, true, true), "{offer}");
    }
}

#[test]
fn a_server_honours_every_window_that_is_asked_for() {
    for bits in 8..=15 {
        let offer = format!("permessage-deflate; server_max_window_bits={bits}");
        let (it, text) = answer(Deflate::new().window_bits(15), &[&offer]).unwrap();
        assert_eq!(text, offer);
        assert_eq!(it.window_bits, bits);
        let (it, text) = answer(Deflate::new().window_bits(11), &[&offer]).unwrap();
        let ours = bits.min(11);
        assert_eq!(text, format!("permessage-deflate; server_max_window_bits={ours}"));
        assert_eq!(it.window_bits, ours);
    }
}

#[test]
fn takeover_is_given_up_where_either_end_wants_that() {
    let off = Deflate::new().context_takeover(false).peer_context_takeover(false);
    let both = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
    let (it, text) = answer(Deflate::new(), &[both]).unwrap();
    assert_eq!((agreed(&it), &text[..]), ((12, 15, false, false), both));
    let (it, text) = answer(off, &["permessage-deflate; client_max_window_bits"]).unwrap();
    assert_eq!(text, format!("{both}; client_max_window_bits=12"));
    assert_eq!(agreed(&it), (12, 12, false, false));
    // Clients with a bare offer go on with their context whatever they are answered.
    let (it, text) = answer(off, &["permessage-deflate"]).unwrap();
    assert_eq!(text, "permessage-deflate; server_no_context_takeover");
    assert_eq!(agreed(&it), (12, 15, false, true));
}

#[test]
fn the_first_offer_that_can_be_honoured_is_taken() {
    let list = "permessage-deflate; server_max_window_bits=7, x-webkit-deflate-frame, \
                permessage-deflate; unknown=\"a,b\", permessage-deflate; server_max_window_bits=9, \
                permessage-deflate";
    let wanted = "permessage-deflate; server_max_window_bits=9";
    assert_eq!(answer_text(Deflate::new(), list).as_deref(), Some(wanted));
    let in_lines = ["foo", "permessage-deflate; bad", wanted, "permessage-deflate"];
    assert_eq!(answer(Deflate::new(), &in_lines).unwrap().1, wanted);
}

#[test]
fn a_server_declines_an_offer_with_anything_wrong_in_it() {
    for parameters in [
        "unknown",
        "server_no_context_takeover=1",
        "client_no_context_takeover=true",
        "server_no_context_takeover; server_no_context_takeover",
        "client_no_context_takeover; client_no_context_takeover",
        "server_max_window_bits",
        "server_max_window_bits=",
        "server_max_window_bits=7",
        "server_max_window_bits=16",
        "server_max_window_bits=08",
        "server_max_window_bits=+8",
        "server_max_window_bits=1 2",
        "server_max_window_bits=9999999999999999999999",
        "server_max_window_bits=10; server_max_window_bits=10",
        "client_max_window_bits=7",
        "client_max_window_bits=16",
        "client_max_window_bits=0",
        "client_max_window_bits=",
        "client_max_window_bits=\"1",
        "client_max_window_bits; client_max_window_bits=10",
        "",
        "=",
        "a b",
        "SERVER_NO_CONTEXT_TAKEOVER",
    ] {
        let offer = format!("permessage-deflate; {parameters}");
        assert_eq!(answer(Deflate::new(), &[&offer]), None, "{offer}");
    }
    for offer in
        ["", "deflate", "permessage-deflatex", "x; permessage-deflate", "\"permessage-deflate\""]
    {
        assert_eq!(answer(Deflate::new(), &[offer]), None, "{offer}");
    }
}

#[test]
fn a_client_offers_what_its_settings_say_and_something_to_fall_back_on() {
    let least = "permessage-deflate; client_max_window_bits";
    let new = Deflate::new;
    assert_eq!(new().offer(), least);
    assert_eq!(new().bare_offer(true).peer_window_bits(9).offer(), "permessage-deflate");
    assert_eq!(
        new().context_takeover(false).offer(),
        "permessage-deflate; client_no_context_takeover; client_max_window_bits"
    );
    assert_eq!(
        new().peer_window_bits(10).peer_context_takeover(false).offer(),
        format!(
            "permessage-deflate; server_no_context_takeover; server_max_window_bits=10; \
             client_max_window_bits, {least}"
        )
    );
}

#[test]
fn a_client_takes_every_answer_that_fits_its_offer() {
    let cases = [
        ("permessage-deflate", (12, 15, true, true)),
        ("permessage-deflate; client_max_window_bits=8", (8, 15, true, true)),
        ("permessage-deflate; client_max_window_bits=9", (9, 15, true, true)),
        ("permessage-deflate;client_max_window_bits=15", (12, 15, true, true)),
        ("permessage-deflate; server_max_window_bits=8", (12, 8, true, true)),
        ("permessage-deflate; server_no_context_takeover", (12, 15, true, false)),
        ("permessage-deflate; client_no_context_takeover", (12, 15, false, true)),
    ];
    for (answer, wanted) in cases {
        let it = judge(Deflate::new(), answer).unwrap().unwrap();
        assert_eq!(agreed(&it), wanted, "{answer}");
    }
    assert_eq!(judge(Deflate::new(), "").unwrap(), None, "declined");
    // The second offer demands nothing of the server.
    let demanding = Deflate::new().peer_window_bits(10).peer_context_takeover(false);
    let it = judge(demanding, "permessage-deflate").unwrap().unwrap();
    assert_eq!(agreed(&it), (12, 15, true, true));
}

#[test]
fn an_answer_that_does_not_fit_names_the_parameter() {
    use DeflateFault::*;
    let (server, client) = ("server_max_window_bits", "client_max_window_bits");
    let cases = [
        ("unknown=1", UnknownParameter("unknown".into())),
        ("server_max_window_bits=7", InvalidValue(server)),
        ("server_max_window_bits", InvalidValue(server)),
        ("client_max_window_bits", InvalidValue(client)),
        ("client_max_window_bits=16", InvalidValue(client)),
        ("server_no_context_takeover=1", InvalidValue("server_no_context_takeover")),
        ("client_max_window_bits=9; client_max_window_bits=9", RepeatedParameter(client)),
        ("client_max_window_bits=\"9", Malformed),
    ];
    for (parameters, wanted) in cases {
        let error = judge(Deflate::new(), &format!("permessage-deflate; {parameters}"));
        match error {
            Err(ResponseError::InvalidDeflate { fault, .. }) => assert_eq!(fault, wanted),
            // A quote that is not closed is no list of extensions at all.
            other => assert!(wanted == Malformed, "{parameters}: {other:?}"),
        }
    }
    let repeated = "permessage-deflate, permessage-deflate";
    assert_eq!(fault(Deflate::new(), repeated), Repeated);
    let bare = Deflate::new().bare_offer(true);
    let refused = fault(bare, "permessage-deflate; client_max_window_bits=12");
    assert_eq!(refused, NotOffered(client));
    assert!(refused.to_string().contains(client));
    let text = judge(bare, "permessage-deflate; client_max_window_bits=12").unwrap_err();
    assert!(text.to_string().contains(client), "{text}");
}

#[test]
fn it_is_offered_once_and_without_the_application() {
    let fresh = || ClientHandshake::new("a", "/", [0; 16]).unwrap();
    let twice = fresh().with_deflate(Deflate::new()).unwrap().with_extension("permessage-deflate");
    assert!(matches!(twice, Err(HandshakeMisuse::InvalidExtension { .. })));
    let twice = fresh().with_extension("permessage-deflate").unwrap().with_deflate(Deflate::new());
    assert!(matches!(twice, Err(HandshakeMisuse::InvalidExtension { .. })));
    let with_another = fresh().with_deflate(Deflate::new()).unwrap().with_extension("other");
    assert!(with_another.is_ok());
}
