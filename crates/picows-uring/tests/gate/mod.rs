//! A proxy for tests that speaks HTTP CONNECT, SOCKS4, 4a and 5, written apart from the client's code.
//!
//! Every tunnel leads to the port that was asked for on 127.0.0.1, whatever the host is called.

#![allow(dead_code, reason = "each test binary uses its own part of this module")]

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

/// A running proxy; it runs as long as the process.
pub(crate) struct Gate {
    pub(crate) address: SocketAddr,
    asked: Receiver<Asked>,
}

/// A request for a tunnel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    /// `http`, `socks4` or `socks5`.
    pub(crate) protocol: &'static str,
    /// Host and port as they were sent.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// The whole request of HTTP.
    pub(crate) head: String,
    /// User and password of SOCKS.
    pub(crate) user: String,
    pub(crate) password: String,
}

/// What the proxy demands and does.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rules {
    /// Users have to be [`USER`] with [`PASSWORD`].
    pub(crate) wants_password: bool,
    /// The connection is closed behind a 407.
    pub(crate) closes: bool,
}

pub(crate) const USER: &str = "USER";
pub(crate) const PASSWORD: &str = "SECRET";
/// User and password as HTTP has them (RFC 7617).
pub(crate) const BASIC: &str = "Basic VVNFUjpTRUNSRVQ=";

impl Gate {
    pub(crate) fn new(rules: Rules) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let (report, asked) = mpsc::channel();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, report) = (stream.expect("a connection"), report.clone());
                // A client that goes ends its connection.
                thread::spawn(move || drop(serve(stream, rules, &report)));
            }
        });
        Self { address, asked }
    }

    /// The URL of the proxy, with what is in front of its host.
    pub(crate) fn url(&self, scheme: &str, credentials: &str) -> String {
        format!("{scheme}://{credentials}{}", self.address)
    }

    /// The next request for a tunnel.
    #[track_caller]
    pub(crate) fn next(&self) -> Asked {
        self.asked.recv_timeout(Duration::from_secs(30)).expect("the proxy is asked")
    }

    /// The requests that were made until now.
    pub(crate) fn all(&self) -> Vec<Asked> {
        self.asked.try_iter().collect()
    }
}

fn serve(mut stream: TcpStream, rules: Rules, report: &Sender<Asked>) -> io::Result<()> {
    let [first] = bytes(&mut stream)?;
    let port = match first {
        4 => socks4(&mut stream, report)?,
        5 => socks5(&mut stream, rules, report)?,
        _ => http(&mut stream, first, rules, report)?,
    };
    if let Some(port) = port {
        relay(&stream, &TcpStream::connect((Ipv4Addr::LOCALHOST, port))?)?;
    }
    Ok(())
}

fn http(
    stream: &mut TcpStream,
    first: u8,
    rules: Rules,
    report: &Sender<Asked>,
) -> io::Result<Option<u16>> {
    let mut head = vec![first];
    loop {
        while !head.ends_with(b"\r\n\r\n") {
            let [byte] = bytes(stream)?;
            head.push(byte);
        }
        let text = String::from_utf8_lossy(&head).into_owned();
        let authority = text.split(' ').nth(1).unwrap_or_default();
        let (host, port) = authority.rsplit_once(':').unwrap_or_default();
        let (host, port) = (host.to_owned(), port.parse().unwrap_or_default());
        let asked = Asked { protocol: "http", host, port, head: text.clone(), ..Asked::default() };
        let _ = report.send(asked);
        let is_known = text.contains(&format!("\r\nProxy-Authorization: {BASIC}\r\n"));
        if !rules.wants_password || is_known {
            stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
            return Ok(Some(port));
        }
        let end = if rules.closes { "Connection: close\r\n" } else { "" };
        let challenge = format!(
            "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"g\"\r\n\
             {end}Content-Length: 5\r\n\r\nlogin"
        );
        stream.write_all(challenge.as_bytes())?;
        if rules.closes {
            return Ok(None);
        }
        head.clear();
    }
}

fn socks4(stream: &mut TcpStream, report: &Sender<Asked>) -> io::Result<Option<u16>> {
    let [_command, high, low] = bytes(stream)?;
    let address = bytes::<4>(stream)?;
    let user = text_to_zero(stream)?;
    let is_name = address[..3] == [0; 3];
    let address = Ipv4Addr::from(address).to_string();
    let host = if is_name { text_to_zero(stream)? } else { address };
    let port = u16::from_be_bytes([high, low]);
    let _ = report.send(Asked { protocol: "socks4", host, port, user, ..Asked::default() });
    stream.write_all(&[0, 90, 0, 0, 0, 0, 0, 0])?;
    Ok(Some(port))
}

fn socks5(stream: &mut TcpStream, rules: Rules, report: &Sender<Asked>) -> io::Result<Option<u16>> {
    let methods = text(stream)?.into_bytes();
    let (mut user, mut password) = (String::new(), String::new());
    if rules.wants_password && !methods.contains(&2) {
        stream.write_all(&[5, 0xFF])?;
        return Ok(None);
    }
    stream.write_all(&[5, if rules.wants_password { 2 } else { 0 }])?;
    if rules.wants_password {
        let [_version] = bytes(stream)?;
        (user, password) = (text(stream)?, text(stream)?);
        let is_known = user == USER && password == PASSWORD;
        stream.write_all(&[1, u8::from(!is_known)])?;
        if !is_known {
            return Ok(None);
        }
    }
    let [_version, _command, _reserved, family] = bytes(stream)?;
    let host = match family {
        1 => Ipv4Addr::from(bytes::<4>(stream)?).to_string(),
        4 => Ipv6Addr::from(bytes::<16>(stream)?).to_string(),
        _ => text(stream)?,
    };
    let port = u16::from_be_bytes(bytes(stream)?);
    let _ =
        report.send(Asked { protocol: "socks5", host, port, user, password, head: String::new() });
    stream.write_all(b"\x05\x00\x00\x03\x04gate\x00\x00")?;
    Ok(Some(port))
}

/// Copies bytes both ways until both sides have ended.
fn relay(client: &TcpStream, server: &TcpStream) -> io::Result<()> {
    // Pieces of a few bytes would wait for the acknowledgement of the one before, 40 ms or more each.
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut from_server, mut to_client) = (server.try_clone()?, client.try_clone()?);
    let back = thread::spawn(move || {
        let _ = io::copy(&mut from_server, &mut to_client);
        let _ = to_client.shutdown(Shutdown::Write);
    });
    let (mut from_client, mut to_server) = (client, server);
    let _ = io::copy(&mut from_client, &mut to_server);
    let _ = server.shutdown(Shutdown::Write);
    let _ = back.join();
    Ok(())
}

fn bytes<const N: usize>(stream: &mut TcpStream) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// A text behind its length.
fn text(stream: &mut TcpStream) -> io::Result<String> {
    let [length] = bytes(stream)?;
    let mut text = vec![0; usize::from(length)];
    stream.read_exact(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn text_to_zero(stream: &mut TcpStream) -> io::Result<String> {
    let mut text = Vec::new();
    loop {
        match bytes(stream)? {
            [0] => return Ok(String::from_utf8_lossy(&text).into_owned()),
            [byte] => text.push(byte),
        }
    }
}
