//! Resumption: across workers and reloads, and never from one set of client rules to another.

use crate::common::{Authority, World, connect, connect_to};
use picows_uring_tls::{ClientCertificates, ClientTls, Control, ServerTls, TlsVersion};

/// Connects, keeps the ticket, and returns whether the session was resumed.
fn resumes(client: &ClientTls, server: &ServerTls, name: &str) -> bool {
    let mut pair = connect_to(client, server, name).unwrap();
    let (data, controls) = pair.client.open_all();
    assert!(data.is_empty());
    if pair.client.facts.info.version == TlsVersion::Tls13 {
        assert_eq!(controls, [Control::Ticket], "one ticket");
    }
    assert_eq!(pair.client.facts.info.resumed, pair.server.facts.info.resumed);
    // What is known of the peer is known in a resumed session, too.
    assert_eq!(pair.client.facts.peer_certificates.len(), 1);
    assert_eq!(pair.server.facts.info.sni.as_deref(), Some(name));
    pair.client.facts.info.resumed
}

#[test]
fn sessions_are_resumed_also_after_a_reload() {
    let world = World::new();
    let server = world.server();
    for version in [TlsVersion::Tls12, TlsVersion::Tls13] {
        let client = world.client_of(version);
        assert!(!resumes(&client, &server, "localhost"));
        for _ in 0..3 {
            assert!(resumes(&client, &server, "localhost"), "{version}");
        }
        server.reload().unwrap();
        assert!(resumes(&client, &server, "localhost"), "{version}");
        let other = world.authority.issue(&["localhost"]).pair();
        server.replace(Some(other), Vec::new()).unwrap();
        assert!(resumes(&client, &server, "localhost"), "{version}");
    }
}

#[test]
fn sessions_can_be_switched_off_and_do_not_cross_clients() {
    let world = World::new();
    let server = world.server();
    let client = ClientTls::builder().roots(&world.ca).resumption(0).build().unwrap();
    assert!(!resumes(&client, &server, "localhost"));
    assert!(!resumes(&client, &server, "localhost"));
    assert!(!resumes(&world.client(), &server, "localhost"));
    assert!(!resumes(&world.client(), &server, "localhost"));
}

/// Two addresses are two settings; a session of the lax one is offered to the strict one.
#[test]
fn a_session_of_lax_rules_is_not_resumed_under_strict_ones() {
    let world = World::new();
    let issued = world.authority.issue(&["localhost"]);
    let me = world.authority.issue(&["me"]);
    let lax = ServerTls::builder().certificate(issued.pair()).build().unwrap();
    let strict = ServerTls::builder()
        .certificate(issued.pair())
        .client_certificates(ClientCertificates::required(&world.ca))
        .build()
        .unwrap();
    for version in [TlsVersion::Tls12, TlsVersion::Tls13] {
        let client = world.client_with(version, Some(&me));
        assert!(!resumes(&client, &lax, "localhost"));
        assert!(resumes(&client, &lax, "localhost"));
        let pair = connect(&client, &strict).unwrap();
        assert!(!pair.server.facts.info.resumed, "{version}");
        assert_eq!(pair.server.facts.peer_certificates, std::slice::from_ref(&me.der));
    }
}

#[test]
fn a_session_of_a_lax_name_is_not_resumed_under_a_strict_name() {
    let world = World::new();
    let issued = world.authority.issue(&["a.example", "b.example"]);
    let server = ServerTls::builder()
        .certificate(issued.pair())
        .client_certificates_for("b.example", ClientCertificates::required(&world.ca))
        .build()
        .unwrap();
    let client = world.client();
    assert!(!resumes(&client, &server, "a.example"));
    assert!(resumes(&client, &server, "a.example"));
    // Without a certificate only the lax name is open.
    assert!(connect_to(&client, &server, "b.example").is_err());
    let me = world.authority.issue(&["me"]);
    let client = world.client_with(TlsVersion::Tls13, Some(&me));
    assert!(!resumes(&client, &server, "b.example"));
    assert!(resumes(&client, &server, "b.example"));
    let pair = connect_to(&client, &server, "b.example").unwrap();
    assert_eq!(
        pair.server.facts.peer_certificates,
        std::slice::from_ref(&me.der),
        "also in a resumed session"
    );
}

#[test]
fn a_reload_with_other_issuers_of_clients_ends_their_sessions() {
    let world = World::new();
    let [old, new] = ["old", "new"].map(Authority::new);
    let clients = world.folder.write("clients.pem", &old.pem());
    let server = ServerTls::builder()
        .certificate(world.authority.issue(&["localhost"]).pair())
        .client_certificates(ClientCertificates::required(&clients))
        .build()
        .unwrap();
    let me = old.issue(&["me"]);
    let client = world.client_with(TlsVersion::Tls13, Some(&me));
    assert!(!resumes(&client, &server, "localhost"));
    server.reload().unwrap();
    assert!(resumes(&client, &server, "localhost"), "the same issuers");
    world.folder.write("clients.pem", &new.pem());
    server.reload().unwrap();
    assert!(connect(&client, &server).is_err(), "the session is not resumed");
    let me = new.issue(&["me"]);
    let client = world.client_with(TlsVersion::Tls13, Some(&me));
    assert!(!resumes(&client, &server, "localhost"));
}

#[test]
fn optional_client_certificates_are_checked_if_there_are_any() {
    let world = World::new();
    let server = ServerTls::builder()
        .certificate(world.authority.issue(&["localhost"]).pair())
        .client_certificates(ClientCertificates::optional(&world.ca))
        .build()
        .unwrap();
    let pair = connect(&world.client(), &server).unwrap();
    assert!(pair.server.facts.peer_certificates.is_empty());
    let me = world.authority.issue(&["me"]);
    let pair = connect(&world.client_with(TlsVersion::Tls13, Some(&me)), &server).unwrap();
    assert_eq!(pair.server.facts.peer_certificates, [me.der]);
    let stranger = Authority::new("stranger").issue(&["me"]);
    let client = world.client_with(TlsVersion::Tls13, Some(&stranger));
    assert!(connect(&client, &server).is_err());
}
