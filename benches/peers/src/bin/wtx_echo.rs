//! An echo server on wtx, which does the handshake and answers in the memory of the frame.

use peers::{Fault, Hub};
use tokio::net::TcpStream;
use wtx::collection::Vector;
use wtx::web_socket::{OpCode, WebSocketAcceptor, WebSocketPayloadOrigin};

fn main() -> Result<(), Fault> {
    peers::run(|stream, hub: Option<Hub<()>>| serve(stream, hub.is_some()))
}

async fn serve(stream: TcpStream, is_fan_out: bool) -> Result<(), Fault> {
    if is_fan_out {
        return Err("this server passes nothing on".into());
    }
    let mut socket = WebSocketAcceptor::default().accept(stream).await?;
    // Of messages in several frames; those in one stay where they were received.
    let mut fragments = Vector::new();
    let (mut common, mut reader, mut writer) = socket.split_mut();
    loop {
        fragments.clear();
        let origin = WebSocketPayloadOrigin::Adaptive;
        let mut frame = reader.read_frame(&mut fragments, &mut common, origin).await?;
        match frame.op_code() {
            OpCode::Close => return Ok(()),
            OpCode::Text | OpCode::Binary => writer.write_frame(&mut common, &mut frame).await?,
            _ => {}
        }
    }
}
