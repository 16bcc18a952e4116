//! Fan-out with picows-uring: a list of transports, and a send to each.

use benches::process::raise_descriptor_limit;
use clap::Parser;
use peers::Fault;
use picows_uring::{Frame, Listener, ListenerResult, MsgType, Server, Transport, Upgrade};
use std::cell::RefCell;
use std::io::Write;
use std::net::SocketAddr;

/// Pass on each message to every connection
#[derive(Debug, Parser)]
struct Args {
    /// Address to listen on; port 0 for any free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9001")]
    listen: SocketAddr,

    /// Let the worker sleep in its own ring
    #[arg(long)]
    dedicated: bool,
}

thread_local! {
    /// Those of the only worker.
    static SUBSCRIBERS: RefCell<Vec<Transport>> = const { RefCell::new(Vec::new()) };
}

struct Subscriber;

impl Listener for Subscriber {
    fn on_connected(&mut self, transport: &Transport) -> ListenerResult {
        SUBSCRIBERS.with_borrow_mut(|all| all.push(transport.clone()));
        Ok(())
    }

    fn on_frame(&mut self, _transport: &Transport, frame: &Frame<'_>) -> ListenerResult {
        if matches!(frame.msg_type(), MsgType::Text | MsgType::Binary) {
            SUBSCRIBERS.with_borrow(|all| {
                for subscriber in all {
                    subscriber.send(frame.msg_type(), frame.payload());
                }
            });
        }
        Ok(())
    }

    fn on_disconnected(&mut self, _transport: &Transport) {
        SUBSCRIBERS.with_borrow_mut(|all| all.retain(|subscriber| !subscriber.is_disconnected()));
    }
}

fn main() -> Result<(), Fault> {
    let args = Args::parse();
    raise_descriptor_limit()?;
    let server = Server::builder()
        .listen(args.listen.to_string())
        .workers(1)
        .dedicated(args.dedicated)
        .start(|_: &_| Upgrade::accept(Subscriber))?;
    writeln!(std::io::stdout(), "listening on {}", server.addresses()[0])?;
    server.join()?;
    Ok(())
}
