use super::*;
use crate::handshake::{HEAD_BYTES_MAX, HeadError};
use proptest::prelude::*;
use std::net::Ipv4Addr;

/// Outcome of a tunnel, with all that was sent for it.
type Course = (Result<Option<TunnelStep>, TunnelError>, Vec<Vec<u8>>);

/// Plays `answers`, each of which the tunnel gets once it has sent something, cut at `cut`.
fn play(mut tunnel: Tunnel, answers: &[&[u8]], cut: usize) -> Course {
    let mut sent = Vec::new();
    for answer in answers {
        let mut out = Vec::new();
        tunnel.poll_transmit(&mut out);
        assert!(!out.is_empty(), "something is sent for each answer");
        sent.push(out);
        let (first, second) = answer.split_at(cut.min(answer.len()));
        for piece in [first, second].into_iter().filter(|piece| !piece.is_empty()) {
            match tunnel.handle_input(piece) {
                Ok(None) => {}
                done => return (done, sent),
            }
        }
    }
    let mut out = Vec::new();
    tunnel.poll_transmit(&mut out);
    if !out.is_empty() {
        sent.push(out);
    }
    (Ok(None), sent)
}

/// Plays with the answers in one piece, cut at every byte, and byte by byte: with one outcome.
#[track_caller]
fn course(make: impl Fn() -> Tunnel, answers: &[&[u8]]) -> Course {
    let whole = play(make(), answers, usize::MAX);
    let longest = answers.iter().map(|answer| answer.len()).max().unwrap_or_default();
    for cut in 1..longest {
        assert_eq!(play(make(), answers, cut), whole, "{cut}");
    }
    let mut tunnel = make();
    let mut out = Vec::new();
    let mut outcome = Ok(None);
    'answers: for answer in answers {
        tunnel.poll_transmit(&mut out);
        for byte in *answer {
            outcome = tunnel.handle_input(&[*byte]);
            if outcome != Ok(None) {
                break 'answers;
            }
        }
    }
    tunnel.poll_transmit(&mut out);
    assert_eq!((&outcome, out), (&whole.0, whole.1.concat()));
    whole
}

#[track_caller]
fn fault(make: impl Fn() -> Tunnel, answers: &[&[u8]]) -> TunnelError {
    course(make, answers).0.unwrap_err()
}

fn http() -> Tunnel {
    Tunnel::http("feed.example", 443).unwrap()
}

fn secret() -> ProxyCredentials {
    ProxyCredentials::new("USER", "SECRET")
}

fn http_with_password() -> Tunnel {
    http().with_credentials(&secret()).unwrap()
}

const OPEN: Result<Option<TunnelStep>, TunnelError> = Ok(Some(TunnelStep::Open));
const CONNECT: &str = "CONNECT feed.example:443 HTTP/1.1\r\nHost: feed.example:443\r\n";
const BASIC: &str = "Proxy-Authorization: Basic VVNFUjpTRUNSRVQ=\r\n";

#[test]
fn connect_has_host_and_port_and_a_host_header_rfc9110_9_3_6() {
    for (host, port, authority) in [
        ("feed.example", 443, "feed.example:443"),
        ("feed.example", 80, "feed.example:80"),
        ("10.5.5.5", 8080, "10.5.5.5:8080"),
        ("::1", 443, "[::1]:443"),
        ("xn--bcher-kva.example", 1, "xn--bcher-kva.example:1"),
    ] {
        let mut out = Vec::new();
        let mut tunnel = Tunnel::http(host, port).unwrap().with_header("X-Team", "feeds").unwrap();
        tunnel.poll_transmit(&mut out);
        let wanted =
            format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\nX-Team: feeds\r\n\r\n");
        assert_eq!(String::from_utf8(out).unwrap(), wanted);
        let mut again = Vec::new();
        tunnel.poll_transmit(&mut again);
        assert_eq!(again, b"");
    }
}

#[test]
fn any_2xx_opens_whatever_its_lengths_say_rfc9110_9_3_6() {
    for answer in [
        "HTTP/1.1 200 Connection established\r\n\r\n",
        "HTTP/1.0 200 OK\r\nProxy-Agent: x\r\n\r\n",
        "HTTP/1.1 200\r\nContent-Length: 5\r\n\r\n",
        "HTTP/1.1 204 \r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\nX: y\n\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    ] {
        assert_eq!(course(http, &[answer.as_bytes()]).0, OPEN, "{answer:?}");
        let more = format!("{answer}x");
        let mut tunnel = http();
        tunnel.poll_transmit(&mut Vec::new());
        assert_eq!(tunnel.handle_input(more.as_bytes()), Err(TunnelError::ExtraBytes));
    }
}

#[test]
fn statuses_say_what_to_do_and_whether_later_helps() {
    for (status, is_transient, word) in [
        (403, false, "does not allow port 443"),
        (405, false, "wss://"),
        (404, false, "404 Not Found"),
        (301, false, "301 Moved Permanently"),
        (101, false, "101 Switching Protocols"),
        (501, false, "501 Not Implemented"),
        (429, true, "429 Too Many Requests"),
        (500, true, "500 Internal Server Error"),
        (502, true, "cannot reach the server"),
        (503, true, "cannot reach the server"),
        (504, true, "cannot reach the server"),
    ] {
        let answer = format!("HTTP/1.1 {status} X\r\nX-Why: a\r\n\r\n");
        let error = fault(http, &[answer.as_bytes()]);
        assert!(error.to_string().contains(word), "{error}");
        assert_eq!(error.is_transient(), is_transient, "{error}");
        assert_eq!(error.response().unwrap().header_str("x-why"), Some("a"));
    }
}

#[test]
fn a_407_is_answered_once_on_the_same_connection_if_that_stays() {
    let challenge = b"HTTP/1.1 407 X\r\nProxy-Authenticate: NTLM\r\n\
        Proxy-Authenticate: Basic realm=\"a\"\r\nContent-Length: 5\r\n\r\nlogin";
    let (outcome, sent) = course(http_with_password, &[challenge, b"HTTP/1.1 200 OK\r\n\r\n"]);
    assert_eq!(outcome, OPEN);
    let texts: Vec<_> = sent.iter().map(|it| String::from_utf8_lossy(it)).collect();
    assert_eq!(texts, [format!("{CONNECT}\r\n"), format!("{CONNECT}{BASIC}\r\n")]);
    let error = fault(http_with_password, &[challenge, challenge]);
    assert!(matches!(error, TunnelError::Unauthorized { had_credentials: true, .. }), "{error:?}");
    let text = "it refused user and password (it offers NTLM, Basic to authenticate)";
    assert!(error.to_string().contains(text) && !error.is_transient(), "{error}");
}

#[test]
fn a_407_is_answered_on_another_connection_if_this_one_cannot_be_used() {
    for (line, body) in [
        ("Connection: close\r\nContent-Length: 0", ""),
        ("Proxy-Connection: Close\r\nContent-Length: 0", ""),
        ("Transfer-Encoding: chunked", "0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\nContent-Length: 0", ""),
        ("X-No: length", ""),
        ("Content-Length: 1\r\nContent-Length: 1", ""),
        ("Content-Length: +1", "x"),
        ("Content-Length: 99999999999999999999999", ""),
        ("Content-Length: 65537", ""),
    ] {
        let challenge =
            format!("HTTP/1.1 407 X\r\nProxy-Authenticate: basic\r\n{line}\r\n\r\n{body}");
        let mut tunnel = http_with_password();
        let mut out = Vec::new();
        tunnel.poll_transmit(&mut out);
        let step = tunnel.handle_input(challenge.as_bytes());
        assert_eq!(step, Ok(Some(TunnelStep::Reconnect)), "{line}");
        out.clear();
        tunnel.poll_transmit(&mut out);
        assert_eq!(String::from_utf8_lossy(&out), format!("{CONNECT}{BASIC}\r\n"));
        assert_eq!(tunnel.handle_end(), Err(TunnelError::Closed { in_answer: false }), "once only");
        assert_eq!(tunnel.handle_input(b"HTTP/1.1 200 OK\r\n\r\n"), OPEN);
    }
    // HTTP/1.0 ends each connection; and more than the body is no answer to anything.
    for challenge in [
        "HTTP/1.0 407 X\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 407 X\r\nProxy-Authenticate: Basic\r\nContent-Length: 1\r\n\r\nxy",
    ] {
        let mut tunnel = http_with_password();
        tunnel.poll_transmit(&mut Vec::new());
        let step = tunnel.handle_input(challenge.as_bytes());
        assert_eq!(step, Ok(Some(TunnelStep::Reconnect)));
    }
}

#[test]
fn a_connection_that_ends_behind_its_407_is_replaced_at_any_byte() {
    let challenge = b"HTTP/1.1 407 X\r\nProxy-Authenticate: Basic\r\nContent-Length: 3\r\n\r\nabc";
    let head = challenge.len() - 3;
    for end in 0..=challenge.len() {
        for sends in [false, true] {
            let mut tunnel = http_with_password();
            tunnel.poll_transmit(&mut Vec::new());
            assert_eq!(tunnel.handle_input(&challenge[..end]), Ok(None));
            if sends {
                tunnel.poll_transmit(&mut Vec::new());
            }
            let wanted = if end < head {
                Err(TunnelError::Closed { in_answer: end > 0 })
            } else {
                Ok(TunnelStep::Reconnect)
            };
            assert_eq!(tunnel.handle_end(), wanted, "{end} {sends}");
            if end >= head {
                tunnel.poll_transmit(&mut Vec::new());
                assert_eq!(tunnel.handle_input(b"HTTP/1.1 200 OK\r\n\r\n"), OPEN);
            }
        }
    }
}

#[test]
fn a_407_that_cannot_be_answered_lists_what_is_offered() {
    let answer = |lines: &str| format!("HTTP/1.1 407 X\r\n{lines}Content-Length: 0\r\n\r\n");
    let ntlm = answer("Proxy-Authenticate: NTLM, Negotiate abc==\r\n");
    let basic =
        answer("Proxy-Authenticate: Digest realm=\"SECRET\", qop=\"a,b\", Basic realm=\"x\"\r\n");
    for (make, challenge, word) in [
        (http as fn() -> Tunnel, &ntlm, "offers NTLM, Negotiate to authenticate: only Basic"),
        (http_with_password, &ntlm, "offers NTLM, Negotiate to authenticate: only Basic"),
        (http, &basic, "offers Digest, Basic to authenticate: give user and password"),
        (http, &answer(""), "offers no scheme"),
        (http_with_password, &answer(""), "offers no scheme"),
    ] {
        let error = fault(make, &[challenge.as_bytes()]);
        assert!(matches!(error, TunnelError::Unauthorized { had_credentials: false, .. }));
        let text = format!("{error} {error:?}");
        assert!(text.contains(word) && !text.contains("SECRET"), "{text}");
    }
}

#[test]
fn a_header_of_the_callers_own_authenticates_at_once() {
    let make = || http().with_header("proxy-authorization", "Bearer T").unwrap();
    let (outcome, sent) = course(make, &[b"HTTP/1.1 200 OK\r\n\r\n"]);
    assert_eq!(outcome, OPEN);
    let wanted = format!("{CONNECT}Proxy-Authorization: Bearer T\r\n\r\n");
    assert_eq!(String::from_utf8_lossy(&sent[0]), wanted);
    let error = fault(make, &[b"HTTP/1.1 407 X\r\nProxy-Authenticate: Bearer\r\n\r\n"]);
    assert!(matches!(error, TunnelError::Unauthorized { had_credentials: true, .. }), "{error:?}");
}

#[test]
fn an_answer_has_a_limit() {
    let endless = [b"HTTP/1.1 200 OK\r\nX: ".to_vec(), vec![b'a'; HEAD_BYTES_MAX]].concat();
    let too_large = TunnelError::Head(HeadError::TooLarge { head_bytes_max: HEAD_BYTES_MAX });
    for piece in [1000, usize::MAX] {
        let mut tunnel = http();
        tunnel.poll_transmit(&mut Vec::new());
        let mut pieces = endless.chunks(piece.min(endless.len()));
        let outcome = pieces.find_map(|piece| tunnel.handle_input(piece).err());
        assert_eq!(outcome, Some(too_large.clone()));
    }
    // A refusal is one however long it is.
    let refusal = [b"HTTP/1.1 403 No\r\nX: ".to_vec(), vec![b'a'; HEAD_BYTES_MAX]].concat();
    let mut tunnel = http();
    tunnel.poll_transmit(&mut Vec::new());
    assert!(matches!(tunnel.handle_input(&refusal), Err(TunnelError::Refused { .. })));
    let interim = "HTTP/1.1 102 Processing\r\n\r\n".repeat(9);
    let error = fault(http, &[interim.as_bytes()]);
    assert!(error.to_string().contains("too many interim responses"), "{error}");
    let error = fault(http, &[b"HTTP/1.1 OK\r\n\r\n"]);
    assert!(error.to_string().contains("malformed HTTP status line"), "{error}");
}

#[test]
fn an_answer_of_another_protocol_names_the_scheme_to_use() {
    let socks4 = || Tunnel::socks4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 80));
    let socks5 = || Tunnel::socks5("feed.example", 80).unwrap();
    let http_words = "it does not speak HTTP: ";
    for (make, answer, words) in [
        (&http as &dyn Fn() -> Tunnel, &b"\x05\xff"[..], [http_words, "socks5h://"]),
        (&http, b"\x00\x5b\0\0\0\0\0\0", [http_words, "socks4a://"]),
        (&http, b"\x15\x03\x01\x00\x02\x02\x46", [http_words, "TLS"]),
        (&http, b"<html>", [http_words, "scheme and the port"]),
        (&http, b"SSH-2.0-x\r\n", [http_words, "scheme and the port"]),
        (&http, b"HTML", [http_words, "scheme and the port"]),
        (&socks4, b"HTTP/1.1 400 Bad Request\r\n\r\n", ["SOCKS4", "begins with http://"]),
        (&socks4, b"<html>", ["SOCKS4", "begins with http://"]),
        (&socks4, b"\x05\xff", ["SOCKS4", "socks5h://"]),
        (&socks4, b"\x16\x03", ["SOCKS4", "TLS"]),
        (&socks5, b"HTTP/1.1 400 Bad Request\r\n\r\n", ["SOCKS5", "begins with http://"]),
        (&socks5, b"\x00\x5b\0\0\0\0\0\0", ["SOCKS5", "socks4a://"]),
        (&socks5, b"\x15\x03", ["SOCKS5", "TLS"]),
        (&socks5, b"SSH-2.0-x\r\n", ["SOCKS5", "scheme and the port"]),
    ] {
        let error = fault(make, &[answer]);
        assert!(matches!(error, TunnelError::WrongProtocol { .. }), "{error:?}");
        let text = error.to_string();
        assert!(words.iter().all(|word| text.contains(word)), "{text}");
        assert!(!error.is_transient());
    }
}

#[test]
fn socks4_asks_for_an_address_and_socks4a_for_a_name() {
    let granted = b"\0\x5a\x12\x34\x01\x02\x03\x04";
    let address = || Tunnel::socks4(SocketAddrV4::new(Ipv4Addr::new(10, 5, 5, 5), 0x1234));
    let user = ProxyCredentials::new("joe", "");
    let with_user = || address().with_credentials(&user).unwrap();
    let named =
        || Tunnel::socks4a("feed.example", 0x1234).unwrap().with_credentials(&user).unwrap();
    let literal = || Tunnel::socks4a("10.5.5.5", 0x1234).unwrap();
    for (make, request) in [
        (&address as &dyn Fn() -> Tunnel, &b"\x04\x01\x12\x34\x0a\x05\x05\x05\0"[..]),
        (&literal, b"\x04\x01\x12\x34\x0a\x05\x05\x05\0"),
        (&with_user, b"\x04\x01\x12\x34\x0a\x05\x05\x05joe\0"),
        (&named, b"\x04\x01\x12\x34\0\0\0\x01joe\0feed.example\0"),
    ] {
        let (outcome, sent) = course(make, &[granted]);
        assert_eq!((outcome, sent), (OPEN, vec![request.to_vec()]));
        let more = [&granted[..], b"x"].concat();
        assert_eq!(play(make(), &[&more], usize::MAX).0, Err(TunnelError::ExtraBytes));
    }
    for (code, is_transient, word) in [
        (91, true, "91 (request rejected or failed)"),
        (92, false, "92 (identd not reached)"),
        (93, false, "93 (identd reports another user)"),
        (7, false, "7 (a code that is unknown)"),
    ] {
        // In whole, and without its end.
        for answer in [&[0, code, 0, 0, 0, 0, 0, 0][..], &[0, code]] {
            let error = fault(address, &[answer]);
            assert!(error.to_string().contains(word), "{error}");
            assert_eq!(error.is_transient(), is_transient, "{error}");
        }
    }
}

/// The answer of a SOCKS5 proxy that opens a tunnel, with an address of each kind.
fn socks5_answers() -> [Vec<u8>; 4] {
    let name = [&b"\x05\0\0\x03\xff"[..], &[b'a'; 255], b"\x12\x34"].concat();
    let ipv6 = [&b"\x05\0\0\x04"[..], &[0; 16], b"\x12\x34"].concat();
    [b"\x05\0\0\x01\x01\x02\x03\x04\x12\x34".to_vec(), name, ipv6, b"\x05\0\0\x03\0\0\0".to_vec()]
}

#[test]
fn socks5_asks_for_names_and_addresses_rfc1928_4() {
    for (host, address) in [
        ("feed.example", &b"\x03\x0cfeed.example"[..]),
        ("10.5.5.5", b"\x01\x0a\x05\x05\x05"),
        ("::1", b"\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01"),
    ] {
        let request = [b"\x05\x01\0", address, b"\x01\xbb"].concat();
        for answer in socks5_answers() {
            let make = || Tunnel::socks5(host, 443).unwrap();
            let (outcome, sent) = course(make, &[b"\x05\0", &answer]);
            assert_eq!((outcome, sent), (OPEN, vec![b"\x05\x01\0".to_vec(), request.clone()]));
            let more = [&answer[..], b"x"].concat();
            let outcome = play(make(), &[b"\x05\0", &more], usize::MAX).0;
            assert_eq!(outcome, Err(TunnelError::ExtraBytes));
        }
        let early = [b"\x05\0", &socks5_answers()[0][..]].concat();
        let mut tunnel = Tunnel::socks5(host, 443).unwrap();
        tunnel.poll_transmit(&mut Vec::new());
        assert_eq!(tunnel.handle_input(&early), Err(TunnelError::ExtraBytes));
    }
}

#[test]
fn socks5_gives_user_and_password_if_the_proxy_chooses_so_rfc1929() {
    let make = || Tunnel::socks5("a", 1).unwrap().with_credentials(&secret()).unwrap();
    let open = &socks5_answers()[0][..];
    let hello = b"\x05\x02\0\x02".to_vec();
    let request = b"\x05\x01\0\x03\x01a\0\x01".to_vec();
    let (outcome, sent) = course(make, &[b"\x05\0", open]);
    assert_eq!((outcome, sent), (OPEN, vec![hello.clone(), request.clone()]));
    for version in [1, 5] {
        let (outcome, sent) = course(make, &[b"\x05\x02", &[version, 0], open]);
        let password = b"\x01\x04USER\x06SECRET".to_vec();
        assert_eq!((outcome, sent), (OPEN, vec![hello.clone(), password, request.clone()]));
    }
    let error = fault(make, &[b"\x05\x02", b"\x01\x01"]);
    assert_eq!(error, TunnelError::BadCredentials);
    assert!(error.to_string().contains("correct them") && !error.is_transient(), "{error}");
    let none = || Tunnel::socks5("a", 1).unwrap();
    for answer in [b"\x05\xff", b"\x05\x02"] {
        let error = fault(none, &[answer]);
        assert_eq!(error, TunnelError::NoAcceptableMethod { had_credentials: false });
        assert!(error.to_string().contains("give user and password"), "{error}");
    }
    let error = fault(make, &[b"\x05\xff"]);
    assert_eq!(error, TunnelError::NoAcceptableMethod { had_credentials: true });
    let error = fault(make, &[b"\x05\x01"]);
    assert!(error.to_string().contains("a method that was not offered"), "{error}");
}

#[test]
fn socks5_refusals_are_named_rfc1928_6() {
    for (code, is_transient, word) in [
        (1, true, "1 (general failure): the proxy cannot reach the server"),
        (2, false, "2 (not allowed by its rules)"),
        (3, true, "3 (network unreachable)"),
        (4, true, "4 (host unreachable)"),
        (5, true, "5 (connection refused)"),
        (6, true, "6 (time to live expired)"),
        (7, false, "7 (command not supported)"),
        (8, false, "8 (address type not supported)"),
        (99, false, "99 (a code that is unknown)"),
    ] {
        for answer in [&[5, code, 0, 1, 0, 0, 0, 0, 0, 0][..], &[5, code]] {
            let error = fault(|| Tunnel::socks5("a", 1).unwrap(), &[b"\x05\0", answer]);
            assert!(error.to_string().contains(word), "{error}");
            assert_eq!(error.is_transient(), is_transient, "{error}");
        }
    }
    let error = fault(|| Tunnel::socks5("a", 1).unwrap(), &[b"\x05\0", b"\x05\0\0\x02"]);
    assert!(error.to_string().contains("unknown kind"), "{error}");
}

#[test]
fn an_end_in_the_middle_of_an_answer_is_told_from_one_before_it() {
    let socks4 = || Tunnel::socks4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 80));
    let socks5 = || Tunnel::socks5("feed.example", 80).unwrap();
    for (make, part) in
        [(&http as &dyn Fn() -> Tunnel, &b"HT"[..]), (&socks4, b"\0\x5a"), (&socks5, b"\x05")]
    {
        let mut tunnel = make();
        tunnel.poll_transmit(&mut Vec::new());
        let error = tunnel.handle_end().unwrap_err();
        assert_eq!(error, TunnelError::Closed { in_answer: false });
        assert!(error.to_string().contains("before it answered: check") && error.is_transient());
        assert_eq!(tunnel.handle_input(part), Ok(None));
        assert_eq!(tunnel.handle_end(), Err(TunnelError::Closed { in_answer: true }));
    }
}

#[test]
fn what_no_proxy_can_be_asked_for_is_refused() {
    let long = "x".repeat(256);
    let give = |tunnel: Tunnel, user: &str, password: &str| {
        tunnel.with_credentials(&ProxyCredentials::new(user, password)).map(drop)
    };
    let socks4 = || Tunnel::socks4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 80));
    let socks5 = || Tunnel::socks5("a", 1).unwrap();
    for (outcome, word) in [
        (Tunnel::http("", 1).map(drop), "Host"),
        (Tunnel::http("a b", 1).map(drop), "Host"),
        (Tunnel::http("a:1", 1).map(drop), "Host"),
        (Tunnel::http("[::1]", 1).map(drop), "Host"),
        (Tunnel::http("a\r\nX: y", 1).map(drop), "Host"),
        (Tunnel::socks5("a\0b", 1).map(drop), "Host"),
        (Tunnel::socks5(&long, 1).map(drop), "host is 256 bytes"),
        (Tunnel::socks4a(&long, 1).map(drop), "host is 256 bytes"),
        (Tunnel::socks4a("::1", 1).map(drop), "socks5://"),
        (give(socks5(), &long, ""), "user is 256 bytes"),
        (give(socks5(), "", &long), "password is 256 bytes"),
        (give(socks4(), &long, ""), "user is 256 bytes"),
        (give(socks4(), "a\0b", ""), "0 byte"),
        (give(socks4(), "a", "b"), "SOCKS4 has a user and no password"),
        (give(http(), "a:b", ""), "colon"),
        (socks5().with_header("X", "y").map(drop), "SOCKS has no headers"),
        (http().with_header("Host", "y").map(drop), "Host"),
        (http().with_header("content-length", "5").map(drop), "content-length"),
        (http().with_header("a b", "y").map(drop), "a b"),
        (http().with_header("X", "a\r\nb: c").map(drop), "control character"),
        (http_with_password().with_header("Proxy-Authorization", "x").map(drop), "leave one out"),
        (give(http().with_header("Proxy-Authorization", "x").unwrap(), "a", "b"), "leave one out"),
    ] {
        let text = outcome.unwrap_err().to_string();
        assert!(text.contains(word), "{word}: {text}");
    }
    let edge = "x".repeat(255);
    assert!(give(socks5(), &edge, &edge).is_ok() && Tunnel::socks5(&edge, 1).is_ok());
}

#[test]
fn debug_output_has_no_credentials() {
    let user = ProxyCredentials::new("USER", "");
    let tunnels = [
        http_with_password().with_header("X-Token", "SECRET").unwrap(),
        http().with_header("Proxy-Authorization", "SECRET").unwrap(),
        Tunnel::socks4a("a", 1).unwrap().with_credentials(&user).unwrap(),
        Tunnel::socks5("a", 1).unwrap().with_credentials(&secret()).unwrap(),
    ];
    let shown = format!("{tunnels:?} {user:?}");
    assert!(!shown.contains("SECRET") && !shown.contains("USER"), "{shown}");
    assert!(!shown.contains("VVNFU"), "{shown}");
}

proptest! {
    #[test]
    fn any_answer_has_one_outcome_however_it_is_cut(
        answer in proptest::collection::vec(any::<u8>(), 1..80),
        start in 0_usize..4,
    ) {
        let start: &[u8] = [&b""[..], b"HTTP/1.1 200 OK\r\n", b"\x05\0", b"\0\x5a"][start];
        crate::testing::fuzzing::tunnel(&[&[7], start, &answer].concat());
        crate::testing::fuzzing::tunnel(&[&answer[..1], start, &answer].concat());
    }
}
