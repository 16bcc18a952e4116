//! A page by axum and a WebSocket by picows-uring, on one port: axum upgrades the connection, and its socket
//! is handed over.

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto::upgrade::downcast;
use picows_uring::{EchoListener, Server, ServerHandle, Upgrade};
use std::error::Error;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};

async fn page(State(server): State<Arc<ServerHandle>>) -> Html<String> {
    let stats = server.stats();
    let (connections, total) = (stats.connections, stats.upgraded);
    Html(format!("<p>{connections} connections of {total}</p>\n"))
}

async fn upgrade(State(server): State<Arc<ServerHandle>>, request: Request) -> Response {
    match ServerHandle::switching_protocols(&request) {
        Ok(response) => {
            // axum gives the socket up when the answer has left.
            tokio::spawn(async move { drop(hand_over(&server, request).await) });
            response.map(|()| Body::empty())
        }
        Err(error) => (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    }
}

async fn hand_over(server: &ServerHandle, mut request: Request) -> Result<(), AnyError> {
    let upgraded = hyper::upgrade::on(&mut request).await?;
    let parts = downcast::<TokioIo<TcpStream>>(upgraded).map_err(|_| "not a TCP socket")?;
    let socket = parts.io.into_inner().into_std()?;
    // The socket, and what axum has read behind the request.
    server.adopt_upgraded(socket, &request, parts.read_buf)?;
    Ok(())
}

type AnyError = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:9001".into());
    let server = Server::builder().without_address().start(|_| Upgrade::accept(EchoListener))?;
    let app = Router::new().route("/", get(page)).route("/ws", get(upgrade));
    let listener = TcpListener::bind(address).await?;
    println!("listening on ws://{}", listener.local_addr()?);
    axum::serve(listener, app.with_state(Arc::new(server))).await?;
    Ok(())
}
