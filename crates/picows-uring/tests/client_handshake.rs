//! The client against servers that answer the upgrade request wrongly, or in odd ways.

#![allow(clippy::unwrap_used, reason = "a test that fails is to stop there")]

mod scripted;

use picows_uring::{
    Connect, ConnectFault, ConnectStage, MessageFault, MsgType, ResponseError, spawn,
};
use scripted::{
    Heard, PATIENCE, Request, answers, connected, patiently, refused, run, serve, until,
};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

/// The fault of an answer.
#[track_caller]
fn response_error(answer: impl Fn(&Request) -> String + Send + Sync + 'static) -> ResponseError {
    let error = refused(Connect::new(answers(answer)));
    match error.fault() {
        ConnectFault::Response(fault) => {
            assert!(!error.is_transient(), "{error}");
            fault.clone()
        }
        other => panic!("{other:?}"),
    }
}

/// An answer that accepts but for one line.
fn without(request: &Request, name: &str, instead: &str) -> String {
    let answer = request.accepted("");
    let kept: Vec<_> =
        answer.split_inclusive("\r\n").filter(|line| !line.starts_with(name)).collect();
    kept.concat().replacen("\r\n", &format!("\r\n{instead}"), 1)
}

#[test]
fn a_wrong_accept_is_refused_rfc6455_4_1() {
    for instead in ["", "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"] {
        let error =
            response_error(move |request| without(request, "Sec-WebSocket-Accept", instead));
        let ResponseError::InvalidAccept(response) = error else { panic!("{error:?}") };
        assert_eq!(response.head().status().as_u16(), 101);
    }
}

#[test]
fn missing_and_wrong_headers_each_have_an_error_rfc6455_4_1() {
    type Is = fn(&ResponseError) -> bool;
    let cases: [(&str, &str, Is); 6] = [
        ("Upgrade", "", |it| matches!(it, ResponseError::InvalidUpgrade(_))),
        ("Upgrade", "Upgrade: not-websocket\r\n", |it| {
            matches!(it, ResponseError::InvalidUpgrade(_))
        }),
        ("Connection", "", |it| matches!(it, ResponseError::InvalidConnection(_))),
        ("Connection", "Connection: close\r\n", |it| {
            matches!(it, ResponseError::InvalidConnection(_))
        }),
        ("X", "Sec-WebSocket-Extensions: permessage-deflate\r\n", |it| {
            matches!(it, ResponseError::InvalidExtensions(_))
        }),
        ("X", "Sec-WebSocket-Protocol: chat\r\n", |it| {
            matches!(it, ResponseError::InvalidSubprotocol(_))
        }),
    ];
    for (name, instead, is) in cases {
        let error = response_error(move |request| without(request, name, instead));
        assert!(is(&error), "{name} {instead:?}: {error:?}");
        assert_eq!(error.response().unwrap().head().status().as_u16(), 101);
    }
}

#[test]
#[cfg(feature = "deflate")]
fn an_answer_about_compression_that_does_not_fit_names_the_parameter() {
    let cases = [
        ("client_max_window_bits=12", true, "client_max_window_bits"),
        ("client_max_window_bits", false, "client_max_window_bits"),
        ("server_max_window_bits=16", false, "server_max_window_bits"),
        (
            "server_no_context_takeover; server_no_context_takeover",
            false,
            "server_no_context_takeover",
        ),
        ("odd=1", false, "odd"),
    ];
    for (parameters, is_bare, name) in cases {
        let url = answers(move |request| {
            let line = format!("Sec-WebSocket-Extensions: permessage-deflate; {parameters}\r\n");
            request.accepted(&line)
        });
        let settings = picows_uring::Deflate::new().bare_offer(is_bare);
        let error = refused(Connect::new(url).deflate(settings));
        assert!(!error.is_transient() && error.to_string().contains(name), "{parameters}: {error}");
    }
    // A server that refuses any parameter of an offer, and takes one without.
    let picky = || {
        answers(|request| match request.headers("sec-websocket-extensions")[..] {
            ["permessage-deflate"] => {
                request.accepted("Sec-WebSocket-Extensions: permessage-deflate\r\n")
            }
            _ => "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n".to_owned(),
        })
    };
    let settings = picows_uring::Deflate::new();
    let error = refused(Connect::new(picky()).deflate(settings));
    assert!(error.to_string().contains("400"), "{error}");
    let agreed = connected(Connect::new(picky()).deflate(settings.bare_offer(true)), |transport| {
        transport.deflate().expect("it agrees")
    });
    assert_eq!((agreed.window_bits, agreed.peer_window_bits), (12, 15));
}

/// The text is of 10 KB and repeats every 300 bytes, which a window of 8 bits does not reach.
#[test]
#[cfg(feature = "deflate")]
fn a_server_may_choose_the_smallest_windows_for_us() {
    use picows_uring_proto::{Deflate, Expansion, FrameRules, Inflaters, Receiver, Role};
    let text = || (0..10_000_u32).map(|at| (at % 300 / 2) as u8 + b' ' / 2).collect::<Vec<u8>>();
    for bits in [8, 9] {
        let (sender, received) = mpsc::channel();
        let sender = Mutex::new(sender);
        let address = serve(move |_, mut peer| {
            let request = peer.request();
            let answer = format!("permessage-deflate; client_max_window_bits={bits}");
            peer.write(
                request.accepted(&format!("Sec-WebSocket-Extensions: {answer}\r\n")).as_bytes(),
            );
            let _ = sender.lock().unwrap().send(peer.read_to_end());
        });
        let connect = Connect::new(format!("ws://{address}/")).deflate(Deflate::new());
        run(async move {
            let mut stream = connect.stream().await.unwrap();
            assert_eq!(stream.transport().deflate().map(|it| it.window_bits), Some(bits));
            for _ in 0..3 {
                stream.send(text()).await.unwrap();
            }
            stream.transport().disconnect();
            while stream.next().await.is_some() {}
        })
        .unwrap();
        let mut wire = received.recv_timeout(PATIENCE).unwrap();
        // Expanded with a window no larger: a distance beyond it is refused.
        let request = "GET / HTTP/1.1\r\nHost: a\r\nSec-WebSocket-Extensions: permessage-deflate; \
            client_max_window_bits\r\n\r\n";
        let limits = picows_uring_proto::HeadLimits::default();
        let request = picows_uring_proto::UpgradeRequest::parse(request.as_bytes(), &limits);
        let settings = Deflate::new().peer_window_bits(bits);
        let (agreed, _) = settings.accept(&request.unwrap().unwrap().0).unwrap();
        let (mut receiver, mut inflaters) = (Receiver::new(Role::Server), Inflaters::new(1));
        let (mut expansion, rules) = (Expansion::new(&settings, &agreed), FrameRules::default());
        let (mut consumed, mut texts) = (0, 0);
        loop {
            let rest = &mut wire[consumed..];
            let next = receiver.next_expanded(&rules, &mut expansion, &mut inflaters, rest);
            let (decoded, expanded) = next.unwrap();
            consumed += decoded.consumed;
            let Some(frame) = decoded.frame else { break };
            if frame.msg_type() == MsgType::Binary {
                assert!(frame.payload() == text() && expanded.is_some());
                texts += 1;
            }
        }
        assert_eq!(texts, 3);
    }
}

#[test]
fn another_status_comes_with_its_headers_and_body() {
    let url = answers(|_| {
        "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic\r\nContent-Length: 8\r\n\r\nwho, you?"
            .to_owned()
    });
    let error = refused(Connect::new(url));
    let response = error.response().unwrap();
    assert_eq!(response.status().as_u16(), 401);
    assert_eq!(response.header_str("www-authenticate"), Some("Basic"));
    assert_eq!(error.body(), Some(&b"who, you"[..]));
    assert!(error.to_string().contains("401 Unauthorized"), "{error}");
    assert!(!error.is_transient());
}

#[test]
fn a_server_that_fails_or_says_not_now_may_recover() {
    for (status, is_transient) in [
        (500, true),
        (502, true),
        (503, true),
        (599, true),
        (429, true), // RFC 6585 §4
        (408, true), // RFC 9110 §15.5.9
        (425, true), // RFC 8470 §5.2
        (200, false),
        (400, false),
        (401, false),
        (403, false),
        (404, false),
        (426, false),
    ] {
        let url = answers(move |_| format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n"));
        assert_eq!(refused(Connect::new(url)).is_transient(), is_transient, "{status}");
    }
}

/// Sends `answer`, and then ends the connection.
fn answers_and_ends(answer: &'static str) -> String {
    let address = serve(move |_, mut peer| {
        peer.request();
        peer.write(answer.as_bytes());
    });
    format!("ws://{address}/")
}

#[test]
fn a_refusal_in_odd_form_says_its_status_and_may_be_transient() {
    for answer in [
        "HTTP/1.0 503 Service Unavailable\r\nRetry-After: 9\r\nConnection: close\r\n\r\nbusy",
        "HTTP/1.1 503\nRetry-After: 9\n\nbusy",
        "HTTP/1.1 503 X\r\nbad line\r\nRetry-After : 9\r\n\r\nbusy",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 X\r\nRetry-After: 9\r\n\r\nbusy",
        // The head is cut off.
        "HTTP/1.1 503 X\r\nRetry-After: 9\r\nX: busy",
    ] {
        let error = refused(Connect::new(answers_and_ends(answer)));
        let is_status =
            matches!(error.fault(), ConnectFault::Response(ResponseError::InvalidStatus(_)));
        assert!(is_status && error.is_transient(), "{answer:?}: {error:?}");
        assert_eq!(error.response().unwrap().status().as_u16(), 503);
        assert_eq!(error.retry_after(), Some(Duration::from_secs(9)), "{answer:?}");
        let body = if answer.contains("X: busy") { &b""[..] } else { b"busy" };
        assert_eq!(error.body(), Some(body));
        let text = error.to_string();
        assert!(text.contains("503 Service Unavailable instead of 101 (Retry-After: 9)"), "{text}");
        assert_eq!(text.contains("busy"), !body.is_empty(), "{text}");
    }
}

#[test]
fn a_refusal_whose_head_does_not_end_in_time_says_its_status() {
    let url = answers(|_| "HTTP/1.1 403 Forbidden\r\nX: y\r\n".to_owned());
    let status = patiently("an answer before the time is over", || {
        let error = refused(Connect::new(&*url).handshake_timeout(Duration::from_millis(200)));
        error.response().map(|it| it.status().as_u16())
    });
    assert_eq!(status, 403);
}

#[test]
fn a_date_to_come_again_that_has_passed_is_no_time() {
    let url = answers(|_| {
        "HTTP/1.1 503 X\r\nRetry-After: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 0\r\n\r\n"
            .to_owned()
    });
    assert_eq!(refused(Connect::new(url)).retry_after(), Some(Duration::ZERO));
}

#[test]
fn interim_responses_are_passed_over_rfc9110_15_2() {
    let address = serve(|_, mut peer| {
        let answer = peer.request().accepted("");
        let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </>\r\n\r\n";
        for byte in (interim.to_owned() + &answer).bytes() {
            peer.write(&[byte]);
        }
        peer.write(b"\x81\x05hello\x82\x00");
        peer.read_to_end();
    });
    expect_hello(&format!("ws://{address}/"));
    // In one piece with what follows.
    let address = serve(|_, mut peer| {
        let answer = peer.request().accepted("");
        let mut wire = ("HTTP/1.1 100 Continue\r\n\r\n".to_owned() + &answer).into_bytes();
        wire.extend_from_slice(b"\x81\x05hello\x82\x00");
        peer.write(&wire);
        peer.read_to_end();
    });
    expect_hello(&format!("ws://{address}/"));
    // Without end.
    let url = answers(|_| "HTTP/1.1 100 Continue\r\n\r\n".repeat(1000));
    let error = refused(Connect::new(url));
    let ConnectFault::Response(ResponseError::InvalidMessage(message)) = error.fault() else {
        panic!("{error:?}")
    };
    assert!(matches!(message.fault, MessageFault::TooManyInterim { count_max: 8 }), "{error:?}");
    // Only those: nothing has been decided.
    let error = refused(Connect::new(answers_and_ends("HTTP/1.1 100 Continue\r\n\r\n")));
    assert!(matches!(error.fault(), ConnectFault::Disconnected(None)), "{error:?}");
}

#[test]
fn a_101_has_no_body_whatever_its_headers_say_rfc9112_6_3() {
    for line in ["Transfer-Encoding: chunked\r\n", "Content-Length: 5\r\n"] {
        let address = serve(move |_, mut peer| {
            let mut answer = peer.request().accepted(line).into_bytes();
            answer.extend_from_slice(b"\x81\x05hello\x82\x00");
            peer.write(&answer);
            peer.read_to_end();
        });
        expect_hello(&format!("ws://{address}/"));
    }
}

#[test]
fn a_body_in_pieces_is_collected_and_one_without_end_is_cut() {
    let address = serve(|_, mut peer| {
        peer.request();
        peer.write(b"HTTP/1.1 500 Oops\r\nContent-Length: 11\r\n\r\nfirst");
        peer.write(b" ");
        peer.write(b"second");
        peer.read_to_end();
    });
    assert_eq!(refused(Connect::new(format!("ws://{address}/"))).body(), Some(&b"first secon"[..]));

    let address = serve(|_, mut peer| {
        peer.request();
        peer.write(b"HTTP/1.1 500 Oops\r\n\r\n");
        for _ in 0..100 {
            peer.write(&[b'x'; 1000]);
        }
        peer.read_to_end();
    });
    let error = refused(Connect::new(format!("ws://{address}/")));
    assert_eq!(error.body().unwrap(), [b'x'; 4096]);
}

#[test]
fn a_body_that_does_not_end_is_not_waited_for() {
    // Neither a length nor an end of the connection; and a length that is a lie.
    for head in
        ["HTTP/1.1 404 Not Found\r\n\r\nnot", "HTTP/1.1 404 No\r\nContent-Length: 9\r\n\r\nnot"]
    {
        let url = answers(move |_| head.to_owned());
        // The server would go on after as long as that.
        let started = Instant::now();
        let error = refused(Connect::new(url).handshake_timeout(None));
        assert!(started.elapsed() < PATIENCE / 2, "{:?}", started.elapsed());
        assert_eq!(error.response().unwrap().status().as_u16(), 404);
        assert_eq!(error.body(), Some(&b"not"[..]));
    }
    // When there is no time at all, the answer still says more than that.
    let url = answers(move |_| "HTTP/1.1 404 Not Found\r\n\r\n".to_owned());
    let status = patiently("an answer before the time is over", || {
        let error = refused(Connect::new(&*url).handshake_timeout(Duration::from_millis(200)));
        error.response().map(|it| it.status().as_u16())
    });
    assert_eq!(status, 404);
}

#[test]
fn a_reset_after_the_answer_does_not_hide_it() {
    // Over TCP, the reset may overtake the answer. On a Unix socket it is what comes behind, if
    // something is left unread.
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let server = std::thread::spawn(move || {
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r") {
            theirs.read_exact(&mut byte).unwrap();
            head.extend_from_slice(&byte);
        }
        theirs.write_all(b"HTTP/1.1 403 Forbidden\r\n\r\ngo").unwrap();
    });
    let error = refused(Connect::new("ws://localhost/").socket(ours));
    assert_eq!(error.response().map(|it| it.status().as_u16()), Some(403), "{error}");
    assert_eq!(error.body(), Some(&b"go"[..]));
    server.join().unwrap();
}

#[test]
fn any_reason_will_do_for_a_101_rfc9112_4() {
    for status in ["101 null", "101 ", "101", "101 Web Socket Protocol Handshake"] {
        let url = answers(move |request| request.accepted_with(status, ""));
        connected(Connect::new(url), |transport| {
            assert_eq!(transport.response().unwrap().status().as_u16(), 101);
        });
    }
}

#[test]
fn connection_is_a_list_of_tokens_in_any_case() {
    for line in ["Connection: keep-alive, UPGRADE\r\n", "connection: Upgrade,x\r\n"] {
        let url = answers(move |request| without(request, "Connection", line));
        connected(Connect::new(url), |transport| assert!(transport.is_open()));
    }
}

#[test]
fn what_is_no_http_is_named() {
    type Is = fn(&MessageFault) -> bool;
    let cases: [(&[u8], Is); 4] = [
        (b"SSH-2.0-OpenSSH\r\n", |it| matches!(it, MessageFault::NotHttp)),
        (b"HTTP/1.0 101 Old\r\n\r\n", |it| matches!(it, MessageFault::UnsupportedVersion)),
        (b"HTTP/1.1 one\r\n\r\n", |it| matches!(it, MessageFault::MalformedStatusLine)),
        (b"HTTP/1.1 101 OK\r\nbad header\r\n\r\n", |it| matches!(it, MessageFault::Head(_))),
    ];
    for (answer, is) in cases {
        let address = serve(move |_, mut peer| {
            peer.request();
            peer.write(answer);
            peer.read_to_end();
        });
        let error = refused(Connect::new(format!("ws://{address}/")));
        let ConnectFault::Response(ResponseError::InvalidMessage(message)) = error.fault() else {
            panic!("{error:?}")
        };
        assert!(is(&message.fault), "{message:?}");
        assert!(!message.head.is_empty());
    }
}

#[test]
fn a_server_that_expects_tls_is_named_as_soon_as_its_first_byte_came() {
    let (alert, hello) = (&b"\x15\x03\x01\x00\x02\x02\x50"[..], &b"\x16\x03\x03\x00\x40"[..]);
    for answer in [alert, &alert[..1], &alert[..2], hello] {
        let address = serve(move |_, mut peer| {
            peer.request();
            peer.write(answer);
            peer.read_to_end();
        });
        let error = refused(Connect::new(format!("ws://{address}/")));
        assert!(matches!(error.fault(), ConnectFault::TlsExpected), "{answer:?}: {error:?}");
        assert!(!error.is_transient());
    }
}

#[test]
fn a_head_without_end_is_cut_at_its_limit() {
    for is_complete in [false, true] {
        let url = answers(move |request| {
            let mut long = format!("X-Long: {}\r\n", "x".repeat(20_000));
            if !is_complete {
                long.push_str("X-Unfinished: ");
            }
            let answer = request.accepted(&long);
            if is_complete { answer } else { answer.trim_end().to_owned() }
        });
        let error = refused(Connect::new(url));
        let ConnectFault::Response(ResponseError::InvalidMessage(message)) = error.fault() else {
            panic!("{error:?}")
        };
        assert!(matches!(message.fault, MessageFault::Head(_)), "{message:?}");
        assert!(message.head.len() <= 16 * 1024 + 1, "{}", message.head.len());
    }
}

#[test]
fn an_answer_may_come_in_single_bytes_with_frames_behind() {
    let address = serve(|_, mut peer| {
        let mut answer = peer.request().accepted("").into_bytes();
        answer.extend_from_slice(b"\x81\x05hello\x82\x00");
        for byte in answer {
            peer.write(&[byte]);
        }
        peer.read_to_end();
    });
    expect_hello(&format!("ws://{address}/"));
}

#[test]
fn frames_glued_to_the_answer_are_delivered() {
    let address = serve(|_, mut peer| {
        let mut answer = peer.request().accepted("").into_bytes();
        answer.extend_from_slice(b"\x81\x05hello\x82\x00");
        peer.write(&answer);
        peer.read_to_end();
    });
    expect_hello(&format!("ws://{address}/"));
}

/// The frames TEXT "hello" and an empty BINARY arrive.
fn expect_hello(url: &str) {
    run(async {
        let heard = Heard::default();
        let transport = Connect::new(url).connect(heard.clone()).await.unwrap();
        until("both frames", || (heard.0.borrow().len() >= 2).then_some(())).await;
        let wanted = [(MsgType::Text, b"hello".to_vec()), (MsgType::Binary, Vec::new())];
        assert_eq!(*heard.0.borrow(), wanted);
        transport.abort();
    })
    .unwrap();
}

#[test]
fn silence_is_a_timeout_that_names_the_stage() {
    let url = answers(|_| String::new());
    let limit = Duration::from_millis(100);
    let error = patiently("a connection before the time is over", || {
        let error = refused(Connect::new(&*url).handshake_timeout(limit));
        let ConnectFault::Timeout { stage, limit: it } = error.fault() else { panic!("{error:?}") };
        assert_eq!(*it, limit);
        (*stage == ConnectStage::Handshake).then_some(error)
    });
    assert!(error.to_string().contains("the upgrade took longer than 100ms"), "{error}");
    assert!(error.is_transient());
}

#[test]
fn a_late_answer_is_taken_when_there_is_no_limit() {
    // Later than another one with a limit gives up.
    let (release, gate) = mpsc::channel();
    let gate = Mutex::new(gate);
    let address = serve(move |_, mut peer| {
        let request = peer.request();
        if request.target() == "/late" {
            gate.lock().unwrap().recv_timeout(PATIENCE).unwrap();
            peer.write(request.accepted("").as_bytes());
        }
        peer.read_to_end();
    });
    let connect = |path| Connect::new(format!("ws://{address}{path}"));
    run(async {
        let late = connect("/late").handshake_timeout(None).connect(Heard::default());
        let patient = spawn(late).unwrap();
        let limit = Duration::from_millis(50);
        let hasty = connect("/never").handshake_timeout(limit).connect(Heard::default());
        assert!(hasty.await.is_err());
        release.send(()).unwrap();
        let transport = patient.await.unwrap().unwrap();
        assert!(transport.is_open());
        transport.abort();
    })
    .unwrap();
}

#[test]
fn an_end_before_the_answer_is_an_error_of_its_own() {
    for how in 0..3 {
        let address = serve(move |_, mut peer| match how {
            0 => drop(peer),
            1 => {
                peer.request();
                peer.write(b"HTTP/1.1 101 Swi");
            }
            _ => {
                peer.request();
                peer.reset();
            }
        });
        let error = refused(Connect::new(format!("ws://{address}/")));
        let ConnectFault::Disconnected(cause) = error.fault() else { panic!("{how}: {error:?}") };
        assert!(error.is_transient());
        match how {
            // Whether our request arrives before or after the end decides.
            0 => {}
            1 => assert!(cause.is_none(), "{cause:?}"),
            _ => {
                let kind = cause.as_ref().unwrap().kind();
                assert_eq!(kind, std::io::ErrorKind::ConnectionReset);
            }
        }
    }
}
