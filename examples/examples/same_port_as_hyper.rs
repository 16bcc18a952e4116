//! One port for hyper and for WebSockets: pages are answered by hyper (axum is on top of it), and a connection
//! that it has upgraded is handed over to a server of ours, with its descriptor.
//!
//! `cargo run --release -p examples --example same_port_as_hyper`, and then:
//!
//! ```text
//! curl http://127.0.0.1:9001
//! websocat ws://127.0.0.1:9001
//! ```

#![allow(clippy::print_stdout, reason = "a program for people")]
#![allow(clippy::print_stderr, reason = "a program for people")]

use http::StatusCode;
use http::header::UPGRADE;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use picows_uring::{EchoListener, Server, ServerHandle, Upgrade};
use std::convert::Infallible;
use std::error::Error;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};

fn answer(server: &Arc<ServerHandle>, request: Request<Incoming>) -> Response<String> {
    if !request.headers().contains_key(UPGRADE) {
        return Response::new("a page of hyper\n".to_owned());
    }
    match ServerHandle::switching_protocols(&request) {
        Ok(response) => {
            // hyper gives the socket up when the answer has left.
            tokio::spawn(hand_over(Arc::clone(server), request));
            response.map(|()| String::new())
        }
        Err(error) => {
            let mut response = Response::new(error.to_string());
            *response.status_mut() = StatusCode::BAD_REQUEST;
            response
        }
    }
}

async fn hand_over(server: Arc<ServerHandle>, mut request: Request<Incoming>) {
    let Ok(upgraded) = hyper::upgrade::on(&mut request).await else { return };
    // The socket, and what hyper has read behind the request.
    let Ok(parts) = upgraded.downcast::<TokioIo<TcpStream>>() else { return };
    let Ok(socket) = parts.io.into_inner().into_std() else { return };
    if let Err(error) = server.adopt_upgraded(socket, &request, parts.read_buf) {
        eprintln!("{error}");
    }
}

async fn serve(server: Arc<ServerHandle>, address: String) -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind(address).await?;
    println!("listening on ws://{}", listener.local_addr()?);
    loop {
        let (socket, _) = listener.accept().await?;
        let server = Arc::clone(&server);
        let service = service_fn(move |request| {
            let response = answer(&server, request);
            async { Ok::<_, Infallible>(response) }
        });
        let connection = http1::Builder::new().serve_connection(TokioIo::new(socket), service);
        tokio::spawn(connection.with_upgrades());
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:9001".into());
    let builder = Server::builder().without_address();
    let server = Arc::new(builder.start(|_request| Upgrade::accept(EchoListener))?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(server, address))
}
