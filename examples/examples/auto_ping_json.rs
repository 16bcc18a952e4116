//! A client of a feed that pings in JSON: `{"op":"ping"}` is answered with `{"op":"pong"}`. Which
//! message that is turns out only when it is parsed, so the listener reports it afterwards.
//!
//! cargo run --release -p examples --example auto_ping_json -- ws://127.0.0.1:9001/ 10 5
//!
//! Pings after 10 s without anything, and waits 5 s for the answer. See docs/guides/auto-ping.md.

#![allow(clippy::print_stdout, reason = "a program that is to be tried out")]

use picows_uring::{
    AutoPing, Connect, Frame, Listener, ListenerError, ListenerResult, MsgType, Transport,
};
use std::error::Error;
use std::io::IsTerminal;
use std::time::Duration;

#[derive(Default)]
struct Feed {
    pongs: usize,
}

impl Listener for Feed {
    fn on_frame(&mut self, transport: &Transport, frame: &Frame<'_>) -> ListenerResult {
        if frame.msg_type() != MsgType::Text {
            return Ok(());
        }
        match op(frame.text()?) {
            Some("pong") => {
                self.pongs += 1;
                println!("pong {}", self.pongs);
                transport.notify_user_specific_pong_received();
            }
            Some("ping") => {
                transport.send_text(r#"{"op":"pong"}"#);
            }
            _ => println!("{}", frame.text()?),
        }
        Ok(())
    }

    fn send_user_specific_ping(&mut self, transport: &Transport) -> ListenerResult {
        transport.send_text(r#"{"op":"ping"}"#);
        Ok(())
    }

    fn is_user_specific_pong(
        &mut self,
        _transport: &Transport,
        _frame: &Frame<'_>,
    ) -> Result<bool, ListenerError> {
        Ok(false) // Not known before it is parsed.
    }
}

/// The value of `"op"`, as long as it is the first member: a real feed has a JSON parser.
fn op(message: &str) -> Option<&str> {
    let rest = message.trim_start().strip_prefix('{')?.trim_start().strip_prefix("\"op\"")?;
    let value = rest.trim_start().strip_prefix(':')?.trim_start().strip_prefix('"')?;
    value.split_once('"').map(|(op, _)| op)
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
    let url = arguments.next().ok_or("usage: auto_ping_json URL [IDLE_SECONDS REPLY_SECONDS]")?;
    let mut seconds = |default: f64| -> Result<Duration, Box<dyn Error>> {
        let given = arguments.next().map_or(Ok(default), |text| text.parse())?;
        Ok(Duration::try_from_secs_f64(given)?)
    };
    let ping = AutoPing::new(seconds(10.0)?, seconds(5.0)?);
    let cause = picows_uring::run(async move {
        let transport = Connect::new(url).auto_ping(ping).connect(Feed::default()).await?;
        transport.wait_disconnected().await?;
        Ok::<_, Box<dyn Error>>(transport.disconnect_cause())
    })??;
    println!("disconnected: {}", cause.map_or_else(String::new, |cause| cause.to_string()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::op;

    #[test]
    fn the_operation_is_found_where_it_is() {
        assert_eq!(op(r#"{"op":"pong"}"#), Some("pong"));
        assert_eq!(op(" { \"op\" : \"ping\", \"id\": 1}"), Some("ping"));
        for other in ["", "{}", "op", r#"{"op":1}"#, r#"{"oq":"pong"}"#, r#"["op","pong"]"#] {
            assert_eq!(op(other), None, "{other}");
        }
    }
}
