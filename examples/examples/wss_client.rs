//! A client over TLS: sends a line, prints what comes back, and what TLS agreed on.
//!
//! Usage: wss_client URL [ROOTS], where ROOTS is a file (PEM) of issuers to trust instead of those of the
//! system. See docs/guides/tls.md.
#![allow(clippy::print_stdout, reason = "a program for people")]

use picows_uring::{ClientTls, Connect, Frame, Listener, ListenerResult, Transport};
use std::error::Error;

struct Printer;

impl Listener for Printer {
    fn on_connected(&mut self, transport: &Transport) -> ListenerResult {
        if let Some(info) = transport.tls_info() {
            println!("{} with {}", info.version, info.cipher);
        }
        transport.send_text("hello");
        Ok(())
    }

    fn on_frame(&mut self, transport: &Transport, frame: &Frame<'_>) -> ListenerResult {
        println!("{}", frame.text()?);
        transport.disconnect();
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let url = args.next().unwrap_or_else(|| "wss://localhost:9443/".to_owned());
    let mut connect = Connect::new(url);
    if let Some(roots) = args.next() {
        connect = connect.tls(&ClientTls::builder().roots(roots).build()?);
    }
    picows_uring::run(async move {
        let transport = connect.connect(Printer).await?;
        transport.wait_disconnected().await?;
        Ok::<(), Box<dyn Error>>(())
    })?
}
