//! A server beside the services of a tokio program: a task adds numbers up, connections ask it, and
//! SIGTERM ends both.
//!
//! `cargo run --release -p examples --example beside_tokio`, and then `websocat ws://127.0.0.1:9001`.

#![allow(clippy::print_stdout, reason = "a program for people")]

use picows_uring::{ListenerResult, Server, Upgrade, WsStream};
use std::error::Error;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

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

async fn ask(service: &mpsc::Sender<Question>, text: &str) -> Result<i64, Box<dyn Error>> {
    let (answer, sum) = oneshot::channel();
    service.send((text.trim().parse()?, answer)).await?;
    Ok(sum.await?)
}

async fn serve(service: mpsc::Sender<Question>, mut stream: WsStream) -> ListenerResult {
    while let Some(message) = stream.next().await {
        let Some(text) = message.as_text() else { continue };
        let answer = match ask(&service, text).await {
            Ok(sum) => sum.to_string(),
            Err(error) => error.to_string(),
        };
        stream.send(answer).await?;
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:9001".into());
    let (service, questions) = mpsc::channel(100);
    tokio::spawn(add_up(questions));
    let server = Server::builder().listen(address).start(move |_request| {
        let service = service.clone();
        Upgrade::accept_stream(async move |stream| serve(service, stream).await)
    })?;
    println!("listening on {}", server.addresses()[0]);
    signal(SignalKind::terminate())?.recv().await;
    server.stopper().stop(); // CLOSE 1001 for each client.
    server.stopped().await?;
    println!("stopped");
    Ok(())
}
