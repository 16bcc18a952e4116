//! Answers that open nothing, in whatever form they come: what is known of them.

use super::super::{
    ClientHandshake, HeadLimits, REJECTED_BODY_BYTES_MAX, ResponseError, ResponseScanner,
    RetryAfter,
};
use super::SAMPLE_NONCE;
use std::time::Duration;

fn handshake() -> ClientHandshake {
    ClientHandshake::new("server.example.com", "/chat", SAMPLE_NONCE).unwrap()
}

fn refused(wire: &[u8]) -> ResponseError {
    handshake().parse_response(wire, &HeadLimits::default()).unwrap_err()
}

/// The same, with the bytes in two pieces.
fn refused_in_pieces(wire: &[u8], cut: usize) -> ResponseError {
    let (handshake, limits) = (handshake(), HeadLimits::default());
    let mut scanner = ResponseScanner::new();
    match handshake.parse_response_with(&mut scanner, &wire[..cut], &limits) {
        Ok(None) => handshake.parse_response_with(&mut scanner, wire, &limits).unwrap_err(),
        Ok(Some(opened)) => panic!("{opened:?}"),
        Err(mut error) => {
            error.response_mut().unwrap().extend_body(&wire[cut..]);
            error
        }
    }
}

#[test]
fn the_status_of_a_refusal_is_known_whatever_its_form_at_every_cut() {
    for (wire, version, header, body) in [
        ("HTTP/1.1 503 Busy\r\nRetry-After: 7\r\n\r\nbusy", "HTTP/1.1", true, "busy"),
        ("HTTP/1.0 503 Busy\r\nRetry-After: 7\r\n\r\nbusy", "HTTP/1.0", true, "busy"),
        ("HTTP/2 503\r\nretry-after: 7\r\n\r\nbusy", "HTTP/2", true, "busy"),
        ("HTTP/1.1 503\r\nRetry-After: 7\r\n\r\nbusy", "HTTP/1.1", true, "busy"),
        ("HTTP/1.1 503\nRetry-After: 7\n\nbusy", "HTTP/1.1", true, "busy"),
        ("HTTP/1.1 503 Busy\r\nRetry-After: 7\n\r\nbusy", "HTTP/1.1", true, "busy"),
        ("HTTP/1.1\t503  Busy\x01\r\nRetry-After: 7\r\n\r\nbusy", "HTTP/1.1", true, "busy"),
        ("HTTP/1.1 503 Busy\r\n\r\nbusy", "HTTP/1.1", false, "busy"),
        ("HTTP/1.1 503 Busy\r\nno colon\r\nRetry-After: 7\r\n\r\nbusy", "HTTP/1.1", true, "busy"),
        ("HTTP/1.1 503 Busy\r\nRetry-After : 7\r\n\r\nbusy", "HTTP/1.1", true, "busy"),
        ("HTTP/1.1 503 Busy\r\nA: b\r\n c\r\nRetry-After: 7\r\n\r\nbusy", "HTTP/1.1", true, "busy"),
        (
            "HTTP/1.1 503 X\r\nA(: b\r\nB: \x1b\r\nRetry-After:7\r\n\r\nbusy",
            "HTTP/1.1",
            true,
            "busy",
        ),
        (
            "HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: x\r\n\r\nbusy",
            "HTTP/1.1",
            true,
            "busy",
        ),
        (
            "HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: 2\r\n\r\nbusy",
            "HTTP/1.1",
            true,
            "bu",
        ),
        (
            "HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nTransfer-Encoding: chunked\r\n\r\n\
             2\r\nbu\r\n2;x\r\nsy\r\n0\r\n\r\n",
            "HTTP/1.1",
            true,
            "busy",
        ),
    ] {
        for cut in 0..=wire.len() {
            let error = refused_in_pieces(wire.as_bytes(), cut);
            let ResponseError::InvalidStatus(response) = error else {
                panic!("{wire:?} {error:?}")
            };
            let head = response.head();
            assert_eq!((head.status().as_u16(), head.version()), (503, version), "{wire:?} {cut}");
            let asked = header.then_some(RetryAfter::Delay(Duration::from_secs(7)));
            assert_eq!(head.retry_after(), asked, "{wire:?} {cut}");
            assert_eq!(response.body(), body.as_bytes(), "{wire:?} {cut}");
        }
    }
}

#[test]
fn a_head_that_is_too_long_or_has_too_many_lines_hides_no_status() {
    let limits = HeadLimits::default();
    let endless_reason = format!("HTTP/1.1 503 {}", "x".repeat(20_000));
    let endless_line = format!("HTTP/1.1 503 X\r\nRetry-After: 7\r\nX: {}", "x".repeat(20_000));
    let many_lines = format!("HTTP/1.1 503 X\r\nRetry-After: 7\r\n{}", "A: b\r\n".repeat(5000));
    for (wire, asks) in [(endless_reason, false), (endless_line, true), (many_lines, true)] {
        let error = refused(wire.as_bytes());
        let ResponseError::InvalidStatus(response) = &error else { panic!("{error:?}") };
        assert_eq!(response.head().status().as_u16(), 503);
        assert_eq!(response.head().retry_after().is_some(), asks);
        assert!(response.head().headers().count() <= limits.headers_max);
        assert_eq!((response.body(), response.body_missing()), (&b""[..], 0));
    }
    // Too many lines in a head that ends: the first of them, and the body.
    let wire = format!("HTTP/1.1 503 X\r\nRetry-After: 7\r\n{}\r\nbusy", "A: b\r\n".repeat(500));
    let error = refused(wire.as_bytes());
    let response = error.response().unwrap();
    assert_eq!(response.head().headers().count(), limits.headers_max);
    assert_eq!((response.body(), response.head().retry_after().is_some()), (&b"busy"[..], true));
}

#[test]
fn a_head_that_is_cut_off_keeps_its_status_and_the_lines_that_ended() {
    let wire = b"HTTP/1.1 503 Busy\r\nRetry-After: 120\r\nX: y\r\n";
    let (handshake, limits) = (handshake(), HeadLimits::default());
    for cut in 0..=wire.len() {
        let mut scanner = ResponseScanner::new();
        let parsed = handshake.parse_response_with(&mut scanner, &wire[..cut], &limits);
        assert!(matches!(parsed, Ok(None)), "{cut}");
        let error = handshake.cut_response(&scanner, &wire[..cut], &limits);
        assert_eq!(error.is_some(), cut > "HTTP/1.1 503".len(), "{cut}");
        let Some(error) = error else { continue };
        let response = error.response().unwrap();
        assert_eq!((response.head().status().as_u16(), response.body_missing()), (503, 0));
        // Never 1 or 12 seconds.
        let asked = (cut >= 37).then_some(RetryAfter::Delay(Duration::from_secs(120)));
        assert_eq!(response.head().retry_after(), asked, "{cut}");
    }
    for wire in ["", "HTTP/1.1 101 Switching Protocols\r\n", "HTTP/1.1 100 Continue\r\n", "SSH-2.0"]
    {
        let cut = handshake.cut_response(&ResponseScanner::new(), wire.as_bytes(), &limits);
        assert_eq!(cut, None, "{wire:?}");
    }
}

#[test]
fn a_redirect_in_odd_form_leads_where_it_says_and_a_cut_one_nowhere() {
    for wire in [
        "HTTP/1.0 302 Found\r\nLocation: /there\r\n\r\n",
        "HTTP/1.1 302\nLocation: /there\n\n",
        "HTTP/1.1 302 Found\r\nbad line\r\nLocation:\t/there \r\n\r\n",
    ] {
        let error = refused(wire.as_bytes());
        assert!(matches!(&error, ResponseError::Redirect { location, .. } if location == "/there"));
    }
    let long = format!("HTTP/1.1 302 X\r\nLocation: /a\r\nX: {}", "x".repeat(20_000));
    assert!(matches!(refused(long.as_bytes()), ResponseError::InvalidStatus(_)));
}

#[test]
fn retry_after_is_seconds_or_a_date_rfc9110_10_2_3() {
    let asked = |lines: &str| {
        let error = refused(format!("HTTP/1.1 429 X\r\n{lines}\r\n").as_bytes());
        error.response().unwrap().head().retry_after()
    };
    let delay = |seconds| Some(RetryAfter::Delay(Duration::from_secs(seconds)));
    let date = 784_111_777;
    for (lines, wanted) in [
        ("", None),
        ("Retry-After: 120\r\n", delay(120)),
        ("Retry-After: 0\r\n", delay(0)),
        ("retry-after:\t007 \r\n", delay(7)),
        ("Retry-After: 99999999999999999999999\r\n", delay(u64::MAX)),
        ("Retry-After: 5\r\nRetry-After: 9\r\n", delay(5)),
        ("Retry-After: -1\r\n", None),
        ("Retry-After: 1.5\r\n", None),
        ("Retry-After: +5\r\n", None),
        ("Retry-After: soon\r\n", None),
        ("Retry-After:\r\n", None),
        ("Retry-After: Sun, 06 Nov 1994 08:49:37 GMT\r\n", Some(RetryAfter::At(date))),
        (
            "Retry-After: Sun, 06 Nov 1994 08:49:37 GMT\r\nDate: Sun, 06 Nov 1994 08:48:37 GMT\r\n",
            delay(60),
        ),
        (
            "Retry-After: Sun, 06 Nov 1994 08:49:37 GMT\r\nDate: Sun, 06 Nov 1994 08:50:37 GMT\r\n",
            delay(0),
        ),
        (
            "Retry-After: Sun, 06 Nov 1994 08:49:37 GMT\r\nDate: today\r\n",
            Some(RetryAfter::At(date)),
        ),
        ("Retry-After: 9\r\nDate: Sun, 06 Nov 1994 08:48:37 GMT\r\n", delay(9)),
    ] {
        assert_eq!(asked(lines), wanted, "{lines:?}");
    }
    let at = RetryAfter::At(date);
    assert_eq!((at.delay(date - 60).as_secs(), at.delay(date + 60).as_secs()), (60, 0));
}

#[test]
fn the_text_says_when_to_come_again_and_how_the_body_begins() {
    let text = |lines: &str, body: &str| {
        let wire = format!("HTTP/1.1 429 X\r\n{lines}Connection: close\r\n\r\n{body}");
        let text = refused(wire.as_bytes()).to_string();
        text.strip_prefix("the server answered 429 Too Many Requests instead of 101")
            .unwrap_or_else(|| panic!("{text}"))
            .to_owned()
    };
    assert_eq!(text("", ""), "");
    assert_eq!(text("", " \r\n"), "");
    assert_eq!(text("", "slow down.\n"), ": \"slow down.\"");
    assert_eq!(text("Retry-After: 4321\r\n", "slow"), " (Retry-After: 4321): \"slow\"");
    assert_eq!(text("", "\x1b[2J<p>\r\nn\u{f6}\u{202e}"), r#": "\x1b[2J<p>\r\nnö\u{202e}""#);
    assert_eq!(text("Content-Encoding: gzip\r\n", "\x1f\u{8b}"), "");
    assert_eq!(text("Content-Encoding: identity\r\n", "a"), ": \"a\"");
    let long = text("", &"x".repeat(2 * REJECTED_BODY_BYTES_MAX));
    assert_eq!(long, format!(": \"{}\"...", "x".repeat(200)));
    let long = text(&format!("Retry-After: {}\r\n", "9".repeat(5000)), "");
    assert!(long.ends_with("...)") && long.len() < 100, "{long}");
}

#[test]
fn a_chunked_body_is_not_waited_for_when_its_last_chunk_is_there() {
    let head = "HTTP/1.1 429 X\r\nTransfer-Encoding: gzip, chunked\r\n\r\n";
    let mut error = refused(format!("{head}3\r\nbus").as_bytes());
    let response = error.response_mut().unwrap();
    assert_eq!(response.body_missing(), REJECTED_BODY_BYTES_MAX - 6);
    response.extend_body(b"\r\n1\r\ny\r\n0\r\n\r\n");
    assert_eq!((response.body(), response.body_missing()), (&b"busy"[..], 0));
    // One that is announced only.
    let error = refused(format!("{head}not chunked\r\n").as_bytes());
    assert_eq!(error.response().unwrap().body(), b"not chunked\r\n");
}
