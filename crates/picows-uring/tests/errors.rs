//! Errors as `main`, `unwrap` and `expect` print them: they say what to do.

mod common;

use common::{address, run, workers};
use picows_uring::{
    ApiMisuse, Connect, DisconnectCause, EchoListener, HandshakeMisuse, ListenerError,
    PeerMisbehaved, RemoteError, RoundtripError, SendError, Server, Upgrade, spawn,
};
use std::error::Error;

/// `Debug` has the text of `Display`, in one line.
#[track_caller]
fn shows_its_text(error: &impl Error) {
    let (debug, text) = (format!("{error:?}"), error.to_string());
    assert!(debug.contains(&text) && !text.is_empty(), "Debug: {debug}\nDisplay: {text}");
    assert_eq!(format!("{error:#?}"), debug);
}

#[test]
fn an_address_in_use_says_what_to_do_in_debug() {
    let server = workers(1).start(|_| Upgrade::accept(EchoListener)).unwrap();
    let again = Server::builder().listen(address(&server).to_string()).workers(1);
    let error = again.start(|_| Upgrade::accept(EchoListener)).unwrap_err();
    let debug = format!("{error:?}");
    assert!(debug.starts_with("Listen(cannot listen on 127.0.0.1:"), "{debug}");
    assert!(debug.contains("choose another port"), "{debug}");
    server.stop().unwrap();
}

#[test]
fn settings_and_addresses_say_what_to_do_in_debug() {
    shows_its_text(&workers(0).start(|_| Upgrade::not_found()).unwrap_err());
    let nowhere = Server::builder().listen("nowhere").workers(1);
    shows_its_text(&nowhere.start(|_| Upgrade::not_found()).unwrap_err());
}

#[test]
fn connections_that_are_not_made_say_why_in_debug() {
    let (_unheard, nobody) = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        (drop(listener), address)
    };
    for url in ["http://a/", "wss://a/", &format!("ws://{nobody}/")] {
        let error = run(Connect::new(url).connect(EchoListener)).unwrap().unwrap_err();
        shows_its_text(&error);
        shows_its_text(error.fault());
    }
}

#[test]
fn errors_of_tasks_say_why_in_debug() {
    shows_its_text(&spawn(async {}).unwrap_err());
    let failed = run(async {
        let task = spawn(std::future::pending::<()>()).unwrap();
        task.abort();
        task.await.unwrap_err()
    });
    shows_its_text(&failed.unwrap());
}

#[test]
fn errors_of_connections_say_why_in_debug() {
    for error in [RemoteError::Disconnected, RemoteError::Congested] {
        shows_its_text(&error);
    }
    for error in [SendError::Closed, SendError::Full, ApiMisuse::CloseThroughSend.into()] {
        shows_its_text(&error);
    }
    shows_its_text(&ApiMisuse::CloseThroughSend);
    shows_its_text(&PeerMisbehaved::InvalidUtf8);
    shows_its_text(&HandshakeMisuse::InvalidHeaderName { name: "a b".into() });
    shows_its_text(&RoundtripError::Busy);
    for cause in [DisconnectCause::PingTimedOut, DisconnectCause::Listener("for a reason".into())] {
        shows_its_text(&cause);
        shows_its_text(&RoundtripError::Disconnected(Some(cause)));
    }
    let error = ListenerError::from("for a reason");
    assert_eq!(format!("{error:?}"), "ListenerError(for a reason)");
}
