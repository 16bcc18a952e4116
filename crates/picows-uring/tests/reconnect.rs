//! A connection that is made again when it is lost.

#![allow(clippy::unwrap_used, reason = "a test that fails is to stop there")]

mod scripted;

use picows_uring::{
    Backoff, CloseCode, Connect, ConnectFault, Frame, Listener, ListenerError, ListenerResult,
    MsgType, Reconnect, ReconnectError, Transport,
};
use scripted::{Heard, answers, run, serve, until};
use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

fn quick() -> Backoff {
    Backoff::default().initial(Duration::from_millis(1)).max(Duration::from_millis(5))
}

/// Fails in every way there is, and then serves.
fn unsteady() -> String {
    let address = serve(|number, mut peer| {
        let request = peer.request();
        match number {
            0 => {}
            1 => peer.write(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"),
            2 => peer.write(request.accepted("").as_bytes()), // And lost at once.
            3 => {
                peer.write(request.accepted("").as_bytes());
                peer.write(b"\xff\xff"); // No frame.
                peer.read_to_end();
            }
            _ => {
                peer.write(request.accepted("").as_bytes());
                peer.write(b"\x81\x02hi");
                peer.read_to_end();
            }
        }
    });
    format!("ws://{address}/")
}

/// Sends CLOSE when it is greeted.
struct Greeted;

impl Listener for Greeted {
    fn on_frame(&mut self, transport: &Transport, frame: &Frame<'_>) -> ListenerResult {
        assert_eq!((frame.msg_type(), frame.payload()), (MsgType::Text, &b"hi"[..]));
        transport.send_close(CloseCode::NORMAL, "");
        transport.disconnect();
        Ok(())
    }
}

#[test]
fn it_is_made_again_until_the_application_ends_it() {
    let url = unsteady();
    let hooked = Rc::new(Cell::new(0));
    let seen = Rc::clone(&hooked);
    run(async move {
        Reconnect::new(move || Connect::new(&*url))
            .backoff(quick())
            .on_connected(move |_| seen.set(seen.get() + 1))
            .run(|| Greeted)
            .await
    })
    .unwrap()
    .unwrap();
    assert_eq!(hooked.get(), 3, "each connection that opened, however soon it was lost");
}

#[test]
fn streams_are_made_again_as_well() {
    let url = unsteady();
    run(async move {
        let mut reconnect = Reconnect::new(move || Connect::new(&*url)).backoff(quick());
        let mut empty = 0;
        loop {
            let mut stream = reconnect.stream().await.unwrap();
            match stream.next().await {
                Some(message) => break assert_eq!(message.as_text(), Some("hi")),
                None => empty += 1,
            }
        }
        assert_eq!(empty, 2);
    })
    .unwrap();
}

/// Ends each connection at its greeting as `course` has it, by the number of the connection.
struct Course {
    connections: usize,
    course: fn(usize, &Transport) -> ListenerResult,
}

impl Listener for Course {
    fn on_connected(&mut self, _: &Transport) -> ListenerResult {
        self.connections += 1;
        Ok(())
    }

    fn on_frame(&mut self, transport: &Transport, _: &Frame<'_>) -> ListenerResult {
        (self.course)(self.connections, transport)
    }
}

/// The outcome for one listener with this course, and a server that is `unsteady` for a while.
fn keep(course: fn(usize, &Transport) -> ListenerResult) -> Result<(), ReconnectError> {
    let url = unsteady();
    let reconnect = Reconnect::new(move || Connect::new(&*url)).backoff(quick());
    run(reconnect.keep(Course { connections: 0, course })).unwrap()
}

#[test]
fn one_listener_is_kept_over_all_connections() {
    let outcome = keep(|connections, transport| {
        assert_eq!(connections, 3, "one was lost at once, and one had a frame that is none");
        transport.send_close(CloseCode::NORMAL, "");
        transport.disconnect();
        Ok(())
    });
    assert!(outcome.is_ok(), "{outcome:?}");
}

#[derive(Debug)]
struct OutOfOrder(usize);

impl std::fmt::Display for OutOfOrder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} is out of order", self.0)
    }
}

impl std::error::Error for OutOfOrder {}

#[test]
fn an_error_of_the_kept_listener_ends_it_and_a_close_of_its_choice_does_not() {
    let outcome = keep(|connections, _| {
        Err(match connections {
            3 | 4 => ListenerError::close(CloseCode::GOING_AWAY, "again"),
            _ => OutOfOrder(connections).into(),
        })
    });
    let Err(ReconnectError::Listener(error)) = outcome else { panic!("{outcome:?}") };
    assert_eq!(error.downcast::<OutOfOrder>().unwrap().0, 5);
}

#[test]
fn a_panic_of_the_kept_listener_ends_it() {
    let outcome = keep(|_, _| panic!("on purpose"));
    let Err(error @ ReconnectError::Listener(_)) = outcome else { panic!("{outcome:?}") };
    assert!(error.to_string().contains("on purpose"), "{error}");
}

#[test]
fn what_cannot_get_better_ends_one_with_a_kept_listener_too() {
    let url = answers(|_| "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned());
    let reconnect = Reconnect::new(move || Connect::new(&*url)).backoff(quick());
    let outcome = run(reconnect.keep(Heard::default())).unwrap();
    let Err(ReconnectError::Connect(error)) = outcome else { panic!("{outcome:?}") };
    assert_eq!(error.response().unwrap().status().as_u16(), 404);
}

#[test]
fn what_cannot_get_better_ends_it() {
    let url = answers(|_| "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned());
    let reconnect = Reconnect::new(move || Connect::new(&*url)).backoff(quick());
    let error = run(reconnect.run(Heard::default)).unwrap().unwrap_err();
    assert_eq!(error.response().unwrap().status().as_u16(), 404);
}

/// How often a server that gives `answer` is asked, when it may be thrice.
fn attempts(answer: &'static str) -> usize {
    let (told, asked) = std::sync::mpsc::channel();
    let told = std::sync::Mutex::new(told);
    let address = serve(move |_, mut peer| {
        peer.request();
        told.lock().unwrap().send(()).unwrap();
        peer.write(answer.as_bytes());
    });
    let url = format!("ws://{address}/");
    let reconnect = Reconnect::new(move || Connect::new(&*url)).backoff(quick()).max_attempts(3);
    assert!(run(reconnect.run(Heard::default)).unwrap().is_err());
    asked.try_iter().count()
}

#[test]
fn a_refusal_is_tried_again_by_its_status_whatever_its_form() {
    for (answer, wanted) in [
        ("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", 3),
        ("HTTP/1.0 503 Service Unavailable\r\nConnection: close\r\n\r\nbusy", 3),
        ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 X\r\nContent-Length: 0\r\n\r\n", 3),
        ("HTTP/1.1 502\n\n", 3),
        ("HTTP/1.1 503 X\r\nno header\r\n\r\n", 3),
        ("HTTP/1.1 503 X\r\nX: cut off", 3),
        ("HTTP/1.1 429 Too Many Requests\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n", 3),
        ("HTTP/1.0 404 Not Found\r\n\r\n", 1),
        ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 403 X\r\nContent-Length: 0\r\n\r\n", 1),
        ("HTTP/1.0 101 Old\r\n\r\n", 1),
    ] {
        assert_eq!(attempts(answer), wanted, "{answer:?}");
    }
}

#[test]
fn a_server_is_left_alone_for_as_long_as_it_asks() {
    let address = serve(|number, mut peer| {
        let request = peer.request();
        if number == 0 {
            peer.write(b"HTTP/1.1 503 X\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n");
        } else {
            peer.write(request.accepted("").as_bytes());
        }
        peer.read_to_end();
    });
    let url = format!("ws://{address}/");
    let began = Instant::now();
    run(async move {
        let mut reconnect = Reconnect::new(move || Connect::new(&*url)).backoff(quick());
        reconnect.stream().await.unwrap();
    })
    .unwrap();
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
}

#[test]
fn what_is_worth_another_attempt_and_how_many_can_be_said() {
    let (told, asked) = std::sync::mpsc::channel();
    let told = std::sync::Mutex::new(told);
    let url = answers(move |_| {
        told.lock().unwrap().send(()).unwrap();
        "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned()
    });
    let reconnect = Reconnect::new(move || Connect::new(&*url))
        .backoff(quick())
        .retry_if(|error| matches!(error.fault(), ConnectFault::Response(_)))
        .max_attempts(3);
    assert!(run(reconnect.run(Heard::default)).unwrap().is_err());
    assert_eq!(asked.try_iter().count(), 3);
}

#[test]
fn dropping_it_says_goodbye() {
    let (told, goodbye) = std::sync::mpsc::channel();
    let told = std::sync::Mutex::new(told);
    let address = serve(move |_, mut peer| {
        let answer = peer.request().accepted("");
        peer.write(answer.as_bytes());
        told.lock().unwrap().send(peer.read_to_end()).unwrap();
    });
    let url = format!("ws://{address}/");
    run(async move {
        let (connected, is_connected) = std::sync::mpsc::channel();
        let reconnect = Reconnect::new(move || Connect::new(&*url))
            .on_connected(move |_| connected.send(()).unwrap());
        let running = picows_uring::spawn(reconnect.run(Heard::default)).unwrap();
        until("it is connected", || is_connected.try_recv().ok()).await;
        running.abort();
        assert!(running.await.is_err());
    })
    .unwrap();
    let wire = goodbye.recv_timeout(scripted::PATIENCE).unwrap();
    assert_eq!(wire[..2], [0x88, 0x82], "CLOSE, masked, two bytes");
    let code = u16::from_be_bytes([wire[6] ^ wire[2], wire[7] ^ wire[3]]);
    assert_eq!(code, CloseCode::GOING_AWAY.get());
}
