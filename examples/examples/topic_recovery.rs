//! A subscriber that comes back with its position, so that nothing is missing in silence.
//!
//! ```sh
//! picows pubsub --listen 127.0.0.1:9002 --history 1000
//! cargo run --release -p examples --example topic_recovery -- ws://127.0.0.1:9002/topic/news 3
//! ```
//!
//! `Follow` speaks the subprotocol `picows.pubsub.1`, in which each message begins with its position. When
//! the connection is lost, the next one has `?from=` the last position in its URL: the server first delivers
//! all that was published meanwhile, or answers that it is lost. The example cuts its own connection after
//! each message to show that; behind the given number of messages it ends.

#![allow(clippy::print_stdout, reason = "it is what the program is for")]

use picows_uring::{
    Backoff, CloseCode, Follow, Followed, ListenerError, ListenerResult, MsgType, Transport, run,
};
use std::error::Error;
use std::time::Duration;

/// Handles what happens, until `left` messages have come.
fn handle(transport: &Transport, event: Followed<'_>, left: &mut u32) -> ListenerResult {
    match event {
        // An application gets its state elsewhere now, and goes on from this position.
        Followed::Lost { position } => println!("lost: begins again at {position}"),
        // What was missed follows.
        Followed::Recovered { count, .. } => println!("recovers: {count}"),
        Followed::Message { position, msg_type, payload } => {
            if msg_type == MsgType::Text {
                println!("{position}: {}", str::from_utf8(payload)?);
            } else {
                println!("{position}: {} bytes", payload.len());
            }
            *left = left.saturating_sub(1);
            if *left > 0 {
                return Err(ListenerError::close(CloseCode::GOING_AWAY, "cut for show"));
            }
            // Our own CLOSE: no reason to connect again.
            transport.send_close(CloseCode::NORMAL, "");
        }
        _ => {}
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().unwrap_or_else(|| "ws://127.0.0.1:9002/topic/news".to_owned());
    let mut left = arguments.next().map_or(Ok(3), |count| count.parse())?;
    let follow = Follow::new(url);
    let backoff = Backoff::default().initial(Duration::from_millis(10));
    let reconnect = follow.reconnect().backoff(backoff).max_attempts(10);
    run(async move {
        follow.run(reconnect, move |transport, event| handle(transport, event, &mut left)).await
    })??;
    Ok(())
}
