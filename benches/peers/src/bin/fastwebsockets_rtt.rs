//! Round trips with the client of fastwebsockets.

use benches::rtt::{Args, Meter};
use clap::Parser;
use fastwebsockets::{FragmentCollector, Frame, OpCode, Payload, handshake};
use http_body_util::Empty;
use hyper::Request;
use hyper::body::Bytes;
use hyper::header::{CONNECTION, HOST, UPGRADE};
use peers::{Fault, block_on};
use std::future::Future;
use tokio::net::TcpStream;

fn main() -> Result<(), Fault> {
    let args = Args::parse();
    block_on(async {
        let stream = TcpStream::connect(args.course.url_addr).await?;
        stream.set_nodelay(true)?;
        let request = Request::get(format!("http://{}/", args.course.url_addr))
            .header(HOST, args.course.url_addr.to_string())
            .header(UPGRADE, "websocket")
            .header(CONNECTION, "upgrade")
            .header("Sec-WebSocket-Key", handshake::generate_key())
            .header("Sec-WebSocket-Version", "13")
            .body(Empty::<Bytes>::new())?;
        let (socket, _) = handshake::client(&Spawner, request, stream).await?;
        let mut socket = FragmentCollector::new(socket);
        let payload = vec![7; args.size as usize];
        let mut meter = Meter::start(&args);
        loop {
            // Masked in place, so a copy is what a message costs.
            let message = Payload::Owned(payload.clone());
            socket.write_frame(Frame::binary(message)).await?;
            let echo = socket.read_frame().await?;
            if echo.opcode != OpCode::Binary || *echo.payload != *payload {
                return Err("the echo is wrong".into());
            }
            if !meter.echoed() {
                return Ok(meter.print()?);
            }
        }
    })
}

/// How hyper starts a task.
struct Spawner;

impl<F> hyper::rt::Executor<F> for Spawner
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        tokio::spawn(future);
    }
}
