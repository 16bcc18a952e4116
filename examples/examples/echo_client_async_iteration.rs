//! The echo client as a task that awaits each message, instead of a listener that is called.
//!
//! cargo run --release -p examples --example echo_client_async_iteration -- ws://127.0.0.1:9001/ 10

#![allow(clippy::print_stdout, reason = "it is what the program is for")]

use picows_uring::{Connect, OwnedMessage, run};
use std::error::Error;
use std::time::Duration;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().unwrap_or_else(|| "ws://127.0.0.1:9001/".to_owned());
    let count: u32 = arguments.next().map_or(Ok(10), |count| count.parse())?;

    run(async {
        let connect = Connect::new(url).handshake_timeout(Duration::from_secs(10));
        let mut stream = connect.stream().await?;
        for number in 0..count {
            stream.send(format!("message {number}")).await?;
        }
        let mut echoed = 0;
        while let Some(message) = stream.next().await {
            let expected = OwnedMessage::from(format!("message {echoed}"));
            if message != expected {
                return Err(format!("{message:?} is no echo of {expected:?}").into());
            }
            echoed += 1;
            println!("{}", message.as_text().unwrap_or_default());
            if echoed == count {
                stream.close().await;
            }
        }
        // It has ended: the transport has the cause.
        match stream.transport().disconnect_cause() {
            _ if echoed == count => Ok(()),
            cause => Err(format!("only {echoed} of {count} came back: {cause:?}").into()),
        }
    })?
}
