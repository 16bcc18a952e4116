//! An echo server on tokio-websockets: a stream of messages, and a sink.

use peers::{Fault, converse};
use tokio::net::TcpStream;
use tokio_websockets::{Config, Limits, Message, ServerBuilder, WebSocketStream};

fn main() -> Result<(), Fault> {
    peers::run(|stream, hub| async {
        let is_data = |message: &Message| message.is_text() || message.is_binary();
        converse(accept(stream).await?, hub, is_data).await
    })
}

/// Messages leave in one frame, as they came.
async fn accept(stream: TcpStream) -> Result<WebSocketStream<TcpStream>, Fault> {
    let builder = ServerBuilder::new()
        .config(Config::default().frame_size(usize::MAX))
        .limits(Limits::default());
    Ok(builder.accept(stream).await?.1)
}
