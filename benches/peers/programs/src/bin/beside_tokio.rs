//! A server beside the services of a tokio program, on axum: the counterpart of
//! `examples/examples/beside_tokio.rs`.

use axum::Router;
use axum::extract::State;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::response::Response;
use axum::routing::any;
use std::error::Error;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A number, and where the sum goes.
type Question = (i64, oneshot::Sender<i64>);

/// The service: a task with the sum of all numbers so far.
async fn add_up(mut questions: mpsc::Receiver<Question>) {
    let mut sum = 0;
    while let Some((number, answer)) = questions.recv().await {
        sum += number;
        let _ = answer.send(sum);
    }
}

type AnyError = Box<dyn Error + Send + Sync>;

async fn ask(service: &mpsc::Sender<Question>, text: &str) -> Result<i64, AnyError> {
    let (answer, sum) = oneshot::channel();
    service.send((text.trim().parse()?, answer)).await?;
    Ok(sum.await?)
}

#[derive(Clone)]
struct App {
    service: mpsc::Sender<Question>,
    stopping: CancellationToken,
    clients: TaskTracker,
}

async fn upgrade(State(app): State<App>, upgrade: WebSocketUpgrade) -> Response {
    let clients = app.clients.clone();
    upgrade.on_upgrade(move |socket| clients.track_future(serve(app, socket)))
}

async fn serve(app: App, mut socket: WebSocket) {
    loop {
        tokio::select! {
            message = socket.recv() => {
                let Some(Ok(message)) = message else { break };
                let Message::Text(text) = message else { continue };
                let answer = match ask(&app.service, &text).await {
                    Ok(sum) => sum.to_string(),
                    Err(error) => error.to_string(),
                };
                if socket.send(answer.into()).await.is_err() {
                    break;
                }
            }
            () = app.stopping.cancelled() => {
                let close = CloseFrame { code: close_code::AWAY, reason: "".into() };
                let _ = socket.send(Message::Close(Some(close))).await;
                break;
            }
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:9001".into());
    let (service, questions) = mpsc::channel(100);
    tokio::spawn(add_up(questions));
    let (stopping, clients) = (CancellationToken::new(), TaskTracker::new());
    let app = App { service, stopping: stopping.clone(), clients: clients.clone() };
    let listener = TcpListener::bind(address).await?;
    println!("listening on ws://{}", listener.local_addr()?);
    let router = Router::new().route("/", any(upgrade)).with_state(app);
    let mut terminate = signal(SignalKind::terminate())?;
    let server = axum::serve(listener, router);
    server
        .with_graceful_shutdown(async move {
            terminate.recv().await;
        })
        .await?;
    stopping.cancel();
    clients.close();
    clients.wait().await;
    println!("stopped");
    Ok(())
}
