//! Tests of a chat room without a socket, on tokio-tungstenite: the counterpart of
//! `examples/tests/testing_in_memory.rs`.

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, duplex};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::time::{Instant, interval_at, sleep};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};

type Room = Arc<Mutex<Vec<UnboundedSender<Message>>>>;

/// A member of the room: what it sends, all members get.
async fn member<S: AsyncRead + AsyncWrite + Unpin>(room: Room, mut socket: WebSocketStream<S>) {
    let (sender, mut published) = unbounded_channel();
    room.lock().unwrap().push(sender);
    let (ping_after, dead_after) = (Duration::from_secs(30), Duration::from_secs(10));
    let mut last_heard = Instant::now();
    let mut ping = interval_at(last_heard + ping_after, ping_after);
    loop {
        tokio::select! {
            message = socket.next() => match message {
                Some(Ok(message)) => {
                    last_heard = Instant::now();
                    if message.is_binary() {
                        let (code, reason) = (CloseCode::Unsupported, "text only".into());
                        let _ = socket.close(Some(CloseFrame { code, reason })).await;
                        break;
                    }
                    if message.is_text() {
                        for member in room.lock().unwrap().iter() {
                            let _ = member.send(message.clone());
                        }
                    }
                }
                _ => break,
            },
            Some(message) = published.recv() => {
                if socket.send(message).await.is_err() {
                    break;
                }
            }
            _ = ping.tick() => {
                if socket.send(Message::Ping("".into())).await.is_err() {
                    break;
                }
            }
            () = sleep((last_heard + ping_after + dead_after).duration_since(Instant::now())) => break,
        }
    }
    drop(published);
    room.lock().unwrap().retain(|it| !it.is_closed());
}

type Client =
    (SplitSink<WebSocketStream<DuplexStream>, Message>, SplitStream<WebSocketStream<DuplexStream>>);

async fn join(room: &Room) -> Client {
    let (near, far) = duplex(4096);
    let server = WebSocketStream::from_raw_socket(near, Role::Server, None).await;
    let before = room.lock().unwrap().len();
    tokio::spawn(member(Arc::clone(room), server));
    while room.lock().unwrap().len() == before {
        tokio::task::yield_now().await;
    }
    WebSocketStream::from_raw_socket(far, Role::Client, None).await.split()
}

async fn next(client: &mut Client) -> Message {
    client.1.next().await.unwrap().unwrap()
}

#[tokio::test]
async fn a_member_is_served_by_itself() {
    let room = Room::default();
    let mut sent = join(&room).await;
    assert_eq!(room.lock().unwrap().len(), 1);
    room.lock().unwrap()[0].send(Message::text("hello")).unwrap();
    assert_eq!(next(&mut sent).await, Message::text("hello"));
}

#[tokio::test]
async fn what_a_member_says_all_hear() {
    let room = Room::default();
    let (mut ann, mut bob) = (join(&room).await, join(&room).await);
    ann.0.send(Message::text("hello")).await.unwrap();
    assert_eq!(next(&mut bob).await, Message::text("hello"));
    assert_eq!(next(&mut ann).await, Message::text("hello"));

    ann.0.send(Message::binary(&b"\0"[..])).await.unwrap();
    let (code, reason) = (CloseCode::Unsupported, "text only".into());
    assert_eq!(next(&mut ann).await, Message::Close(Some(CloseFrame { code, reason })));
    while room.lock().unwrap().len() > 1 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_member_that_disappears_is_missed_after_forty_seconds() {
    let room = Room::default();
    let _silent = join(&room).await;
    sleep(Duration::from_secs(39)).await;
    assert_eq!(room.lock().unwrap().len(), 1);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(room.lock().unwrap().len(), 0);
}

#[tokio::test]
async fn a_client_is_tested_with_a_server_that_the_test_plays() {
    let (near, far) = duplex(4096);
    let mut client = WebSocketStream::from_raw_socket(near, Role::Client, None).await;
    let mut server = WebSocketStream::from_raw_socket(far, Role::Server, None).await;
    client.send(Message::text("subscribe")).await.unwrap();
    assert_eq!(server.next().await.unwrap().unwrap(), Message::text("subscribe"));
    drop(server);
    assert!(client.next().await.unwrap().is_err());
}
