//! OpenSSL at the other end, over sockets: `s_client` and `s_server`, each suite of both versions.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use crate::common::{self, Issued, Refused, World};
use picows_uring_tls::{
    Alert, Certificate, ClientCertificates, ClientTls, Control, Facts, Handshake, HandshakeError,
    Opened, RecordError, Secure, ServerTls, Step, TlsVersion,
};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, RsaKeySize};

/// Whether there is an OpenSSL to test with. In CI there has to be.
fn is_installed() -> bool {
    let found = Command::new("openssl").arg("version").output().is_ok();
    assert!(found || std::env::var_os("CI").is_none(), "openssl is not installed");
    found
}

/// A socket with a secure connection on it, which blocks.
struct Wire {
    socket: TcpStream,
    secure: Box<Secure>,
    facts: Facts,
    received: Vec<u8>,
}

impl Wire {
    fn connect(socket: TcpStream, mut handshake: Handshake) -> Result<Self, String> {
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut socket = socket;
        let mut output = Vec::new();
        let mut received = Vec::new();
        loop {
            let step = handshake.advance(&mut received, &mut output);
            socket.write_all(&output).map_err(|error| error.to_string())?;
            output.clear();
            match step.map_err(|error| error.to_string())? {
                Step::NeedsMore { consumed } => {
                    received.drain(..consumed);
                }
                Step::Done { consumed, secure, facts } => {
                    received.drain(..consumed);
                    return Ok(Self { socket, secure, facts, received });
                }
            }
            let mut part = [0; 4096];
            match socket.read(&mut part) {
                Ok(0) => return Err("end of stream".into()),
                Ok(bytes) => received.extend_from_slice(&part[..bytes]),
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    fn send(&mut self, data: &[u8]) {
        let mut sealed = Vec::new();
        self.secure.seal_owed(&mut sealed).unwrap();
        self.secure.seal_from(data, &mut sealed).unwrap();
        self.socket.write_all(&sealed).unwrap();
    }

    /// Reads until `is_enough` of the data, or a control record other than tickets.
    fn read(
        &mut self,
        is_enough: impl Fn(&[u8]) -> bool,
    ) -> Result<(Vec<u8>, Option<Control>), RecordError> {
        let mut data = Vec::new();
        loop {
            match self.secure.next(&mut self.received)? {
                Opened::Incomplete { .. } => {
                    let mut part = [0; 4096];
                    let bytes = self.socket.read(&mut part).unwrap();
                    assert!(bytes > 0, "end of stream after {:?}", String::from_utf8_lossy(&data));
                    self.received.extend_from_slice(&part[..bytes]);
                }
                Opened::Data { consumed, range } => {
                    data.extend_from_slice(&self.received[range]);
                    self.received.drain(..consumed);
                    if is_enough(&data) {
                        return Ok((data, None));
                    }
                }
                Opened::Control { consumed, control } => {
                    self.received.drain(..consumed);
                    if !matches!(control, Control::Ticket | Control::Nothing) {
                        return Ok((data, Some(control)));
                    }
                }
            }
        }
    }

    fn read_line(&mut self) -> String {
        let (data, control) = self.read(|data| data.ends_with(b"\n")).unwrap();
        assert_eq!(control, None);
        String::from_utf8(data).unwrap()
    }
}

/// A running `openssl`, ended with its value.
struct OpenSsl {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl OpenSsl {
    fn start(arguments: &[&str]) -> Self {
        // Some of what it has to say is on standard error.
        let mut process = Command::new("sh")
            .args(["-c", "exec openssl \"$@\" 2>&1", "openssl"])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = process.stdin.take().unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        Self { process, input, output }
    }

    fn line_with(&mut self, part: &str) -> String {
        loop {
            let mut line = String::new();
            assert!(self.output.read_line(&mut line).unwrap() > 0, "no line with {part:?}");
            if line.contains(part) {
                return line;
            }
        }
    }
}

impl Drop for OpenSsl {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Options of OpenSSL for a suite, and the kind of key that it needs.
const SUITES: [(&str, &str, bool); 9] = [
    ("-tls1_3", "TLS_AES_128_GCM_SHA256", false),
    ("-tls1_3", "TLS_AES_256_GCM_SHA384", true),
    ("-tls1_3", "TLS_CHACHA20_POLY1305_SHA256", false),
    ("-tls1_2", "ECDHE-ECDSA-AES128-GCM-SHA256", false),
    ("-tls1_2", "ECDHE-ECDSA-AES256-GCM-SHA384", false),
    ("-tls1_2", "ECDHE-ECDSA-CHACHA20-POLY1305", false),
    ("-tls1_2", "ECDHE-RSA-AES128-GCM-SHA256", true),
    ("-tls1_2", "ECDHE-RSA-AES256-GCM-SHA384", true),
    ("-tls1_2", "ECDHE-RSA-CHACHA20-POLY1305", true),
];

fn suite_options(version: &'static str, suite: &'static str) -> [&'static str; 3] {
    [version, if version == "-tls1_3" { "-ciphersuites" } else { "-cipher" }, suite]
}

/// A world with a pair of files for each kind of key.
struct Keys {
    world: World,
    ecdsa: (PathBuf, PathBuf),
    rsa: (PathBuf, PathBuf),
    listener: TcpListener,
}

impl Keys {
    fn new() -> Self {
        let world = World::new();
        let write = |name: &str, issued: Issued| {
            (
                world.folder.write(&format!("{name}.crt"), &issued.certificate),
                world.folder.write(&format!("{name}.key"), &issued.key),
            )
        };
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let ecdsa = write("ecdsa", world.authority.issue_to(&["localhost"], key, |_| {}));
        let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
        let rsa = write("rsa", world.authority.issue_to(&["localhost"], key, |_| {}));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Self { world, ecdsa, rsa, listener }
    }

    fn pair(&self, is_rsa: bool) -> &(PathBuf, PathBuf) {
        if is_rsa { &self.rsa } else { &self.ecdsa }
    }

    fn server(&self, is_rsa: bool) -> ServerTls {
        let (certificate, key) = self.pair(is_rsa);
        let certificate = Certificate::files(certificate, key);
        ServerTls::builder().certificate(certificate).build().unwrap()
    }

    /// Starts `s_client` and accepts it.
    fn s_client(&self, server: &ServerTls, arguments: &[&str]) -> (OpenSsl, Result<Wire, String>) {
        let address = self.listener.local_addr().unwrap().to_string();
        let ca = self.world.ca.to_str().unwrap();
        let mut all = vec!["s_client", "-connect", &address, "-servername", "localhost"];
        all.extend(["-CAfile", ca, "-verify_return_error", "-verify_hostname", "localhost"]);
        all.extend(arguments);
        let client = OpenSsl::start(&all);
        let (socket, _) = self.listener.accept().unwrap();
        let wire = Wire::connect(socket, Handshake::server(server).unwrap());
        (client, wire)
    }

    /// Starts `s_server`, which sends each line back reversed.
    fn s_server(&self, is_rsa: bool, arguments: &[&str]) -> (OpenSsl, String) {
        let (certificate, key) = self.pair(is_rsa);
        let mut all = vec!["s_server", "-accept", "127.0.0.1:0", "-rev"];
        all.extend(["-cert", certificate.to_str().unwrap(), "-key", key.to_str().unwrap()]);
        all.extend(arguments);
        let mut server = OpenSsl::start(&all);
        let line = server.line_with("ACCEPT");
        let address = line.split_whitespace().last().unwrap().to_owned();
        (server, address)
    }
}

fn connect(client: &ClientTls, address: &str) -> Result<Wire, String> {
    let socket = TcpStream::connect(address).unwrap();
    Wire::connect(socket, Handshake::client(client, "localhost").unwrap())
}

#[test]
fn s_client_speaks_with_every_suite() {
    if !is_installed() {
        return;
    }
    let keys = Keys::new();
    for (version, suite, is_rsa) in SUITES {
        let server = keys.server(is_rsa);
        let mut options = suite_options(version, suite).to_vec();
        options.extend(["-quiet", "-alpn", "http/1.1"]);
        let (mut client, wire) = keys.s_client(&server, &options);
        let mut wire = wire.unwrap_or_else(|error| panic!("{suite}: {error}"));
        assert_eq!(wire.facts.info.sni.as_deref(), Some("localhost"));
        assert_eq!(wire.facts.info.alpn.as_deref(), Some("http/1.1"));
        client.input.write_all(b"hello\n").unwrap();
        assert_eq!(wire.read_line(), "hello\n", "{suite}");
        let long = format!("{}\n", "x".repeat(100_000));
        wire.send(long.as_bytes());
        assert_eq!(client.line_with("xxxx"), long, "{suite}");
        wire.send(b"");
        let mut end = Vec::new();
        wire.secure.seal_close_notify(&mut end).unwrap();
        wire.socket.write_all(&end).unwrap();
        assert!(client.process.wait().unwrap().success(), "{suite}");
    }
}

#[test]
fn s_server_speaks_with_every_suite_and_resumes() {
    if !is_installed() {
        return;
    }
    let keys = Keys::new();
    for (version, suite, is_rsa) in SUITES {
        let (_server, address) = keys.s_server(is_rsa, &suite_options(version, suite));
        let client = keys.world.client();
        for round in 0..2 {
            let mut wire =
                connect(&client, &address).unwrap_or_else(|error| panic!("{suite}: {error}"));
            wire.send(b"hello\n");
            assert_eq!(wire.read_line(), "olleh\n", "{suite}");
            assert_eq!(wire.facts.info.resumed, round > 0, "{suite}");
            let name = wire.facts.info.cipher.replace("_WITH_", "_").replace("TLS_", "");
            assert_eq!(
                name.contains("AES_128"),
                suite.replace("AES128", "AES_128").contains("AES_128")
            );
            let long = format!("{}\n", "ab".repeat(4_000));
            wire.send(long.as_bytes());
            assert_eq!(wire.read_line(), format!("{}\n", "ba".repeat(4_000)), "{suite}");
        }
    }
}

#[test]
fn s_client_resumes_its_session() {
    if !is_installed() {
        return;
    }
    let keys = Keys::new();
    let session = keys.world.folder.path("session.pem");
    let session = session.to_str().unwrap();
    let server = keys.server(false);
    for version in ["-tls1_2", "-tls1_3"] {
        for (option, resumed) in [("-sess_out", false), ("-sess_in", true)] {
            let (mut client, wire) = keys.s_client(&server, &[version, "-quiet", option, session]);
            let mut wire = wire.unwrap();
            assert_eq!(wire.facts.info.resumed, resumed, "{version}");
            // The ticket is there before the line, and with it in the file at the end.
            wire.send(b"hello\n");
            client.line_with("hello");
            let mut end = Vec::new();
            wire.secure.seal_close_notify(&mut end).unwrap();
            wire.socket.write_all(&end).unwrap();
            drop(wire);
            client.process.wait().unwrap();
        }
    }
}

#[test]
fn s_client_shows_its_certificate() {
    if !is_installed() {
        return;
    }
    let keys = Keys::new();
    let (certificate, key) = keys.pair(false);
    let server = ServerTls::builder()
        .certificate(Certificate::files(certificate, key))
        .client_certificates(ClientCertificates::required(&keys.world.ca))
        .build()
        .unwrap();
    let me = keys.world.authority.issue(&["me"]);
    let mine = keys.world.folder.write("me.pem", &format!("{}{}", me.certificate, me.key));
    for version in ["-tls1_2", "-tls1_3"] {
        let (mut client, wire) =
            keys.s_client(&server, &[version, "-quiet", "-cert", mine.to_str().unwrap()]);
        let mut wire = wire.unwrap();
        // OpenSSL sends the authority, too.
        assert_eq!(wire.facts.peer_certificates[0], me.der);
        client.input.write_all(b"hello\n").unwrap();
        assert_eq!(wire.read_line(), "hello\n");
        let (_client, refused) = keys.s_client(&server, &[version, "-quiet"]);
        let error = refused.err().expect("no certificate, no connection");
        assert!(error.contains("sent no certificate"), "{error}");
    }
}

#[test]
fn s_server_asks_for_our_certificate() {
    if !is_installed() {
        return;
    }
    let keys = Keys::new();
    let me = keys.world.authority.issue(&["me"]);
    let with = ClientTls::builder().roots(&keys.world.ca).certificate(me.pair()).build().unwrap();
    for version in ["-tls1_2", "-tls1_3"] {
        let ca = keys.world.ca.to_str().unwrap();
        let arguments = [version, "-Verify", "1", "-CAfile", ca, "-verify_return_error"];
        let (_server, address) = keys.s_server(false, &arguments);
        let mut wire = connect(&with, &address).unwrap();
        wire.send(b"hello\n");
        assert_eq!(wire.read_line(), "olleh\n");
        // One connection at a time.
        drop(wire);
        match connect(&keys.world.client(), &address) {
            // TLS 1.2: in the handshake.
            Err(error) => assert!(error.contains("handshake_failure"), "{error}"),
            // TLS 1.3: behind it.
            Ok(mut wire) => {
                let (_, control) = wire.read(|_| false).unwrap();
                assert_eq!(control, Some(Control::Alert(Alert::CERTIFICATE_REQUIRED)));
            }
        }
    }
}

#[test]
fn key_updates_go_both_ways() {
    if !is_installed() {
        return;
    }
    let keys = Keys::new();
    let server = keys.server(false);
    let (mut client, wire) = keys.s_client(&server, &["-tls1_3"]);
    let mut wire = wire.unwrap();
    // `K` sends an update that asks for one, `k` one that does not.
    for (command, requested) in [("K\n", true), ("k\n", false)].into_iter().cycle().take(6) {
        client.input.write_all(command.as_bytes()).unwrap();
        client.line_with("KEYUPDATE");
        // It goes out with the next data.
        client.input.write_all(b"more\n").unwrap();
        let (data, control) = wire.read(|_| false).unwrap();
        assert!(data.is_empty());
        assert_eq!(control, Some(Control::KeyUpdate { requested }));
        assert_eq!(wire.secure.owes_control(), requested);
        assert_eq!(wire.read_line(), "more\n");
        wire.send(b"answer\n");
        client.line_with("answer");
    }
    let mut update = Vec::new();
    wire.secure.seal_key_update(true, &mut update).unwrap();
    wire.socket.write_all(&update).unwrap();
    wire.send(b"after\n");
    client.line_with("after");
    client.input.write_all(b"more\n").unwrap();
    let (_, control) = wire.read(|_| false).unwrap();
    assert_eq!(control, Some(Control::KeyUpdate { requested: false }));
}

#[test]
fn s_client_may_not_negotiate_anew() {
    if !is_installed() {
        return;
    }
    let keys = Keys::new();
    let server = keys.server(false);
    let (mut client, wire) = keys.s_client(&server, &["-tls1_2"]);
    let mut wire = wire.unwrap();
    assert_eq!(wire.facts.info.version, TlsVersion::Tls12);
    client.input.write_all(b"hello\n").unwrap();
    assert_eq!(wire.read_line(), "hello\n");
    client.input.write_all(b"R\n").unwrap();
    let refused = wire.read(|_| false);
    // Its hello on an open connection, or nothing but its end where it does not dare to.
    match refused {
        Err(error) => assert_eq!(error, RecordError::Renegotiation),
        Ok((_, control)) => {
            assert!(matches!(control, Some(Control::Alert(_) | Control::CloseNotify)));
        }
    }
}

/// rcgen does not sign with SHA-1 any more, and browsers have refused it since 2017.
#[test]
fn a_weak_signature_is_named() {
    if !is_installed() {
        return;
    }
    let world = World::new();
    let openssl = |line: &str| {
        let words = line.split_whitespace().map(|word| match word.strip_prefix('@') {
            Some(name) => world.folder.path(name).display().to_string(),
            None => word.to_owned(),
        });
        let done = Command::new("openssl").args(words).output().unwrap();
        assert!(done.status.success(), "{line}: {}", String::from_utf8_lossy(&done.stderr));
    };
    let key = "-newkey rsa:2048 -noenc -keyout";
    openssl(&format!("req -x509 {key} @old.key -out @old.pem -subj /CN=old -days 2"));
    openssl(&format!(
        "req {key} @leaf.key -out @leaf.csr -subj /CN=leaf -addext subjectAltName=DNS:localhost"
    ));
    openssl(
        "x509 -req -in @leaf.csr -CA @old.pem -CAkey @old.key -CAcreateserial -copy_extensions copy -sha1 \
         -days 2 -out @leaf.crt",
    );
    let pair = Certificate::files(world.folder.path("leaf.crt"), world.folder.path("leaf.key"));
    let server = ServerTls::builder().certificate(pair).build().unwrap();
    let client = ClientTls::builder().roots(world.folder.path("old.pem")).build().unwrap();
    let Err(Refused::Client(error)) = common::connect(&client, &server) else {
        panic!("it connected, or the server refused");
    };
    assert_eq!(error, HandshakeError::WeakSignature("SHA-1 with RSA".into()));
    assert!(error.to_string().contains("SHA-256"), "{error}");
}
