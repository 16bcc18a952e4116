//! Records of TLS 1.3 with AES-128-GCM, by the size of their data: sealed and opened, in place and elsewhere.
//!
//! `cargo bench -p benches --bench tls`. Each call is one record, with a number of its own: what is
//! opened was sealed before, outside of the time that counts.

use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use picows_uring_tls::{Certificate, ClientTls, Handshake, Secure, ServerTls, Step};

/// A small frame, and what fills a record.
const SIZES: [usize; 4] = [256, 1_024, 4_096, 16_384];

fn main() {
    divan::main();
}

/// Settings of both sides, which resume nothing.
struct Settings {
    server: ServerTls,
    client: ClientTls,
}

impl Settings {
    fn new() -> Self {
        let made =
            rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("good names");
        let pair = Certificate::pem(made.cert.pem(), made.signing_key.serialize_pem());
        let server = ServerTls::builder().certificate(pair).build().expect("the pair fits");
        let client = ClientTls::builder().danger_accept_invalid_certificates().resumption(0);
        Self { server, client: client.build().expect("there is nothing to read") }
    }
}

/// Both ends of a connection, after a handshake in memory.
fn connect(settings: &Settings) -> [Box<Secure>; 2] {
    let mut client = Handshake::client(&settings.client, "localhost").expect("a name");
    let mut server = Handshake::server(&settings.server).expect("good settings");
    let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
    client.advance(&mut [], &mut to_server).expect("a hello");
    server.advance(&mut to_server, &mut to_client).expect("the server's flight");
    to_server.clear();
    let client = client.advance(&mut to_client, &mut to_server).expect("the client's end");
    let server = server.advance(&mut to_server, &mut to_client).expect("the server's end");
    match (client, server) {
        (Step::Done { secure: client, .. }, Step::Done { secure: server, .. }) => [client, server],
        steps => panic!("one round trip is enough in TLS 1.3: {steps:?}"),
    }
}

#[divan::bench(args = SIZES)]
fn seal_in_place(bencher: Bencher<'_, '_>, bytes: usize) {
    let [mut sender, _] = connect(&Settings::new());
    let mut record = vec![0; sender.sealed_bytes(bytes, bytes)];
    bencher
        .counter(BytesCount::new(bytes))
        .bench_local(|| sender.seal_slice(black_box(&mut record)));
}

#[divan::bench(args = SIZES)]
fn seal_from_elsewhere(bencher: Bencher<'_, '_>, bytes: usize) {
    let [mut sender, _] = connect(&Settings::new());
    let data = vec![7; bytes];
    let mut record = vec![0; sender.sealed_bytes(bytes, bytes)];
    bencher
        .counter(BytesCount::new(bytes))
        .bench_local(|| sender.seal_to_slice(black_box(&data), black_box(&mut record)));
}

#[divan::bench(args = SIZES)]
fn open_in_place(bencher: Bencher<'_, '_>, bytes: usize) {
    let [mut sender, mut receiver] = connect(&Settings::new());
    let data = vec![7; bytes];
    bencher
        .counter(BytesCount::new(bytes))
        .with_inputs(|| {
            let mut record = Vec::new();
            sender.seal_from(&data, &mut record).expect("a fresh key");
            record
        })
        .bench_local_refs(|record| receiver.next(black_box(record)).expect("the same key"));
}

#[divan::bench(args = SIZES)]
fn open_to_elsewhere(bencher: Bencher<'_, '_>, bytes: usize) {
    let [mut sender, mut receiver] = connect(&Settings::new());
    let data = vec![7; bytes];
    let mut output = Vec::with_capacity(2 * bytes + 64);
    bencher
        .counter(BytesCount::new(bytes))
        .with_inputs(|| {
            let mut record = Vec::new();
            sender.seal_from(&data, &mut record).expect("a fresh key");
            record
        })
        .bench_local_refs(|record| {
            output.clear();
            receiver.open_to(black_box(record), &mut output).expect("the same key")
        });
}

/// A whole handshake of both sides: X25519 with ML-KEM, ECDSA P-256.
#[divan::bench]
fn handshake(bencher: Bencher<'_, '_>) {
    let settings = Settings::new();
    bencher.bench_local(|| connect(&settings));
}
