#![no_main]

use std::sync::LazyLock;

use picows_uring_tls::{Certificate, ClientTls, ServerTls, testing::fuzzing};

/// Settings of both sides, with a certificate of this run.
static SETTINGS: LazyLock<(ServerTls, ClientTls)> = LazyLock::new(|| {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("names are good");
    let pair = Certificate::pem(made.cert.pem(), made.signing_key.serialize_pem());
    let server = ServerTls::builder().certificate(pair).build().expect("the pair fits");
    let client = ClientTls::builder().danger_accept_invalid_certificates();
    (server, client.build().expect("there is nothing to read"))
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzzing::handshake(data, &SETTINGS.0, &SETTINGS.1));
