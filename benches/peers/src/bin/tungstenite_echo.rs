//! An echo server on tokio-tungstenite: a stream of messages, and a sink.

use peers::{Fault, converse};
use tokio_tungstenite::accept_async;
use tokio_tungstenite::tungstenite::Message;

fn main() -> Result<(), Fault> {
    peers::run(|stream, hub| async {
        let is_data = |message: &Message| message.is_text() || message.is_binary();
        converse(accept_async(stream).await?, hub, is_data).await
    })
}
