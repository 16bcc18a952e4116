//! A server whose users prove who they are, on axum: the counterpart of
//! `examples/examples/authenticated_upgrade.rs`.

use axum::Router;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::http::header::{ORIGIN, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use axum_extra::TypedHeader;
use axum_extra::extract::CookieJar;
use axum_extra::headers::Authorization;
use axum_extra::headers::authorization::Bearer;
use axum_extra::typed_header::TypedHeaderRejection;
use std::io;
use tokio::net::TcpListener;

const ORIGINS: [&str; 2] = ["https://app.example.com", "http://localhost:8080"];

/// Stands for a database.
async fn user_of(secret: &str) -> Result<Option<String>, io::Error> {
    Ok((secret == "t0ken").then(|| "Ada".to_owned()))
}

async fn serve(user: String, mut socket: WebSocket) {
    if socket.send(format!("hello, {user}").into()).await.is_err() {
        return;
    }
    while let Some(Ok(message)) = socket.recv().await {
        let is_data = matches!(message, Message::Text(_) | Message::Binary(_));
        if is_data && socket.send(message).await.is_err() {
            return;
        }
    }
}

async fn upgrade(
    bearer: Result<TypedHeader<Authorization<Bearer>>, TypedHeaderRejection>,
    cookies: CookieJar,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Response {
    // Pages that are not ours may not use the cookies of our users.
    if headers.get_all(ORIGIN).iter().any(|it| !ORIGINS.iter().any(|ours| it == ours)) {
        return StatusCode::FORBIDDEN.into_response();
    }
    let unauthorized =
        || (StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, "Bearer")]).into_response();
    // Programs send a token; pages have a cookie, as browsers let them set no header.
    let token = bearer.as_ref().ok().map(|it| it.token());
    let Some(secret) = token.or_else(|| cookies.get("session").map(|it| it.value())) else {
        return unauthorized();
    };
    match user_of(secret).await {
        Ok(Some(user)) => upgrade.on_upgrade(|socket| serve(user, socket)),
        Ok(None) => unauthorized(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

#[tokio::main]
async fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:9001".into());
    let app = Router::new().route("/", any(upgrade));
    let listener = TcpListener::bind(address).await?;
    println!("listening on ws://{}", listener.local_addr()?);
    axum::serve(listener, app).await
}
