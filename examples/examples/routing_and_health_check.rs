//! A server with several endpoints, and a page that a load balancer can ask.
//!
//! `cargo run --release -p examples --example routing_and_health_check`, and then:
//!
//! ```text
//! curl http://127.0.0.1:9001/healthz
//! websocat ws://127.0.0.1:9001/echo
//! websocat 'ws://127.0.0.1:9001/greet?name=Ada'
//! ```

#![allow(clippy::print_stdout, reason = "a program for people")]

use http::StatusCode;
use picows_uring::{
    EchoListener, Error, Frame, Listener, ListenerResult, Server, Transport, Upgrade,
    UpgradeRequest, UpgradeResponse,
};

/// Sees each request, before it is known whether it is a WebSocket handshake, and answers it.
///
/// It runs on the data path: look things up in memory here, and not in a database.
fn route(request: &UpgradeRequest) -> Upgrade {
    match request.path() {
        "/healthz" => Upgrade::respond(UpgradeResponse::ok().with_body("ok\n")),
        "/echo" => Upgrade::accept(EchoListener),
        "/greet" => match request.query().and_then(|query| query.strip_prefix("name=")) {
            Some(name) => Upgrade::accept(Greeter { name: name.to_owned() }),
            None => {
                let response = UpgradeResponse::text(StatusCode::BAD_REQUEST, "name missing\n");
                Upgrade::respond(response)
            }
        },
        _ => Upgrade::not_found(),
    }
}

/// Greets each client, and sends nothing more.
struct Greeter {
    name: String,
}

impl Listener for Greeter {
    fn on_connected(&mut self, transport: &Transport) -> ListenerResult {
        transport.send_text(format!("hello, {}", self.name));
        Ok(())
    }

    fn on_frame(&mut self, _transport: &Transport, _frame: &Frame<'_>) -> ListenerResult {
        Ok(())
    }
}

fn main() -> Result<(), Error> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:9001".into());
    let server = Server::builder().listen(address).start(route)?;
    println!("listening on {}", server.addresses()[0]);
    server.join()?;
    Ok(())
}
