//! Watermarks of one connection, set while it is open.

mod common;

use common::{Client, Event, address, next, noise, recorder, workers};
use picows_uring::{Error, MsgType, QueuePolicy, SendStatus, Upgrade};
use std::sync::mpsc::channel;

/// Bytes that are no more than the default high watermark.
const SOME: usize = 20_000;

#[test]
fn a_connection_pauses_and_resumes_by_watermarks_of_its_own() {
    let (events, told) = channel();
    let server = workers(1).start(move |_| {
        Upgrade::accept(recorder(&events, |transport, _| {
            let send = || transport.send(MsgType::Binary, noise(1, SOME));
            assert_eq!(send(), SendStatus::Queued);
            transport.set_write_watermarks(SOME, 10)?;
            // Beyond the new mark, so the socket is offered them, which takes them.
            assert_eq!((send(), transport.queued_amount()), (SendStatus::Queued, 0));
            transport.set_write_watermarks(1 << 20, 1 << 19)?;
            assert_eq!((send(), send()), (SendStatus::Queued, SendStatus::Queued));
            assert_eq!((send(), send()), (SendStatus::Queued, SendStatus::Queued));
            assert!(transport.queued_amount() > 4 * SOME, "they are appended, up to the new mark");
            // What is queued is judged at once, and has left before the low mark is looked at.
            transport.set_write_watermarks(10, 10)?;
            Ok(())
        }))
    });
    let server = server.expect("a server");
    let mut client = Client::upgrade(address(&server));
    client.send_text("begin");
    for _ in 0..6 {
        assert_eq!(client.receive().payload.len(), SOME);
    }
    assert_eq!(next(&told), Event::Connected);
    assert!(matches!(next(&told), Event::Frame(..)));
    assert_eq!((next(&told), next(&told)), (Event::Paused, Event::Resumed));
}

#[test]
fn watermarks_that_make_no_sense_change_nothing() {
    let server = workers(1).max_queue_size(1 << 20, QueuePolicy::Close).start(|_| {
        Upgrade::accept(common::on_frame(|transport, _| {
            for (high, low) in [(1, 2), ((1 << 20) + 1, 0)] {
                let error = transport.set_write_watermarks(high, low).expect_err("no sense");
                let is_named = matches!(error, Error::Config { setting: "write_watermarks", .. });
                assert!(is_named, "{error}");
            }
            transport.set_write_watermarks(1 << 20, 1 << 20)?;
            transport.send_text("as it should be");
            Ok(())
        }))
    });
    let server = server.expect("a server");
    let mut client = Client::upgrade(address(&server));
    client.send_text("begin");
    client.expect_text("as it should be");
}
