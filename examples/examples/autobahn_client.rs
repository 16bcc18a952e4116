//! Puts our client through the cases of the Autobahn test suite: it asks the suite's server how
//! many there are, echoes what each one sends, and has the reports written.
//!
//! `cargo run --release -p examples --example autobahn_client -- ws://127.0.0.1:9001`;
//! `scripts/autobahn client` starts the suite, runs this against it and judges the reports. With
//! `--deflate` behind the URL, it offers permessage-deflate, and with `--deflate-no-context` that it
//! does without context takeover.

use picows_uring::{
    Connect, Deflate, ListenerResult, Message, MessageListener, Messages, Transport, run,
};
use std::cell::RefCell;
use std::error::Error;
use std::rc::Rc;

/// Sends every message back.
struct Echo;

impl MessageListener for Echo {
    fn on_message(&mut self, transport: &Transport, message: Message<'_>) -> ListenerResult {
        transport.send(message.msg_type(), message.payload());
        Ok(())
    }
}

/// Keeps the last text.
#[derive(Default)]
struct Hear(String);

impl MessageListener for Hear {
    fn on_message(&mut self, _: &Transport, message: Message<'_>) -> ListenerResult {
        self.0 = message.text().unwrap_or_default().to_owned();
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().unwrap_or("ws://127.0.0.1:9001".into());
    let deflate = match arguments.next().as_deref() {
        Some("--deflate") => Some(Deflate::new()),
        Some("--deflate-no-context") => Some(Deflate::new().context_takeover(false)),
        _ => None,
    };
    run(run_cases(url, deflate))?
}

async fn run_cases(url: String, deflate: Option<Deflate>) -> Result<(), Box<dyn Error>> {
    let answer = Rc::new(RefCell::new(Hear::default()));
    talk(&format!("{url}/getCaseCount"), Rc::clone(&answer), deflate).await?;
    let count: usize = answer.borrow().0.parse()?;
    for case in 1..=count {
        talk(&format!("{url}/runCase?case={case}&agent=picows-uring"), Echo, deflate).await?;
    }
    talk(&format!("{url}/updateReports?agent=picows-uring"), Echo, deflate).await
}

/// Connects, and stays until the server has closed.
async fn talk(
    url: &str,
    handler: impl MessageListener + 'static,
    deflate: Option<Deflate>,
) -> Result<(), Box<dyn Error>> {
    let listener = Messages::new(handler).max_message_size(LARGEST);
    let connect = Connect::new(url).max_frame_size(LARGEST as u64).deflate(deflate);
    // Some cases want broken text to be refused before its frame is complete.
    let transport = connect.validate_text(true).connect(listener).await?;
    // Broken by the suite on purpose, most of the time: it will judge how we took it.
    let _ = transport.wait_disconnected().await;
    Ok(())
}

/// Above the 16 MiB of the largest case.
const LARGEST: usize = 32 * 1024 * 1024;
