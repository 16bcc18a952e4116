//! An echo server over TLS, which reads its certificates again on SIGHUP.
//!
//! Usage: wss_server CERTIFICATE KEY, two files as PEM. See docs/guides/tls.md.
#![allow(clippy::print_stdout, reason = "a program for people")]

use picows_uring::{Certificate, EchoListener, Server, ServerTls, Upgrade};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let mut files = std::env::args().skip(1);
    let (Some(certificate), Some(key)) = (files.next(), files.next()) else {
        return Err("usage: wss_server CERTIFICATE KEY".into());
    };
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM])?;
    let tls = ServerTls::builder().certificate(Certificate::files(certificate, key)).build()?;
    let server = Server::builder()
        .listen("127.0.0.1:9443")
        .tls(tls.clone())
        .start(|_request| Upgrade::accept(EchoListener))?;
    println!("listening on {}", server.addresses()[0]);
    for signal in signals.forever() {
        if signal != SIGHUP {
            break;
        }
        match tls.reload() {
            Ok(()) => println!("certificates read again"),
            Err(error) => println!("the old certificates stay: {error}"),
        }
    }
    server.stop()?;
    Ok(())
}
