//! An echo server on tokio-tungstenite: a stream of messages, and a sink.

use peers::{Fault, Hub, converse};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::accept_async;
use tokio_tungstenite::tungstenite::Message;

fn main() -> Result<(), Fault> {
    peers::run_both(serve, serve)
}

async fn serve<S>(stream: S, hub: Option<Hub<Message>>) -> Result<(), Fault>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let is_data = |message: &Message| message.is_text() || message.is_binary();
    converse(accept_async(stream).await?, hub, is_data).await
}
