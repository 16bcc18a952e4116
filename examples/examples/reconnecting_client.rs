//! A client that connects again when the connection is lost, and subscribes again.
//!
//! cargo run --release -p examples --example reconnecting_client -- ws://127.0.0.1:9001/ 3
//!
//! Against an echo server, the subscription itself comes back. After each, the connection is cut
//! to show what happens then; the last one ends it.

#![allow(clippy::print_stdout, reason = "it is what the program is for")]

use picows_uring::{
    Backoff, CloseCode, Connect, Frame, Listener, ListenerError, ListenerResult, MsgType,
    Reconnect, Transport, run,
};
use std::cell::Cell;
use std::error::Error;
use std::rc::Rc;
use std::time::Duration;

/// Fails after each message but the last, as a real one would now and then.
struct Feed {
    left: Rc<Cell<u32>>,
}

impl Listener for Feed {
    fn on_frame(&mut self, transport: &Transport, frame: &Frame<'_>) -> ListenerResult {
        if frame.msg_type() != MsgType::Text {
            return Ok(());
        }
        println!("{}", frame.text()?);
        self.left.set(self.left.get() - 1);
        if self.left.get() == 0 {
            // Our own CLOSE: no reason to connect again.
            transport.send_close(CloseCode::NORMAL, "");
            return Ok(());
        }
        Err(ListenerError::close(CloseCode::GOING_AWAY, "cut for show"))
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().unwrap_or_else(|| "ws://127.0.0.1:9001/".to_owned());
    let count = arguments.next().map_or(Ok(3), |count| count.parse())?;

    let left = Rc::new(Cell::new(count));
    let backoff = Backoff::default()
        .initial(Duration::from_millis(10))
        .max(Duration::from_secs(30))
        .stable_after(Duration::from_secs(60));
    let mut connections = 0;
    let reconnect = Reconnect::new(move || Connect::new(&*url))
        .backoff(backoff)
        .max_attempts(10)
        .on_connected(move |transport| {
            connections += 1;
            transport.send_text(format!("subscribe, connection {connections}"));
        });
    run(reconnect.run(|| Feed { left: Rc::clone(&left) }))??;
    Ok(())
}
