//! An echo server on fastwebsockets and hyper, which does the handshake.

use fastwebsockets::upgrade::{UpgradeFut, upgrade};
use fastwebsockets::{FragmentCollector, Frame, OpCode, Payload, WebSocketError};
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use peers::{Fault, Hub};
use tokio::io::{AsyncRead, AsyncWrite};

fn main() -> Result<(), Fault> {
    peers::run_both(
        |stream, hub| serve(stream, hub, true),
        // Several writes would be as many records.
        |stream, hub| serve(stream, hub, false),
    )
}

async fn serve<S>(stream: S, hub: Option<Hub<Bytes>>, has_writev: bool) -> Result<(), Fault>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| answer(request, hub.clone(), has_writev));
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    Ok(connection.with_upgrades().await?)
}

async fn answer(
    mut request: Request<Incoming>,
    hub: Option<Hub<Bytes>>,
    has_writev: bool,
) -> Result<Response<Empty<Bytes>>, WebSocketError> {
    let (response, upgraded) = upgrade(&mut request)?;
    tokio::spawn(tokio::task::unconstrained(async move {
        let _ = match hub {
            None => echo(upgraded, has_writev).await,
            Some(hub) => fan_out(upgraded, hub).await,
        };
    }));
    Ok(response)
}

async fn echo(upgraded: UpgradeFut, has_writev: bool) -> Result<(), Fault> {
    let mut socket = upgraded.await?;
    socket.set_writev(has_writev);
    let mut socket = FragmentCollector::new(socket);
    loop {
        let frame = socket.read_frame().await?;
        match frame.opcode {
            OpCode::Close => return Ok(()),
            OpCode::Text | OpCode::Binary => socket.write_frame(frame).await?,
            _ => {}
        }
    }
}

/// A read that is given up loses what it had of a frame. Here it never has any: only one connection
/// sends, and not before its last message has come back.
async fn fan_out(upgraded: UpgradeFut, hub: Hub<Bytes>) -> Result<(), Fault> {
    let mut socket = FragmentCollector::new(upgraded.await?);
    let mut messages = hub.subscribe();
    loop {
        tokio::select! {
            frame = socket.read_frame() => {
                let frame = frame?;
                match frame.opcode {
                    OpCode::Close => return Ok(()),
                    OpCode::Text | OpCode::Binary => {
                        hub.send(Bytes::copy_from_slice(&frame.payload))?;
                    }
                    _ => {}
                }
            }
            message = messages.recv() => {
                let message = message?;
                socket.write_frame(Frame::binary(Payload::Borrowed(&message))).await?;
            }
        }
    }
}
