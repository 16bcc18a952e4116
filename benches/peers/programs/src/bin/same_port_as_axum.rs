//! A page and a WebSocket on one port, both by axum: the counterpart of
//! `src/bin/picows_uring_same_port_as_axum.rs`.

use axum::Router;
use axum::extract::State;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::{Html, Response};
use axum::routing::get;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use tokio::net::TcpListener;

#[derive(Default)]
struct Stats {
    connections: AtomicU64,
    total: AtomicU64,
}

async fn page(State(stats): State<Arc<Stats>>) -> Html<String> {
    let connections = stats.connections.load(Relaxed);
    let total = stats.total.load(Relaxed);
    Html(format!("<p>{connections} connections of {total}</p>\n"))
}

async fn upgrade(State(stats): State<Arc<Stats>>, upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(|socket| async move {
        stats.total.fetch_add(1, Relaxed);
        stats.connections.fetch_add(1, Relaxed);
        echo(socket).await;
        stats.connections.fetch_sub(1, Relaxed);
    })
}

async fn echo(mut socket: WebSocket) {
    while let Some(Ok(message)) = socket.recv().await {
        let is_data = matches!(message, Message::Text(_) | Message::Binary(_));
        if is_data && socket.send(message).await.is_err() {
            return;
        }
    }
}

#[tokio::main]
async fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:9001".into());
    let app = Router::new().route("/", get(page)).route("/ws", get(upgrade));
    let listener = TcpListener::bind(address).await?;
    println!("listening on ws://{}", listener.local_addr()?);
    axum::serve(listener, app.with_state(Arc::default())).await
}
