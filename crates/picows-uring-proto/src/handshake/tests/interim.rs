//! Interim responses in front of the final one (RFC 9110 §15.2).

use super::super::{
    ClientHandshake, HeadError, HeadLimits, INTERIM_RESPONSES_MAX, MessageFault, ResponseError,
    ResponseHead, ResponseScanner,
};
use super::{SAMPLE_ACCEPT, SAMPLE_NONCE};

const INTERIM: [&str; 6] = [
    "HTTP/1.1 100 Continue\r\n\r\n",
    "HTTP/1.1 102 Processing\r\nX: y\r\n\r\n",
    "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nLink: </b.js>\r\n\r\n",
    "HTTP/1.1 199\r\n\r\n",
    "HTTP/1.0 100 Continue\n\n",
    "HTTP/1.1 100 Continue\r\nbad line\n\r\n",
];

fn handshake() -> ClientHandshake {
    ClientHandshake::new("server.example.com", "/chat", SAMPLE_NONCE).unwrap()
}

fn switching() -> String {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {SAMPLE_ACCEPT}\r\n\r\n"
    )
}

type Judgement = Result<Option<(ResponseHead, usize)>, ResponseError>;

fn judge(wire: &str) -> Judgement {
    handshake().parse_response(wire.as_bytes(), &HeadLimits::default())
}

/// In pieces that end at `cut` and at the end; what the first one comes to, and both.
fn judge_in_pieces(wire: &str, cut: usize) -> (Judgement, Judgement) {
    let (handshake, limits) = (handshake(), HeadLimits::default());
    let mut scanner = ResponseScanner::new();
    let first = handshake.parse_response_with(&mut scanner, &wire.as_bytes()[..cut], &limits);
    let both = handshake.parse_response_with(&mut scanner, wire.as_bytes(), &limits);
    (first, both)
}

#[test]
fn every_interim_response_is_passed_over_wherever_it_is_cut() {
    for interim in INTERIM.iter().map(|it| (*it).to_owned()).chain([INTERIM.concat()]) {
        let answer = interim.clone() + &switching();
        let wire = answer.clone() + "\u{1}\u{2}";
        for cut in 0..answer.len() {
            let (first, both) = judge_in_pieces(&wire, cut);
            assert_eq!(first, Ok(None), "{interim:?} {cut}");
            let (head, length) = both.unwrap().unwrap();
            assert_eq!((head.status().as_u16(), length), (101, answer.len()), "{interim:?} {cut}");
            assert_eq!(head.headers().count(), 3, "those of the final answer only");
        }
    }
}

#[test]
fn any_final_response_may_follow() {
    for interim in INTERIM {
        let refusal = format!("{interim}HTTP/1.0 503 Busy\nRetry-After: 1\n\nbusy");
        for cut in 0..=refusal.len() - 4 {
            let (first, both) = judge_in_pieces(&refusal, cut);
            if cut < refusal.len() - 4 {
                assert_eq!(first, Ok(None), "{cut}");
            }
            let Err(ResponseError::InvalidStatus(response)) = both else { panic!("{both:?}") };
            assert_eq!((response.head().status().as_u16(), response.body()), (503, &b"busy"[..]));
        }
        let redirect = judge(&format!("{interim}HTTP/1.1 302 Found\r\nLocation: /a\r\n\r\n"));
        assert!(matches!(redirect, Err(ResponseError::Redirect { .. })), "{redirect:?}");
        let wrong = judge(&format!("{interim}{}", switching().replace("websocket", "h2c")));
        assert!(matches!(wrong, Err(ResponseError::InvalidUpgrade(_))), "{wrong:?}");
        for (garbage, fault) in [
            ("SSH-2.0\r\n", MessageFault::NotHttp),
            ("\r\n", MessageFault::NotHttp),
            ("HTTP/1.1 0\r\n\r\n", MessageFault::MalformedStatusLine),
            ("HTTP/1.0 101 X\r\n\r\n", MessageFault::UnsupportedVersion),
            ("HTTP/1.1 101 X\n", MessageFault::Head(HeadError::BareLineFeed)),
        ] {
            let Err(ResponseError::InvalidMessage(message)) = judge(&format!("{interim}{garbage}"))
            else {
                panic!("{garbage:?}")
            };
            assert_eq!(message.fault, fault, "{garbage:?}");
            assert_eq!(message.head, garbage.as_bytes(), "without what was passed over");
        }
        assert_eq!(judge(interim), Ok(None), "nothing final yet");
    }
}

#[test]
fn interim_responses_without_end_are_refused() {
    let interim = INTERIM[0].repeat(usize::from(INTERIM_RESPONSES_MAX));
    assert!(judge(&(interim.clone() + &switching())).unwrap().is_some());
    let wire = interim + INTERIM[0] + &switching();
    for cut in 0..=wire.len() {
        let (first, both) = judge_in_pieces(&wire, cut);
        let error = first.and(both).unwrap_err();
        let ResponseError::InvalidMessage(message) = &error else { panic!("{error:?}") };
        let count_max = INTERIM_RESPONSES_MAX;
        assert_eq!(message.fault, MessageFault::TooManyInterim { count_max });
        assert_eq!(message.status.map(|it| it.as_u16()), Some(100));
        assert!(error.to_string().contains("more than 8 interim responses"), "{error}");
    }
}

#[test]
fn the_limit_of_the_head_counts_interim_responses_too() {
    let handshake = handshake();
    let (interim, answer) = (INTERIM[2], switching());
    let wire = interim.to_owned() + &answer;
    let judged = |limit| {
        let limits = HeadLimits { head_bytes_max: limit, ..HeadLimits::default() };
        handshake.parse_response(wire.as_bytes(), &limits)
    };
    assert!(judged(wire.len()).unwrap().is_some());
    for limit in "HTTP/1.1 101 ".len()..wire.len() {
        let error = judged(limit).unwrap_err();
        let ResponseError::InvalidMessage(message) = error else { panic!("{limit}: {error:?}") };
        match message.fault {
            MessageFault::Head(HeadError::TooLarge { head_bytes_max }) => {
                assert_eq!(head_bytes_max, limit);
            }
            // The limit cuts the status line itself.
            MessageFault::MalformedStatusLine => assert!(limit < interim.len() + 13, "{limit}"),
            other => panic!("{limit}: {other:?}"),
        }
    }
}
