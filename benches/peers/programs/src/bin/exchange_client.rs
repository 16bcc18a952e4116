//! A client of an exchange on tokio-tungstenite: the counterpart of `examples/examples/exchange_client.rs`.

use futures_util::{SinkExt, StreamExt};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, interval, sleep};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

type Stream = WebSocketStream<MaybeTlsStream<TcpStream>>;

const SUBSCRIBE: &str = r#"{"op":"subscribe","channel":"trades"}"#;

async fn connect(url: &str, key: &HeaderValue) -> Result<Stream, Error> {
    let mut request = url.into_client_request()?;
    request.headers_mut().insert("X-Api-Key", key.clone());
    Ok(connect_async(request).await?.0)
}

/// Whether another attempt makes sense.
fn is_transient(error: &Error) -> bool {
    match error {
        Error::Io(_) => true,
        Error::Http(response) => {
            matches!(response.status().as_u16(), 408 | 425 | 429 | 500 | 502..=504)
        }
        _ => false,
    }
}

/// Prints messages until `left` is 0, or the connection is lost.
async fn print_trades(mut stream: Stream, left: &mut usize) -> Result<(), Error> {
    stream.send(Message::text(SUBSCRIBE)).await?;
    let mut ping = interval(Duration::from_secs(10));
    let mut answered = true;
    while *left > 0 {
        tokio::select! {
            _ = ping.tick() => {
                if !answered {
                    return Ok(()); // The server does not answer any more.
                }
                answered = false;
                stream.send(Message::Ping("".into())).await?;
            }
            message = stream.next() => match message {
                Some(message) => {
                    answered = true;
                    if let Message::Text(text) = message? {
                        println!("{text}");
                        *left -= 1;
                    }
                }
                None => return Ok(()),
            },
        }
    }
    stream.close(None).await?;
    while stream.next().await.is_some() {}
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, url, key, count] = &arguments[..] else {
        return Err("usage: exchange_client URL KEY COUNT".into());
    };
    let (key, mut left) = (HeaderValue::from_str(key)?, count.parse()?);
    let mut delay = Duration::from_millis(10);
    while left > 0 {
        let since = Instant::now();
        match connect(url, &key).await {
            Ok(stream) => {
                let _ = print_trades(stream, &mut left).await;
            }
            Err(error) if is_transient(&error) => {}
            Err(error) => return Err(error.into()),
        }
        if since.elapsed() > Duration::from_secs(10) {
            delay = Duration::from_millis(10);
        }
        sleep(delay).await;
        delay = (delay * 2).min(Duration::from_secs(30));
    }
    Ok(())
}
