//! A server that pings with the text `ping` and expects the text `pong`, as exchanges do.
//!
//! cargo run --release -p examples --example auto_ping_text -- 127.0.0.1:9001 10 5
//!
//! Pings after 10 s without anything, and waits 5 s for the answer. Connect with
//! `websocat ws://127.0.0.1:9001/`, and type `pong` when it is due. See docs/guides/auto-ping.md.

#![allow(clippy::print_stdout, reason = "a program that is to be tried out")]

use picows_uring::{
    AutoPing, Frame, Listener, ListenerError, ListenerResult, MsgType, Server, Transport, Upgrade,
};
use std::error::Error;
use std::io::IsTerminal;
use std::time::Duration;

struct Exchange;

impl Listener for Exchange {
    fn on_frame(&mut self, transport: &Transport, frame: &Frame<'_>) -> ListenerResult {
        if frame.msg_type() == MsgType::Text {
            match frame.payload() {
                // The other direction: clients ping as well.
                b"ping" => {
                    transport.send_text("pong");
                }
                order => {
                    transport.send_like(frame, order);
                }
            }
        }
        Ok(())
    }

    fn send_user_specific_ping(&mut self, transport: &Transport) -> ListenerResult {
        transport.send_text("ping");
        Ok(())
    }

    fn is_user_specific_pong(
        &mut self,
        _transport: &Transport,
        frame: &Frame<'_>,
    ) -> Result<bool, ListenerError> {
        Ok(frame.msg_type() == MsgType::Text && frame.payload() == b"pong")
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let log = tracing_subscriber::fmt().with_writer(std::io::stderr);
    // No colour codes in a log that goes into a file.
    if std::io::stderr().is_terminal() {
        log.init();
    } else {
        log.with_ansi(false).init();
    }
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:9001".to_owned());
    let mut seconds = |default: f64| -> Result<Duration, Box<dyn Error>> {
        let given = arguments.next().map_or(Ok(default), |text| text.parse())?;
        Ok(Duration::try_from_secs_f64(given)?)
    };
    let (idle_timeout, reply_timeout) = (seconds(10.0)?, seconds(5.0)?);

    let server = Server::builder()
        .listen(address)
        .auto_ping(AutoPing::new(idle_timeout, reply_timeout))
        .start(|_request| Upgrade::accept(Exchange))?;
    println!("listening on {}", server.addresses()[0]);
    server.join()?;
    Ok(())
}
