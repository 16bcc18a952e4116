//! Callbacks that start tasks for what takes its time, such as a request to another server.
//!
//! cargo run --release -p examples --example echo_client_tasks -- ws://127.0.0.1:9001/ 10

#![allow(clippy::print_stdout, reason = "it is what the program is for")]

use picows_uring::{
    CloseCode, Connect, Frame, Listener, ListenerResult, MsgType, Transport, run, spawn,
};
use std::cell::Cell;
use std::error::Error;
use std::rc::Rc;
use std::time::Duration;

/// Answers each message in a task of its own.
struct Answers {
    /// How many are still to come back.
    left: Rc<Cell<u32>>,
}

impl Listener for Answers {
    fn on_connected(&mut self, transport: &Transport) -> ListenerResult {
        for number in 0..self.left.get() {
            transport.send_text(number.to_string());
        }
        Ok(())
    }

    fn on_frame(&mut self, transport: &Transport, frame: &Frame<'_>) -> ListenerResult {
        if frame.msg_type() != MsgType::Text {
            return Ok(());
        }
        // The frame is lent for the time of the call; a task takes what it needs of it.
        let text = frame.text()?.to_owned();
        let (transport, left) = (transport.clone(), Rc::clone(&self.left));
        spawn(async move {
            look_up(&text).await;
            println!("{text}");
            left.set(left.get() - 1);
            if left.get() == 0 {
                transport.send_close(CloseCode::NORMAL, "");
            }
        })?;
        Ok(())
    }
}

/// Something slow. Meanwhile, all connections of this thread are served.
async fn look_up(_: &str) {
    tokio::time::sleep(Duration::from_millis(10)).await;
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().unwrap_or_else(|| "ws://127.0.0.1:9001/".to_owned());
    let count = arguments.next().map_or(Ok(10), |count| count.parse())?;

    run(async {
        let left = Rc::new(Cell::new(count));
        let transport = Connect::new(url).connect(Answers { left: Rc::clone(&left) }).await?;
        transport.wait_disconnected().await?;
        match left.get() {
            0 => Ok(()),
            left => Err(format!("{left} of {count} did not come back").into()),
        }
    })?
}
