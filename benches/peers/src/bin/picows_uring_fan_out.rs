//! Fan-out with picows-uring: a list of transports, and a send to each.

use benches::process::raise_descriptor_limit;
use clap::Parser;
use peers::Fault;
use picows_uring::{
    Deflate, Frame, Listener, ListenerResult, MsgType, Prepared, Server, Transport, Upgrade,
};
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

    /// Encode each message once for all
    #[arg(long)]
    prepared: bool,

    /// Compress it once for all, for those who have agreed on that
    #[arg(long, requires = "prepared")]
    deflate: bool,
}

thread_local! {
    /// Those of the only worker.
    static SUBSCRIBERS: RefCell<Vec<Transport>> = const { RefCell::new(Vec::new()) };
}

/// Whether messages are prepared, and compressed.
#[derive(Clone, Copy)]
struct Subscriber {
    is_prepared: bool,
    is_compressed: bool,
}

impl Subscriber {
    fn prepare(self, frame: &Frame<'_>) -> Option<Prepared> {
        if !self.is_prepared {
            return None;
        }
        let message = Prepared::new(frame.msg_type(), frame.payload()).ok()?;
        Some(if self.is_compressed { message.deflate(WINDOW_BITS) } else { message })
    }
}

impl Listener for Subscriber {
    fn on_connected(&mut self, transport: &Transport) -> ListenerResult {
        SUBSCRIBERS.with_borrow_mut(|all| all.push(transport.clone()));
        Ok(())
    }

    fn on_frame(&mut self, _transport: &Transport, frame: &Frame<'_>) -> ListenerResult {
        if matches!(frame.msg_type(), MsgType::Text | MsgType::Binary) {
            let prepared = self.prepare(frame);
            SUBSCRIBERS.with_borrow(|all| {
                for subscriber in all {
                    match &prepared {
                        Some(message) => subscriber.send_prepared(message),
                        None => subscriber.send(frame.msg_type(), frame.payload()),
                    };
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
    let subscriber = Subscriber { is_prepared: args.prepared, is_compressed: args.deflate };
    let deflate = args.deflate.then(|| Deflate::new().window_bits(WINDOW_BITS));
    let server = Server::builder()
        .listen(args.listen.to_string())
        .workers(1)
        .dedicated(args.dedicated)
        .deflate(deflate)
        .start(move |_: &_| Upgrade::accept(subscriber))?;
    writeln!(std::io::stdout(), "listening on {}", server.addresses()[0])?;
    server.join()?;
    Ok(())
}

/// Window of all connections and messages.
const WINDOW_BITS: u8 = 12;
