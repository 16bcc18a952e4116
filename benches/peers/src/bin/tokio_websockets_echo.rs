//! An echo server on tokio-websockets: a stream of messages, and a sink.

use futures_util::{SinkExt, StreamExt};
use peers::{Fault, Hub};
use tokio::net::TcpStream;
use tokio_websockets::{Config, Limits, Message, ServerBuilder, WebSocketStream};

fn main() -> Result<(), Fault> {
    peers::run(|stream, hub| async {
        match hub {
            None => echo(stream).await,
            Some(hub) => fan_out(stream, hub).await,
        }
    })
}

/// Messages leave in one frame, as they came.
async fn accept(stream: TcpStream) -> Result<WebSocketStream<TcpStream>, Fault> {
    let builder = ServerBuilder::new()
        .config(Config::default().frame_size(usize::MAX))
        .limits(Limits::default());
    Ok(builder.accept(stream).await?.1)
}

async fn echo(stream: TcpStream) -> Result<(), Fault> {
    let mut socket = accept(stream).await?;
    while let Some(message) = socket.next().await {
        let message = message?;
        if message.is_text() || message.is_binary() {
            socket.send(message).await?;
        }
    }
    Ok(())
}

async fn fan_out(stream: TcpStream, hub: Hub<Message>) -> Result<(), Fault> {
    let mut socket = accept(stream).await?;
    let mut messages = hub.subscribe();
    loop {
        tokio::select! {
            message = socket.next() => match message {
                Some(message) => {
                    let message = message?;
                    if message.is_text() || message.is_binary() {
                        hub.send(message)?;
                    }
                }
                None => return Ok(()),
            },
            message = messages.recv() => socket.send(message?).await?,
        }
    }
}
