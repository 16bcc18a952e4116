//! Round trips with the client of tokio-tungstenite.

use benches::rtt::{Args, Meter};
use clap::Parser;
use futures_util::{SinkExt, StreamExt};
use peers::{Fault, block_on};
use tokio::net::TcpStream;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::{Bytes, Message};

fn main() -> Result<(), Fault> {
    let args = Args::parse();
    block_on(async {
        let stream = TcpStream::connect(args.course.url_addr).await?;
        stream.set_nodelay(true)?;
        let (mut socket, _) =
            client_async(format!("ws://{}/", args.course.url_addr), stream).await?;
        let payload = Bytes::from(vec![7; args.size as usize]);
        let mut meter = Meter::start(&args);
        loop {
            socket.send(Message::Binary(payload.clone())).await?;
            let echo = socket.next().await.ok_or("the server ended the connection")??;
            if !matches!(echo, Message::Binary(echo) if echo == payload) {
                return Err("the echo is wrong".into());
            }
            if !meter.echoed() {
                return Ok(meter.print()?);
            }
        }
    })
}
