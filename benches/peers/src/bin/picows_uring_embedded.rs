//! An echo server on a worker that is embedded in a loop of `poll`.

use benches::process::raise_descriptor_limit;
use clap::Parser;
use peers::Fault;
use picows_uring::{Driver, EchoListener, Embedded, Server, Turned, Upgrade};
use rustix::event::{PollFd, PollFlags, poll};
use std::io::Write;
use std::net::SocketAddr;

/// Echo messages in a loop of poll
#[derive(Debug, Parser)]
struct Args {
    /// Address to listen on; port 0 for any free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9001")]
    listen: SocketAddr,

    /// Driver: auto, io-uring or epoll
    #[arg(long, default_value = "auto")]
    driver: Driver,
}

fn main() -> Result<(), Fault> {
    let args = Args::parse();
    raise_descriptor_limit()?;
    let worker = Embedded::builder().driver(args.driver).build()?;
    let settings = Server::builder().listen(args.listen.to_string());
    let listening = worker.listen(settings, |_| Upgrade::accept(EchoListener))?;
    writeln!(std::io::stdout(), "listening on {}", listening.addresses()[0])?;
    loop {
        match worker.turn()? {
            Turned::Busy => {}
            Turned::Idle => match poll(&mut [PollFd::new(&worker, PollFlags::IN)], None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            },
            Turned::Done => return Ok(()),
        }
    }
}
