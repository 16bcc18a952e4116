//! TLS on both sides, over sockets of the kernel: what works on `ws://` works on `wss://`.

mod common;
#[path = "tls/embedded.rs"]
mod embedded;
#[path = "tls/errors.rs"]
mod errors;
mod gate;
#[path = "tls/https_proxy.rs"]
mod https_proxy;
#[path = "tls/proxy.rs"]
mod proxy;
#[path = "tls/raw.rs"]
mod raw;
#[path = "gate/secure.rs"]
mod secure_gate;
#[path = "tls/sending.rs"]
mod sending;
#[path = "tls/settings.rs"]
mod settings;

use common::secure::certificates::{self, Certificates};
use common::{address, eventually, next, noise, workers};
use picows_uring::{
    Connect, EchoListener, Frame, Listener, ListenerResult, MsgType, ServerBuilder, ServerHandle,
    Transport, Upgrade,
};
use std::sync::mpsc;

/// A server that echoes over TLS.
pub(crate) fn echo(certificates: &Certificates, builder: ServerBuilder) -> ServerHandle {
    let builder = builder.tls(certificates.server());
    builder.start(|_| Upgrade::accept(EchoListener)).expect("it starts")
}

/// A client of `server`.
pub(crate) fn connect(certificates: &Certificates, server: &ServerHandle) -> Connect {
    Connect::new(format!("wss://{}/", address(server))).tls(&certificates.client())
}

/// Sends each payload when the one before has come back, and reports them.
struct Sizes {
    payloads: Vec<Vec<u8>>,
    back: mpsc::Sender<bool>,
    is_secure: bool,
}

impl Listener for Sizes {
    fn on_connected(&mut self, transport: &Transport) -> ListenerResult {
        assert_eq!(transport.is_secure(), self.is_secure);
        transport.send(MsgType::Binary, self.payloads.last().expect("some payload"));
        Ok(())
    }

    fn on_frame(&mut self, transport: &Transport, frame: &Frame<'_>) -> ListenerResult {
        if frame.msg_type() != MsgType::Binary {
            return Ok(());
        }
        let sent = self.payloads.pop().expect("no more frames than were sent");
        let _ = self.back.send(frame.payload() == sent);
        match self.payloads.last() {
            Some(payload) => drop(transport.send(MsgType::Binary, payload)),
            None => transport.disconnect(),
        }
        Ok(())
    }
}

fn sizes() -> Vec<usize> {
    // Around the lengths of headers, buffers and records, alone and with the header of the frame.
    let around = [125, 1024, 4096, 16_362, 16_380, 16_384, 64 * 1024, 256 * 1024, 1 << 20];
    let sizes = around.iter().flat_map(|size| [size - 1, *size, size + 1]);
    [0, 1].into_iter().chain(sizes).chain([3 << 20]).collect()
}

#[test]
fn every_size_comes_back_whole() {
    let certificates = Certificates::new();
    for dedicated in [false, true] {
        let server = echo(&certificates, workers(1).dedicated(dedicated));
        let payloads: Vec<_> = sizes().into_iter().map(|size| noise(size as u64, size)).collect();
        let count = payloads.len();
        let (back, backs) = mpsc::channel();
        let connect = connect(&certificates, &server);
        picows_uring::run(async move {
            let transport = connect
                .connect(Sizes { payloads, back, is_secure: true })
                .await
                .expect("connected");
            assert!(transport.wait_disconnected().await.is_ok());
        })
        .expect("a loop");
        let whole = (0..count).filter(|_| next(&backs)).count();
        assert_eq!(whole, count);
        assert!(server.addresses()[0].to_string().starts_with("wss://127.0.0.1:"));
        eventually(&server, "the connection is counted", |stats| {
            stats.tls_handshakes == 1 && stats.disconnected == 1
        });
        assert_eq!(server.stats().protocol_errors, 0);
    }
}
