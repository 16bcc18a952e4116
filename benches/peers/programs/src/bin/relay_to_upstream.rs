//! A relay on tokio-tungstenite: the counterpart of `examples/examples/relay_to_upstream.rs`.

use futures_util::{Sink, SinkExt, Stream, StreamExt};
use std::io;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{accept_hdr_async, connect_async};

fn close(code: u16) -> CloseFrame {
    CloseFrame { code: code.into(), reason: "".into() }
}

async fn serve(socket: TcpStream, upstream: String) -> Result<(), Error> {
    let mut url = upstream;
    let mut near = accept_hdr_async(socket, |request: &Request, response: Response| {
        url.push_str(request.uri().path_and_query().map_or("/", |it| it.as_str()));
        Ok(response)
    })
    .await?;
    let Ok((far, _)) = connect_async(url).await else {
        return near.close(Some(close(1014))).await; // Bad gateway.
    };
    let (near_sink, near_stream) = near.split();
    let (far_sink, far_stream) = far.split();
    tokio::join!(pass(near_stream, far_sink), pass(far_stream, near_sink));
    Ok(())
}

/// Passes messages and CLOSE on; going away is sent where the connection ends without one.
async fn pass(
    mut from: impl Stream<Item = Result<Message, Error>> + Unpin,
    mut to: impl Sink<Message, Error = Error> + Unpin,
) {
    let mut is_closed = false;
    while let Some(Ok(message)) = from.next().await {
        // Each connection answers its own PINGs.
        if message.is_ping() || message.is_pong() {
            continue;
        }
        is_closed |= message.is_close();
        if to.send(message).await.is_err() {
            return;
        }
    }
    if !is_closed {
        let _ = to.send(Message::Close(Some(close(1001)))).await;
    }
}

#[tokio::main]
async fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or("127.0.0.1:9001".into());
    let upstream = arguments.next().unwrap_or("ws://127.0.0.1:9002".into());
    let listener = TcpListener::bind(address).await?;
    println!("listening on ws://{}", listener.local_addr()?);
    loop {
        let (socket, _) = listener.accept().await?;
        tokio::spawn(serve(socket, upstream.clone()));
    }
}
