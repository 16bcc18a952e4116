//! A server whose users prove who they are before they are connected: by a token, or by the cookie of a
//! session. The answer comes later, as from a database.
//!
//! `cargo run --release -p examples --example authenticated_upgrade`, and then:
//!
//! ```text
//! websocat -H 'Authorization: Bearer t0ken' ws://127.0.0.1:9001
//! ```

#![allow(clippy::print_stdout, reason = "a program for people")]

use picows_uring::{
    Frame, Listener, ListenerResult, OriginPolicy, Server, Transport, Upgrade, UpgradeRequest,
    UpgradeResponse,
};
use std::io;

/// A user's connection: greets, and echoes.
struct Session {
    user: String,
}

impl Listener for Session {
    fn on_connected(&mut self, transport: &Transport) -> ListenerResult {
        transport.send_text(format!("hello, {}", self.user));
        Ok(())
    }

    fn on_frame(&mut self, transport: &Transport, frame: &Frame<'_>) -> ListenerResult {
        transport.send_like(frame, frame.payload());
        Ok(())
    }
}

/// Stands for a database.
async fn user_of(secret: &str) -> Result<Option<String>, io::Error> {
    Ok((secret == "t0ken").then(|| "Ada".to_owned()))
}

fn route(request: &UpgradeRequest) -> Upgrade {
    // Programs send a token; pages have a cookie, as browsers let them set no header.
    let secret = request.bearer_token().or_else(|| request.cookie("session")).map(str::to_owned);
    let unauthorized = || Upgrade::respond(UpgradeResponse::unauthorized("Bearer"));
    let Some(secret) = secret else { return unauthorized() };
    Upgrade::later(async move {
        Ok::<_, io::Error>(match user_of(&secret).await? {
            Some(user) => Upgrade::accept(Session { user }),
            None => unauthorized(),
        })
    })
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:9001".into());
    // A server that trusts cookies has to know which pages send them.
    let origins = OriginPolicy::list(["https://app.example.com", "http://localhost:8080"])?;
    let server = Server::builder().listen(address).origins(origins).start(route)?;
    println!("listening on {}", server.addresses()[0]);
    server.join()?;
    Ok(())
}
