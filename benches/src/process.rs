//! Steps that every server and the load generator take once, at the start.

use rustix::process::{Resource, getrlimit, setrlimit};
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};

/// Listens for connections without delay: they inherit TCP_NODELAY from the listener.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    rustix::net::sockopt::set_tcp_nodelay(&listener, true)?;
    Ok(listener)
}

/// Says where connections are accepted, in the words of `picows echo`.
pub fn announce(listener: &TcpListener) -> io::Result<()> {
    announce_as("ws", listener)
}

/// The same with a scheme, `ws` or `wss`.
pub fn announce_as(scheme: &str, listener: &TcpListener) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "listening on {scheme}://{}", listener.local_addr()?)?;
    out.flush()
}

/// A connection is a descriptor: takes as many as we may have.
pub fn raise_descriptor_limit() -> io::Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    Ok(setrlimit(Resource::Nofile, limit)?)
}
