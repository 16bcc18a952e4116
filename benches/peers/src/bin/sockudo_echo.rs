//! An echo server on sockudo-ws: a stream of messages, and a sink.

use peers::{Fault, converse};
use sockudo_ws::handshake::{build_response, generate_accept_key, parse_request};
use sockudo_ws::protocol::Message;
use sockudo_ws::{Config, WebSocketStream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn main() -> Result<(), Fault> {
    peers::run(|mut stream, hub| async move {
        upgrade(&mut stream).await?;
        // Its timers are off, as those of the others: they want more of tokio than sockets.
        let config = Config { idle_timeout: 0, auto_ping: false, ..Config::default() };
        let socket = WebSocketStream::server(stream, config);
        let is_data = |message: &Message| matches!(message, Message::Text(_) | Message::Binary(_));
        converse(socket, hub, is_data).await
    })
}

/// Answers the request, behind which no client sends anything before it has the answer.
async fn upgrade(stream: &mut TcpStream) -> Result<(), Fault> {
    let mut received = Vec::with_capacity(REQUEST_BYTES_USUAL);
    loop {
        if stream.read_buf(&mut received).await? == 0 {
            return Err("it left before its request was complete".into());
        }
        if let Some((request, _)) = parse_request(&received)? {
            let key = generate_accept_key(request.key);
            stream.write_all(&build_response(&key, None, None)).await?;
            return Ok(());
        }
    }
}

const REQUEST_BYTES_USUAL: usize = 1024;
