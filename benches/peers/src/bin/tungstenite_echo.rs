//! An echo server on tokio-tungstenite: a stream of messages, and a sink.

use futures_util::{SinkExt, StreamExt};
use peers::{Fault, Hub};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

fn main() -> Result<(), Fault> {
    peers::run(|stream, hub| async {
        match hub {
            None => echo(stream).await,
            Some(hub) => fan_out(stream, hub).await,
        }
    })
}

async fn echo(stream: TcpStream) -> Result<(), Fault> {
    let mut socket = tokio_tungstenite::accept_async(stream).await?;
    while let Some(message) = socket.next().await {
        let message = message?;
        if message.is_text() || message.is_binary() {
            socket.send(message).await?;
        }
    }
    Ok(())
}

async fn fan_out(stream: TcpStream, hub: Hub<Message>) -> Result<(), Fault> {
    let mut socket = tokio_tungstenite::accept_async(stream).await?;
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
