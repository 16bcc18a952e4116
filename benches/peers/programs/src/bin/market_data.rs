//! Quotes on axum: the counterpart of `examples/examples/market_data.rs`.

use axum::Router;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::any;
use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::sync::watch::{Receiver, Sender};
use tokio_util::task::TaskTracker;

#[derive(Clone, Default)]
struct Quotes {
    by_symbol: Arc<Mutex<HashMap<String, Sender<Utf8Bytes>>>>,
    clients: TaskTracker,
}

async fn read(
    State(quotes): State<Quotes>,
    Path(symbol): Path<String>,
    upgrade: WebSocketUpgrade,
) -> Response {
    let quote = quotes.by_symbol.lock().unwrap().entry(symbol).or_default().subscribe();
    upgrade.on_upgrade(move |socket| quotes.clients.track_future(serve(quote, socket)))
}

async fn serve(mut quote: Receiver<Utf8Bytes>, mut socket: WebSocket) {
    quote.mark_changed(); // The last price, at once.
    loop {
        tokio::select! {
            changed = quote.changed() => {
                if changed.is_err() {
                    let close = CloseFrame { code: close_code::AWAY, reason: "".into() };
                    let _ = socket.send(Message::Close(Some(close))).await;
                    break;
                }
                let price = quote.borrow_and_update().clone();
                if !price.is_empty() && socket.send(Message::Text(price)).await.is_err() {
                    break;
                }
            }
            message = socket.recv() => {
                if !matches!(message, Some(Ok(_))) {
                    break;
                }
            }
        }
    }
}

/// Publishes the lines of the input, and disconnects all clients at its end.
async fn publish(quotes: Quotes) {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if let Some((symbol, price)) = line.split_once(' ') {
            let mut by_symbol = quotes.by_symbol.lock().unwrap();
            by_symbol.entry(symbol.to_owned()).or_default().send_replace(price.into());
        }
    }
    quotes.by_symbol.lock().unwrap().clear();
    quotes.clients.close();
    quotes.clients.wait().await;
}

#[tokio::main]
async fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:9001".into());
    let quotes = Quotes::default();
    let app = Router::new().route("/{symbol}", any(read)).with_state(quotes.clone());
    let listener = TcpListener::bind(address).await?;
    println!("listening on ws://{}", listener.local_addr()?);
    axum::serve(listener, app).with_graceful_shutdown(publish(quotes)).await
}
