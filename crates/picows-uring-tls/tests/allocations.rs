//! Memory: a record costs no allocation either way, and an idle connection little.

#![cfg(feature = "aws-lc")]
#![allow(clippy::unwrap_used, reason = "a test ends with the first fault")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use picows_uring_tls::{
    Certificate, ClientTls, Handshake, Opened, PLAINTEXT_BYTES_MAX, Secure, ServerTls, Step,
    TlsVersion,
};

thread_local! {
    /// Allocations of this thread.
    static CALLS: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, and a tally.
struct Counting;

// SAFETY: hands everything on to the system's allocator, as it came.
#[expect(unsafe_code, reason = "an allocator cannot be written without")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.set(CALLS.get() + 1);
        // SAFETY: our caller keeps the rules of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: our caller keeps the rules of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        CALLS.set(CALLS.get() + 1);
        // SAFETY: our caller keeps the rules of `realloc`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes that the process has of the C library's allocator, which the providers and Rust share.
fn bytes_in_use() -> usize {
    // SAFETY: it has no arguments and only reads.
    #[expect(unsafe_code, reason = "a call of the C library")]
    unsafe { libc::mallinfo2() }.uordblks
}

/// Settings of both sides.
struct Settings {
    server: ServerTls,
    client: ClientTls,
}

impl Settings {
    fn new(version: TlsVersion) -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let pair = Certificate::pem(made.cert.pem(), made.signing_key.serialize_pem());
        let server = ServerTls::builder().certificate(pair).build().unwrap();
        let versions: &[_] = match version {
            TlsVersion::Tls12 => &[&rustls::version::TLS12],
            _ => &[&rustls::version::TLS13],
        };
        let mut roots = rustls::RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let config = rustls::ClientConfig::builder_with_provider(provider.into())
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self { server, client: ClientTls::from_rustls(config.into()) }
    }

    fn connect(&self) -> [Box<Secure>; 2] {
        let mut client = Handshake::client(&self.client, "localhost").unwrap();
        let mut server = Handshake::server(&self.server).unwrap();
        let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
        client.advance(&mut [], &mut to_server).unwrap();
        let (mut client_end, mut server_end) = (None, None);
        while client_end.is_none() || server_end.is_none() {
            server_end = server_end.or_else(|| step(&mut server, &mut to_server, &mut to_client));
            client_end = client_end.or_else(|| step(&mut client, &mut to_client, &mut to_server));
        }
        let mut client_end: Box<Secure> = client_end.unwrap();
        // The tickets.
        while let Opened::Control { consumed, .. } = client_end.next(&mut to_client).unwrap() {
            to_client.drain(..consumed);
        }
        [client_end, server_end.unwrap()]
    }
}

/// Takes all the input, but for what is left at the end of the handshake.
fn step(
    handshake: &mut Handshake,
    input: &mut Vec<u8>,
    output: &mut Vec<u8>,
) -> Option<Box<Secure>> {
    match handshake.advance(input, output).unwrap() {
        Step::NeedsMore { .. } => {
            input.clear();
            None
        }
        Step::Done { consumed, secure, .. } => {
            input.drain(..consumed);
            Some(secure)
        }
    }
}

/// One test, as memory of the process is counted.
#[test]
fn records_cost_no_allocation_and_idle_connections_little() {
    for version in [TlsVersion::Tls12, TlsVersion::Tls13] {
        let settings = Settings::new(version);
        let mut ends = settings.connect();
        let mut wire = Vec::with_capacity(4 * PLAINTEXT_BYTES_MAX);
        let mut data = Vec::with_capacity(4 * PLAINTEXT_BYTES_MAX);
        let (calls, bytes) = (CALLS.get(), bytes_in_use());
        for round in 0..400_usize {
            let payload = &[7; PLAINTEXT_BYTES_MAX][..1 + round * 41 % PLAINTEXT_BYTES_MAX];
            let [sender, receiver] = &mut ends;
            wire.clear();
            data.clear();
            wire.resize(sender.prefix_bytes(), 0);
            wire.extend_from_slice(payload);
            sender.seal_in_place(&mut wire, 0).unwrap();
            sender.seal_from(payload, &mut wire).unwrap();
            let Opened::Data { consumed, range } = receiver.next(&mut wire).unwrap() else {
                panic!("no data");
            };
            assert_eq!(&wire[range], payload);
            receiver.open_to(&wire[consumed..], &mut data).unwrap();
            assert_eq!(data, payload);
            ends.swap(0, 1);
        }
        assert_eq!(CALLS.get() - calls, 0, "{version}");
        assert_eq!(bytes_in_use(), bytes, "{version}: also in C");
        drop(ends);
        for (side, name, limit) in
            [(1, "server", SERVER_BYTES_MAX), (0, "client", CLIENT_BYTES_MAX)]
        {
            let before = bytes_in_use();
            let kept: Vec<_> =
                (0..IDLE).map(|_| settings.connect().into_iter().nth(side)).collect();
            let each = (bytes_in_use() - before) / IDLE;
            println!("{version}, {name}: {each} bytes for an idle connection");
            assert!(each <= limit, "{version}, {name}: {each} bytes, at most {limit}");
            drop(kept);
        }
    }
    println!("Secure itself: {} bytes", size_of::<Secure>());
    assert!(size_of::<Secure>() <= 256);
}

const IDLE: usize = 200;
/// Two expanded keys of 632 bytes, two secrets, and `Secure`.
const SERVER_BYTES_MAX: usize = 1_750;
/// As well, and what rustls keeps for tickets, with the chain of the server.
const CLIENT_BYTES_MAX: usize = 3_200;
