use super::*;
use crate::client::resolve::Resolver;
use crate::{ConnectError, EchoListener};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Mutex, mpsc};

fn proxy_url(text: &str) -> Result<String, String> {
    let shown = |url: ProxyUrl| format!("{url} {}", url.credentials.is_some());
    ProxyUrl::parse(text).map(shown).map_err(|fault| fault.to_string())
}

#[test]
fn urls_of_proxies_have_a_scheme_a_host_and_a_port_of_that_scheme() {
    for (text, shown) in [
        ("http://gate:3128", "http://gate:3128 false"),
        ("http://gate", "http://gate:80 false"),
        ("http://gate:80/", "http://gate:80 false"),
        ("http://gate:21", "http://gate:21 false"),
        ("gate:3128", "http://gate:3128 false"),
        (" gate ", "http://gate:80 false"),
        ("socks5h://gate", "socks5h://gate:1080 false"),
        ("socks5://gate:80", "socks5://gate:80 false"),
        ("socks4a://gate:21", "socks4a://gate:21 false"),
        ("SOCKS4://GATE.Example:443", "socks4://gate.example:443 false"),
        ("socks5://[::1]:9", "socks5://[::1]:9 false"),
        ("10.5.5.5:8080", "http://10.5.5.5:8080 false"),
        ("http://user:password@gate:1", "http://gate:1 true"),
        ("user:password@gate:1", "http://gate:1 true"),
        ("socks4://user@gate", "socks4://gate:1080 true"),
        ("socks5://:password@gate", "socks5://gate:1080 true"),
        ("http://@gate", "http://gate:80 false"),
        ("http://bücher.example", "http://xn--bcher-kva.example:80 false"),
    ] {
        assert_eq!(proxy_url(text).as_deref(), Ok(shown), "{text}");
    }
    #[cfg(feature = "_tls")]
    for (text, shown) in [
        ("https://gate", "https://gate:443 false"),
        ("HTTPS://user:password@gate:80/", "https://gate:80 true"),
        ("https://gate:21", "https://gate:21 false"),
    ] {
        assert_eq!(proxy_url(text).as_deref(), Ok(shown), "{text}");
    }
    let url = ProxyUrl::parse("http://us%40er:p%3Aa%2Fss%25@gate").unwrap();
    let wanted = picows_uring_proto::ProxyCredentials::new("us@er", "p:a/ss%");
    assert_eq!(url.credentials, Some(wanted));
}

#[test]
fn urls_that_cannot_be_used_are_refused_without_their_secrets() {
    for (text, word) in [
        #[cfg(not(feature = "_tls"))]
        ("https://U:SECRET@gate", "this build has no TLS"),
        #[cfg(feature = "_tls")]
        ("https://U:SECRET@gate/path", "path, query or fragment"),
        ("ftp://U:SECRET@gate", "the scheme is \"ftp\": use http"),
        ("socks://U:SECRET@gate", "the scheme is \"socks\""),
        ("ws://U:SECRET@gate", "the scheme is \"ws\""),
        ("U:SECRET://@gate", "no scheme that is known"),
        ("SECRETSECRETSECRET://gate", "no scheme that is known"),
        ("://gate", "no scheme that is known"),
        ("http://U:SECRET@gate/path", "path, query or fragment"),
        ("http://U:SECRET@gate?x", "path, query or fragment"),
        ("http://U:SECRET@gate#x", "path, query or fragment"),
        ("http://U:SECRET@", "cannot be read"),
        ("http://U:SECRET@gate:99999", "cannot be read"),
        ("http://U:SECRET@ga te", "cannot be read"),
        ("http://U:SEC/RET@gate", "cannot be read"),
        ("", "cannot be read"),
        ("http://U:%FFSECRET@gate", "not UTF-8"),
    ] {
        let fault = Proxy::url(text).unwrap_err();
        let text_of = format!("{fault} {fault:?}");
        assert!(matches!(fault, ProxyFault::Url(_)) && !fault.is_transient(), "{text_of}");
        assert!(text_of.contains(word) && !text_of.contains("SECRET"), "{text}: {text_of}");
    }
}

/// The proxy to `url` by `proxy` and the variables, with the one that named it.
fn route(proxy: &Proxy, url: &str, set: &[(&str, &str)]) -> Result<Option<String>, ConnectFault> {
    let variable =
        |name: &str| set.iter().find(|(is, _)| *is == name).map(|(_, value)| (*value).to_owned());
    let target = Target::parse(url).unwrap();
    let route = proxy.route(&target, variable)?;
    Ok(route.map(|route| format!("{} {}", route.url, route.variable.unwrap_or("-"))))
}

#[test]
fn the_environment_is_asked_at_each_hop() {
    let set = [
        ("HTTPS_PROXY", "gate:1"),
        ("ws_proxy", "socks5://U:SECRET@gate:2"),
        ("all_proxy", "gate:3"),
        ("no_proxy", "exempt.example, bücher.example, .münchen.example:81"),
    ];
    let proxy = Proxy::from_env().no_proxy("10.0.0.0/8, straße.example");
    for (url, wanted) in [
        ("wss://a/", Some("http://gate:1 HTTPS_PROXY")),
        ("ws://a/", Some("socks5://gate:2 ws_proxy")),
        ("ws://exempt.example/", None),
        ("wss://a.exempt.example/", None),
        ("ws://bücher.example/", None),
        ("ws://a.münchen.example:81/", None),
        ("ws://a.münchen.example/", Some("socks5://gate:2 ws_proxy")),
        ("ws://straße.example/", None),
        ("ws://10.5.5.5/", None),
        ("ws://localhost/", Some("socks5://gate:2 ws_proxy")),
        ("ws+unix:/run/picows.sock", None),
    ] {
        assert_eq!(route(&proxy, url, &set).unwrap().as_deref(), wanted, "{url}");
    }
    assert_eq!(route(&proxy, "wss://a/", &[]).unwrap(), None);
    let all = [("all_proxy", "gate:3")];
    assert_eq!(route(&proxy, "ws://a/", &all).unwrap().as_deref(), Some("http://gate:3 all_proxy"));
    // One that was given does not ask.
    let given = Proxy::url("http://gate:9").unwrap().no_proxy("exempt.example");
    assert_eq!(route(&given, "ws://a/", &set).unwrap().as_deref(), Some("http://gate:9 -"));
    assert_eq!(route(&given, "ws://exempt.example/", &set).unwrap(), None);
    let fault = route(&given, "ws+unix:/run/picows.sock", &set).unwrap_err();
    assert!(fault.to_string().contains("proxy: no proxy leads to a Unix socket"), "{fault}");
}

#[test]
fn a_variable_that_cannot_be_used_is_named_without_its_value() {
    for (value, word) in [
        #[cfg(not(feature = "_tls"))]
        ("https://U:SECRET@gate", "this build has no TLS"),
        #[cfg(feature = "_tls")]
        ("https://U:SECRET@gate:port", "cannot be read"),
        ("ftp://U:SECRET@gate", "the scheme is \"ftp\""),
        ("http://U:SECRET@gate:port", "cannot be read"),
    ] {
        let fault = route(&Proxy::from_env(), "ws://a/", &[("http_proxy", value)]).unwrap_err();
        let error = ConnectError::new("ws://a/", fault);
        let text = format!("{error} {error:?}");
        assert!(
            text.starts_with("cannot connect to ws://a/: the proxy of the variable http_proxy: ")
        );
        assert!(text.contains(word) && !text.contains("SECRET"), "{text}");
        assert!(!error.is_transient());
    }
}

#[test]
fn debug_output_has_no_credentials() {
    let proxy = Proxy::url("http://USER:SECRET@gate:1").unwrap().header("X-Token", "SECRET");
    let connect = Connect::new("ws://a/").proxy(proxy.clone().no_proxy("a"));
    let shown = format!("{proxy:?} {connect:?} {:?}", Proxy::from_env());
    assert!(shown.contains("http://gate:1") && shown.contains("X-Token"), "{shown}");
    assert!(!shown.contains("SECRET") && !shown.contains("USER"), "{shown}");
}

#[test]
fn a_socket_that_was_given_and_a_proxy_contradict_each_other() {
    let (socket, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    let connect = Connect::new("ws://a/").socket(socket).proxy(Proxy::from_env());
    let error = crate::run(connect.connect(EchoListener)).unwrap().unwrap_err();
    let fault = error.fault();
    assert!(matches!(fault, ConnectFault::Setting { setting: "proxy", .. }), "{error:?}");
}

/// Where `gate.test` and `server.test` are, of which the first is tried first.
static ADDRESSES: Mutex<[Vec<SocketAddr>; 2]> = Mutex::new([Vec::new(), Vec::new()]);
/// One test at a time has them.
static TURN: Mutex<()> = Mutex::new(());

fn look_up(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let [gate, server] = ADDRESSES.lock().unwrap().clone();
    Ok(match host {
        "gate.test" => gate,
        _ => server.iter().map(|at| SocketAddr::new(at.ip(), port)).collect(),
    })
}

fn connect(scheme: &str) -> Connect {
    let proxy = Proxy::url(&format!("{scheme}://gate.test")).unwrap();
    Connect::new("ws://server.test:81/").proxy(proxy).resolver(Resolver::for_test(look_up))
}

fn refused(connect: Connect) -> ConnectError {
    crate::run(connect.connect(EchoListener)).unwrap().unwrap_err()
}

/// An address on which connecting is refused as long as the socket is kept.
fn unheard() -> (rustix::fd::OwnedFd, SocketAddr) {
    use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket};
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&socket, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = getsockname(&socket).unwrap().try_into().unwrap();
    (socket, address)
}

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// A SOCKS proxy that answers each request, which it hands over, with the next of `codes`.
fn socks(listener: TcpListener, codes: Vec<u8>) -> mpsc::Receiver<Vec<u8>> {
    let (seen, requests) = mpsc::channel();
    let serve = move |mut stream: TcpStream, code: u8| {
        let mut request = vec![0; 3];
        stream.read_exact(&mut request).unwrap();
        if request[0] == 5 {
            stream.write_all(b"\x05\0").unwrap();
            request = vec![0; 4 + 4 + 2];
        } else {
            request = vec![0; 6];
        }
        stream.read_exact(&mut request).unwrap();
        seen.send(request).unwrap();
        stream.write_all(&[5, code, 0, 1, 0, 0, 0, 0, 0, 0]).unwrap();
    };
    std::thread::spawn(move || {
        for code in codes {
            serve(listener.accept().unwrap().0, code);
        }
    });
    requests
}

#[test]
fn the_addresses_of_the_proxy_are_raced_rfc8305_5() {
    let _turn = TURN.lock();
    let ((_unheard, refusing), (alive, address)) = (unheard(), listener());
    *ADDRESSES.lock().unwrap() = [vec![refusing, address], Vec::new()];
    std::thread::spawn(move || alive.accept().unwrap().0.write_all(b"HTTP/1.1 502 X\r\n\r\n"));
    let text = refused(connect("http")).to_string();
    assert!(text.contains("the proxy http://gate.test:80: it answered 502"), "{text}");
}

#[test]
fn a_proxy_out_of_reach_is_named_with_its_addresses_and_not_the_servers() {
    let _turn = TURN.lock();
    let (_unheard, refusing) = unheard();
    *ADDRESSES.lock().unwrap() = [vec![refusing], vec!["192.0.2.7:1".parse().unwrap()]];
    for scheme in ["http", "socks4", "socks4a", "socks5", "socks5h"] {
        let error = refused(connect(scheme));
        let text = error.to_string();
        assert!(text.contains(&format!("the proxy {scheme}://gate.test:")), "{text}");
        assert!(text.contains(&refusing.to_string()) && !text.contains("192.0.2.7"), "{text}");
        assert!(text.contains("check the port, and that the proxy runs, and its URL"), "{text}");
        assert!(error.is_transient());
    }
    *ADDRESSES.lock().unwrap() = [Vec::new(), Vec::new()];
    let error = refused(connect("http"));
    let text = error.to_string();
    assert!(text.contains("its name \"gate.test\" cannot be resolved"), "{text}");
    assert!(error.is_transient());
    // The server's name, which is resolved here.
    let error = refused(connect("socks5"));
    let fault = error.fault();
    let is_of_server = matches!(fault, ConnectFault::Resolve { host, .. } if host == "server.test");
    assert!(is_of_server, "{error:?}");
}

#[test]
fn another_address_of_the_server_is_asked_for_when_the_proxy_reaches_none() {
    let _turn = TURN.lock();
    let (listening, address) = listener();
    let servers = ["192.0.2.1:1", "192.0.2.2:1", "192.0.2.3:1"].map(|it| it.parse().unwrap());
    *ADDRESSES.lock().unwrap() = [vec![address], servers.to_vec()];
    let requests = socks(listening, vec![4, 8, 2]);
    let text = refused(connect("socks5")).to_string();
    assert!(text.contains("2 (not allowed by its rules)"), "{text}");
    for last in 1..=3 {
        let wanted = [5, 1, 0, 1, 192, 0, 2, last, 0, 81];
        assert_eq!(requests.recv().unwrap(), wanted);
    }
}

#[test]
fn socks4_is_asked_for_ipv4_only() {
    let _turn = TURN.lock();
    let (listening, address) = listener();
    let server = |text: &str| text.parse().unwrap();
    let servers = vec![server("[2001:db8::1]:1"), server("192.0.2.2:1")];
    *ADDRESSES.lock().unwrap() = [vec![address], servers];
    let requests = socks(listening, vec![91]);
    let text = refused(connect("socks4")).to_string();
    assert_eq!(requests.recv().unwrap(), [81, 192, 0, 2, 2, 0], "behind version, command, port");
    assert!(text.contains("SOCKS4"), "{text}");
    *ADDRESSES.lock().unwrap() = [vec![address], vec![server("[2001:db8::1]:1")]];
    let error = refused(connect("socks4"));
    assert!(error.to_string().contains("use socks4a://"), "{error}");
    assert!(!error.is_transient());
}
