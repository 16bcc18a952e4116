//! An echo server on yawc and hyper; with --deflate context or no-context, all messages are compressed.

use clap::{Parser, ValueEnum};
use futures_util::{SinkExt, StreamExt};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use peers::{Fault, Hub, ServerArgs};
use tokio::net::TcpStream;
use yawc::{OpCode, Options, UpgradeFut, WebSocket};

/// Run an echo server, for comparison
#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    server: ServerArgs,

    /// Compress, with messages that refer to earlier ones or not
    #[arg(long)]
    deflate: Option<Takeover>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Takeover {
    Context,
    NoContext,
}

fn main() -> Result<(), Fault> {
    let args = Args::parse();
    let mut options = Options::default().with_limits(MESSAGE_BYTES_MAX, 2 * MESSAGE_BYTES_MAX);
    if args.deflate.is_some() {
        // Its own level. It would answer an offer without a value with the smallest window.
        options = options.with_balanced_compression().with_client_max_window_bits(15);
    }
    if args.deflate == Some(Takeover::NoContext) {
        options = options.server_no_context_takeover().client_no_context_takeover();
    }
    peers::run_with(&args.server, move |stream, hub: Option<Hub<()>>| {
        serve(stream, options.clone(), hub.is_some())
    })
}

async fn serve(stream: TcpStream, options: Options, is_fan_out: bool) -> Result<(), Fault> {
    if is_fan_out {
        return Err("this server passes nothing on".into());
    }
    let service = service_fn(move |request| answer(request, options.clone()));
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    Ok(connection.with_upgrades().await?)
}

async fn answer(
    mut request: Request<Incoming>,
    options: Options,
) -> yawc::Result<Response<http_body_util::Empty<hyper::body::Bytes>>> {
    let (response, upgraded) = WebSocket::upgrade_with_options(&mut request, options)?;
    tokio::spawn(tokio::task::unconstrained(async move {
        let _ = echo(upgraded).await;
    }));
    Ok(response)
}

async fn echo(upgraded: UpgradeFut) -> yawc::Result<()> {
    let mut socket = upgraded.await?;
    while let Some(frame) = socket.next().await {
        if matches!(frame.opcode(), OpCode::Text | OpCode::Binary) {
            socket.send(frame).await?;
        }
    }
    Ok(())
}

const MESSAGE_BYTES_MAX: usize = 16 << 20;
