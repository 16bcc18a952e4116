//! Chat rooms on axum: the counterpart of `examples/examples/chat.rs`.

use axum::Router;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{Path, Query, State};
use axum::response::Response;
use axum::routing::any;
use serde::Deserialize;
use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::broadcast::{self, Sender};

type Rooms = Arc<Mutex<HashMap<String, Sender<Utf8Bytes>>>>;

#[derive(Deserialize)]
struct Member {
    name: String,
}

async fn join(
    State(rooms): State<Rooms>,
    Path(room): Path<String>,
    Query(member): Query<Member>,
    upgrade: WebSocketUpgrade,
) -> Response {
    upgrade.on_upgrade(move |socket| serve(rooms, room, member.name, socket))
}

async fn serve(rooms: Rooms, room: String, name: String, mut socket: WebSocket) {
    let sender = {
        let mut rooms = rooms.lock().unwrap();
        rooms.entry(room).or_insert_with(|| broadcast::channel(100).0).clone()
    };
    let mut receiver = sender.subscribe();
    let publish = |text: &str| drop(sender.send(format!("{name} {text}").into()));
    publish("joined");
    loop {
        tokio::select! {
            message = socket.recv() => match message {
                Some(Ok(Message::Text(text))) => publish(&format!("says {text}")),
                Some(Ok(Message::Binary(_))) => {
                    let reason = Utf8Bytes::from_static("text only");
                    let close = CloseFrame { code: close_code::UNSUPPORTED, reason };
                    let _ = socket.send(Message::Close(Some(close))).await;
                    break;
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => break,
            },
            published = receiver.recv() => match published {
                Ok(text) => {
                    if socket.send(Message::Text(text)).await.is_err() {
                        break;
                    }
                }
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => break,
            },
        }
    }
    publish("left");
}

#[tokio::main]
async fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:9001".into());
    let app = Router::new().route("/{room}", any(join)).with_state(Rooms::default());
    let listener = TcpListener::bind(address).await?;
    println!("listening on ws://{}", listener.local_addr()?);
    axum::serve(listener, app).await
}
