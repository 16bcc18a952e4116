//! Settings: certificates by name, reloads, files that cannot be used.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::common::{Authority, Folder, Refused, World, connect, connect_to};
use picows_uring_tls::{
    Certificate, ClientCertificates, ClientTls, Fingerprint, Handshake, HandshakeError, ServerTls,
    TlsError, TlsVersion,
};

fn error_of(built: Result<ServerTls, TlsError>) -> String {
    built.expect_err("these settings cannot be used").to_string()
}

/// Builds with a pair of files, and returns the error.
fn error_of_files(certificate: &Path, key: &Path) -> String {
    let error =
        error_of(ServerTls::builder().certificate(Certificate::files(certificate, key)).build());
    for path in [certificate, key] {
        assert!(error.contains(&path.display().to_string()), "{error}");
    }
    error
}

#[test]
fn certificates_are_chosen_by_name() {
    let world = World::new();
    let [default, exact, wild] = [
        world.authority.issue(&["localhost"]),
        world.authority.issue(&["a.example.com"]),
        world.authority.issue(&["*.example.com"]),
    ];
    let server = ServerTls::builder()
        .certificate(default.pair())
        .certificate_for("*.Example.com.", wild.pair())
        .certificate_for("a.example.com", exact.pair())
        .build()
        .unwrap();
    let anyone = ClientTls::builder().danger_accept_invalid_certificates().build().unwrap();
    for (name, expected) in [
        ("a.example.com", &exact),
        ("A.EXAMPLE.COM", &exact),
        ("b.example.com", &wild),
        ("a.b.example.com", &default),
        ("example.com", &default),
        ("127.0.0.1", &default),
        ("[::1]", &default),
    ] {
        let pair = connect_to(&anyone, &server, name).unwrap();
        assert_eq!(
            pair.client.facts.peer_certificates,
            std::slice::from_ref(&expected.der),
            "{name}"
        );
        let sni = (!name.contains(':') && !name.starts_with('1')).then(|| name.to_lowercase());
        assert_eq!(pair.server.facts.info.sni.as_deref(), sni.as_deref(), "{name}");
    }
}

#[test]
fn a_name_without_a_certificate_is_refused_by_name() {
    let world = World::new();
    let server = ServerTls::builder()
        .certificate_for("localhost", world.authority.issue(&["localhost"]).pair())
        .build()
        .unwrap();
    assert!(connect(&world.client(), &server).is_ok());
    let refused = connect_to(&world.client(), &server, "other.example").err();
    let name = Some("other.example".to_owned());
    assert_eq!(refused, Some(Refused::Server(HandshakeError::UnrecognizedName { name })));
    let mut client = Handshake::client(&world.client(), "other.example").unwrap();
    let (mut hello, mut alert) = (Vec::new(), Vec::new());
    client.advance(&mut [], &mut hello).unwrap();
    let mut refusing = Handshake::server(&server).unwrap();
    refusing.advance(&mut hello, &mut alert).unwrap_err();
    let error = client.advance(&mut alert, &mut Vec::new()).unwrap_err().to_string();
    assert!(error.contains("unrecognized_name") && error.contains("tls_server_name"), "{error}");
}

#[test]
fn files_that_cannot_be_used_are_named_with_the_cure() {
    let world = World::new();
    let [first, second] = [(); 2].map(|()| world.authority.issue(&["localhost"]));
    let folder = &world.folder;
    let certificate = folder.write("a.crt", &first.certificate);
    let key = folder.write("a.key", &first.key);
    let other = folder.write("b.key", &second.key);
    let empty = folder.write("empty", "");
    let text = folder.write("text", "hello");
    let missing = folder.path("missing");
    let encrypted = folder.write(
        "encrypted.key",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n",
    );
    let cut = folder.write("cut.crt", &first.certificate[..200]);
    for (certificate, key, expected) in [
        (&certificate, &other, "does not fit"),
        (&key, &certificate, "exchanged"),
        (&empty, &key, "it is empty"),
        (&certificate, &empty, "it is empty"),
        (&missing, &key, "No such file"),
        (&certificate, &missing, "No such file"),
        (&certificate, &certificate, "there is no private key in it, but CERTIFICATE"),
        (&text, &key, "not PEM"),
        (&certificate, &encrypted, "decrypt it first"),
        (&cut, &key, "the certificate"),
    ] {
        let error = error_of_files(certificate, key);
        assert!(error.contains(expected), "{expected:?} in {error}");
    }
    let both = folder.write("both.pem", &format!("{}{}", first.certificate, first.key));
    assert!(ServerTls::builder().certificate(Certificate::files(&both, &both)).build().is_ok());
}

#[test]
fn a_file_without_permission_is_named() {
    let world = World::new();
    let issued = world.authority.issue(&["localhost"]);
    let certificate = world.folder.write("a.crt", &issued.certificate);
    let key = world.folder.write("a.key", &issued.key);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::read(&key).is_ok() {
        // The superuser reads everything: a folder is what it cannot read.
        fs::remove_file(&key).unwrap();
        fs::create_dir(&key).unwrap();
    }
    let error = error_of_files(&certificate, &key);
    assert!(error.contains("cannot read") && error.contains("permissions"), "{error}");
}

#[test]
fn a_certificate_has_to_be_for_its_name() {
    let world = World::new();
    let issued = world.authority.issue(&["a.example.com", "10.0.0.1"]);
    for name in ["b.example.com", "*.example.com"] {
        let built = ServerTls::builder().certificate_for(name, issued.pair()).build();
        let error = error_of(built);
        assert!(error.contains(name) && error.contains("a.example.com"), "{error}");
    }
    for name in ["", "a b", "*", "*.", "a.*.com"] {
        let built = ServerTls::builder().certificate_for(name, issued.pair()).build();
        assert!(matches!(built, Err(TlsError::InvalidName { .. })), "{name:?}");
    }
    assert!(matches!(ServerTls::builder().build(), Err(TlsError::NoCertificate)));
    assert!(Handshake::client(&world.client(), "a b").is_err());
}

#[test]
fn roots_that_cannot_be_used_are_named() {
    let folder = Folder::new();
    let missing = folder.path("missing.pem");
    let empty = folder.write("empty.pem", "");
    for path in [missing, empty] {
        let error = ClientTls::builder().roots(&path).build().unwrap_err().to_string();
        assert!(error.contains(&path.display().to_string()), "{error}");
        let server = ServerTls::builder()
            .certificate(Authority::new("a").issue(&["localhost"]).pair())
            .client_certificates(ClientCertificates::required(&path));
        assert!(error_of(server.build()).contains(&path.display().to_string()));
    }
    let pin = Fingerprint::sha256([1; 32]);
    let both = ClientTls::builder().pin(pin).danger_accept_invalid_certificates().build();
    assert!(matches!(both, Err(TlsError::Conflict(_))));
}

/// What a client gets from the server now.
fn served(world: &World, server: &ServerTls) -> Vec<u8> {
    connect(&world.client(), server).unwrap().client.facts.peer_certificates[0].clone()
}

#[test]
fn a_reload_takes_both_files_or_neither() {
    let world = World::new();
    let [first, second] = [(); 2].map(|()| world.authority.issue(&["localhost"]));
    let certificate = world.folder.write("a.crt", &first.certificate);
    let key = world.folder.write("a.key", &first.key);
    let server =
        ServerTls::builder().certificate(Certificate::files(&certificate, &key)).build().unwrap();
    let refused = |what: &str| {
        let error = server.reload().expect_err(what).to_string();
        for path in [&certificate, &key] {
            assert!(error.contains(&path.display().to_string()), "{what}: {error}");
        }
        assert_eq!(served(&world, &server), first.der, "{what}");
        assert_eq!(server.generation(), 0, "{what}");
    };
    world.folder.write("a.crt", &second.certificate);
    refused("half a pair");
    world.folder.write("a.crt", "");
    refused("an empty file");
    fs::remove_file(&certificate).unwrap();
    refused("a missing file");
    world.folder.write("a.crt", &first.key);
    world.folder.write("a.key", &first.certificate);
    refused("exchanged files");
    fs::remove_file(&key).unwrap();
    fs::create_dir(&key).unwrap();
    refused("an unreadable file");
    fs::remove_dir(&key).unwrap();
    let mut begun = Handshake::server(&server).unwrap();
    let mut open = connect(&world.client(), &server).unwrap();
    world.folder.write("a.crt", &second.certificate);
    world.folder.write("a.key", &second.key);
    server.reload().unwrap();
    assert_eq!(server.generation(), 1);
    assert_eq!(served(&world, &server), second.der);
    // A handshake ends with the pair that it began with, and open connections keep theirs.
    let mut client = Handshake::client(&world.client(), "localhost").unwrap();
    let (mut hello, mut flight) = (Vec::new(), Vec::new());
    client.advance(&mut [], &mut hello).unwrap();
    begun.advance(&mut hello, &mut flight).unwrap();
    let picows_uring_tls::Step::Done { facts, .. } =
        client.advance(&mut flight, &mut Vec::new()).unwrap()
    else {
        panic!("the client is not done");
    };
    assert_eq!(facts.peer_certificates, [first.der]);
    let sealed = open.client.seal(b"still");
    open.server.received.extend(sealed);
    assert_eq!(open.server.open_all().0, b"still");
}

#[test]
fn a_program_chooses_certificates_by_name() {
    let world = World::new();
    let [fixed, tenant] =
        [world.authority.issue(&["localhost"]), world.authority.issue(&["tenant.example.com"])];
    let read = tenant.pair().read().unwrap();
    let chosen = Arc::new(AtomicUsize::new(0));
    let builder = || {
        let (read, chosen) = (read.clone(), chosen.clone());
        ServerTls::builder().certificate_by(move |name| {
            chosen.fetch_add(1, Ordering::Relaxed);
            (name == Some("tenant.example.com")).then(|| read.clone())
        })
    };
    let anyone = ClientTls::builder().danger_accept_invalid_certificates().build().unwrap();
    let served = |server: &ServerTls, name| {
        connect_to(&anyone, server, name).map(|pair| pair.client.facts.peer_certificates[0].clone())
    };
    let server = builder().certificate(fixed.pair()).build().unwrap();
    for (name, expected) in
        [("tenant.example.com", &tenant), ("localhost", &fixed), ("127.0.0.1", &fixed)]
    {
        assert_eq!(served(&server, name).unwrap(), expected.der, "{name}");
    }
    assert_eq!(chosen.load(Ordering::Relaxed), 3, "once in each handshake");
    server.reload().unwrap();
    assert_eq!(served(&server, "tenant.example.com").unwrap(), tenant.der);
    // Nothing else is set: the alert is the same as for any name that is not known.
    let server = builder().build().unwrap();
    assert_eq!(served(&server, "tenant.example.com").unwrap(), tenant.der);
    let Err(Refused::Server(error)) = served(&server, "localhost") else {
        panic!("it connected, or the client refused");
    };
    assert!(error.to_string().contains("localhost"), "{error}");
    assert!(matches!(error, HandshakeError::UnrecognizedName { .. }), "{error}");
}

#[test]
fn a_session_of_a_chosen_certificate_is_resumed() {
    let world = World::new();
    let read = world.authority.issue(&["localhost"]).pair().read().unwrap();
    let server = ServerTls::builder().certificate_by(move |_| Some(read.clone())).build().unwrap();
    let client = world.client();
    let resumed = [(); 2].map(|()| {
        let mut pair = connect(&client, &server).unwrap();
        // The ticket.
        pair.client.open_all();
        pair.client.facts.info.resumed
    });
    assert_eq!(resumed, [false, true]);
}

#[test]
fn a_certificate_that_does_not_fit_is_not_read() {
    let world = World::new();
    let [one, other] = [(); 2].map(|()| world.authority.issue(&["localhost"]));
    let error = Certificate::pem(one.certificate, other.key).read().unwrap_err();
    assert!(error.to_string().contains("does not fit"), "{error}");
}

#[test]
fn the_length_of_records_has_bounds() {
    for bytes in [0, 511, 16_385, usize::MAX] {
        let world = World::new();
        let pair = world.authority.issue(&["localhost"]).pair();
        let error =
            error_of(ServerTls::builder().certificate(pair).record_bytes_max(bytes).build());
        assert!(error.contains("record_bytes_max"), "{error}");
        let client = ClientTls::builder().danger_accept_invalid_certificates();
        let error = client.record_bytes_max(bytes).build().unwrap_err();
        assert!(error.to_string().contains("record_bytes_max"), "{error}");
    }
}

#[test]
fn certificates_are_replaced_together_or_not_at_all() {
    let world = World::new();
    let server = world.server();
    let before = served(&world, &server);
    let stranger = world.authority.issue(&["other.example"]);
    let names = vec![("localhost".to_owned(), stranger.pair())];
    assert!(server.replace(Some(world.authority.issue(&["localhost"]).pair()), names).is_err());
    assert_eq!(served(&world, &server), before);
    server.reload().unwrap();
    assert_eq!(served(&world, &server), before);
    let after = world.authority.issue(&["localhost"]);
    server.replace(Some(after.pair()), Vec::new()).unwrap();
    assert_eq!(served(&world, &server), after.der);
    server.reload().unwrap();
    assert_eq!(served(&world, &server), after.der);
    assert!(world.server().generation() < server.generation());
}

#[test]
fn handshakes_go_on_while_certificates_are_reloaded() {
    let world = World::new();
    let pairs: Vec<_> = (0..2).map(|_| world.authority.issue(&["localhost"])).collect();
    let server = ServerTls::builder().certificate(pairs[0].pair()).build().unwrap();
    let is_over = Arc::new(AtomicBool::new(false));
    let handshakes = std::thread::spawn({
        let (server, client, is_over) = (server.clone(), world.client(), is_over.clone());
        move || {
            let mut count = 0;
            while !is_over.load(Ordering::Relaxed) || count < 100 {
                connect(&client, &server).unwrap();
                count += 1;
            }
        }
    });
    for round in 0..50 {
        server.replace(Some(pairs[round % 2].pair()), Vec::new()).unwrap();
    }
    is_over.store(true, Ordering::Relaxed);
    handshakes.join().unwrap();
    assert_eq!(server.generation(), 50);
}

#[test]
fn the_lowest_version_is_kept() {
    let world = World::new();
    let server = ServerTls::builder()
        .certificate(world.authority.issue(&["localhost"]).pair())
        .tls13_only()
        .build()
        .unwrap();
    assert!(connect(&world.client(), &server).is_ok());
    let Err(Refused::Server(error)) = connect(&world.client_of(TlsVersion::Tls12), &server) else {
        panic!("it connected, or the client refused");
    };
    assert!(error.to_string().contains("tls13_only"), "{error}");
}

#[test]
fn the_key_log_has_the_secrets_of_each_connection() {
    let world = World::new();
    let [server_log, client_log] = ["server.txt", "client.txt"].map(|name| world.folder.path(name));
    let server = ServerTls::builder()
        .certificate(world.authority.issue(&["localhost"]).pair())
        .key_log(&server_log)
        .build()
        .unwrap();
    let client = ClientTls::builder().roots(&world.ca).key_log(&client_log).build().unwrap();
    connect(&client, &server).unwrap();
    let lines = |path: &Path| {
        let text = fs::read_to_string(path).unwrap();
        let mut lines: Vec<_> = text.lines().map(ToOwned::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(lines(&server_log), lines(&client_log));
    for label in ["CLIENT_TRAFFIC_SECRET_0 ", "SERVER_HANDSHAKE_TRAFFIC_SECRET "] {
        assert!(lines(&client_log).iter().any(|line| line.starts_with(label)), "{label}");
    }
    let mode = fs::metadata(&client_log).unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0, "only its owner reads it");
    assert!(ClientTls::builder().roots(&world.ca).key_log("/missing/x").build().is_err());
}
