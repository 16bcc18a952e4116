//! Opening a tunnel: connects to the proxy and drives the protocol, on the loop beside the worker.
//!
//! The socket of an open tunnel is handed on like one that has connected directly.

use super::fault::of_proxy;
use super::url::{ProxyScheme, ProxyUrl};
use super::{ProxyFault, Route};
use crate::client::dial::{DialOptions, dial, resolve};
use crate::client::error::{ConnectFault, ConnectStage};
use crate::client::target::{Endpoint, Target};
use crate::foreign::log;
use picows_uring_proto::{Tunnel, TunnelError, TunnelMisuse, TunnelStep};
use std::cell::Cell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use tokio::net::TcpStream;

impl DialOptions {
    /// Connects to `target` through the proxy; `None` when it is to be connected to directly.
    pub(in crate::client) async fn dial_proxied(
        &self,
        target: &Target,
        stage: &Cell<ConnectStage>,
    ) -> Result<Option<OwnedFd>, ConnectFault> {
        let Some(proxy) = &self.proxy else { return Ok(None) };
        let variable = |name: &str| Some(std::env::var_os(name)?.to_string_lossy().into_owned());
        let Some(route) = proxy.route(target, variable)? else { return Ok(None) };
        let Endpoint::Host { host, port } = &target.endpoint else { return Ok(None) };
        log::debug!(proxy = %route.url, variable = route.variable, "connecting through a proxy");
        // Of addresses that SOCKS4 has none of.
        let mut last = route.fault(TunnelMisuse::Ipv6OverSocks4.into());
        for end in self.ends(&route, host, *port, stage).await? {
            let tunnel = route.tunnel(&end, *port).map_err(|misuse| route.fault(misuse.into()))?;
            stage.set(ConnectStage::Proxy);
            match self.open(&route, tunnel).await {
                Ok(socket) => return Ok(Some(socket)),
                // Another address of the server may do.
                Err(fault) if is_of_address(&fault) => last = fault,
                Err(fault) => return Err(fault),
            }
        }
        Err(last)
    }

    /// What the proxy may be asked for, the best first: the server's name, or its addresses.
    async fn ends(
        &self,
        route: &Route<'_>,
        host: &str,
        port: u16,
        stage: &Cell<ConnectStage>,
    ) -> Result<Vec<String>, ConnectFault> {
        let is_wanted = |address: &IpAddr| match route.url.scheme {
            ProxyScheme::Socks4 => address.is_ipv4(),
            _ => true,
        };
        if let ProxyScheme::Http | ProxyScheme::Socks4a | ProxyScheme::Socks5h = route.url.scheme {
            return Ok(vec![host.to_owned()]);
        }
        stage.set(ConnectStage::Resolve);
        let addresses = resolve(host, port, &self.resolver).await?;
        let addresses = addresses.iter().map(SocketAddr::ip).filter(is_wanted);
        Ok(addresses.map(|it| it.to_string()).take(ADDRESSES_TRIED_MAX).collect())
    }

    /// Opens `tunnel`, on a second connection where the first one needs that.
    async fn open(&self, route: &Route<'_>, mut tunnel: Tunnel) -> Result<OwnedFd, ConnectFault> {
        let ProxyUrl { host, port, .. } = &route.url;
        loop {
            let addresses = resolve(host, *port, &self.resolver).await;
            let addresses = addresses.map_err(|fault| route.dial_fault(fault))?;
            let socket = dial(addresses, self).await.map_err(|fault| route.dial_fault(fault))?;
            let stream = TcpStream::from_std(socket.into()).map_err(ConnectFault::Socket)?;
            match drive(&stream, &mut tunnel).await.map_err(|fault| route.fault(fault))? {
                TunnelStep::Reconnect => {}
                TunnelStep::Open => {
                    return Ok(stream.into_std().map_err(ConnectFault::Socket)?.into());
                }
            }
        }
    }
}

impl Route<'_> {
    /// A tunnel to `host`, which is a name or an address without brackets.
    fn tunnel(&self, host: &str, port: u16) -> Result<Tunnel, TunnelMisuse> {
        let mut tunnel = match self.url.scheme {
            ProxyScheme::Http => Tunnel::http(host, port)?,
            // With an address, that is SOCKS4.
            ProxyScheme::Socks4 | ProxyScheme::Socks4a => Tunnel::socks4a(host, port)?,
            ProxyScheme::Socks5 | ProxyScheme::Socks5h => Tunnel::socks5(host, port)?,
        };
        for (name, value) in self.headers {
            tunnel = tunnel.with_header(name, value)?;
        }
        match &self.url.credentials {
            Some(credentials) => tunnel.with_credentials(credentials),
            None => Ok(tunnel),
        }
    }

    fn fault(&self, fault: ProxyFault) -> ConnectFault {
        ConnectFault::Proxy { proxy: self.url.to_string(), variable: self.variable, fault }
    }

    fn dial_fault(&self, fault: ConnectFault) -> ConnectFault {
        of_proxy(fault).map_or_else(|fault| fault, |fault| self.fault(fault))
    }
}

/// Sends and receives on a connection to the proxy until it comes to a step.
async fn drive(stream: &TcpStream, tunnel: &mut Tunnel) -> Result<TunnelStep, ProxyFault> {
    let (mut out, mut input) = (Vec::new(), vec![0; ANSWER_BYTES]);
    loop {
        out.clear();
        tunnel.poll_transmit(&mut out);
        // A proxy that ends the connection may have answered before.
        let sent = send(stream, &out).await;
        match receive(stream, &mut input).await {
            Ok(0) => return ended(tunnel, sent.err()),
            Ok(length) => {
                if let Some(step) = tunnel.handle_input(&input[..length])? {
                    return Ok(step);
                }
            }
            Err(error) => return ended(tunnel, Some(error)),
        }
    }
}

/// The connection is over; a new one may be in order.
fn ended(tunnel: &mut Tunnel, error: Option<io::Error>) -> Result<TunnelStep, ProxyFault> {
    match (tunnel.handle_end(), error) {
        (Ok(step), _) => Ok(step),
        (Err(_), Some(error)) => Err(ProxyFault::Io(error)),
        (Err(fault), None) => Err(fault.into()),
    }
}

async fn send(stream: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.writable().await?;
        match stream.try_write(bytes) {
            Ok(length) => bytes = &bytes[length..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn receive(stream: &TcpStream, input: &mut [u8]) -> io::Result<usize> {
    loop {
        stream.readable().await?;
        match stream.try_read(input) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            received => return received,
        }
    }
}

/// Whether the proxy could not reach this address of the server, or does not take it.
fn is_of_address(fault: &ConnectFault) -> bool {
    match fault {
        ConnectFault::Proxy { fault: ProxyFault::Tunnel(TunnelError::Socks(refusal)), .. } => {
            refusal.is_of_address()
        }
        _ => false,
    }
}

/// Addresses of a server that the proxy is asked for, one after the other: a name may have hundreds.
const ADDRESSES_TRIED_MAX: usize = 8;

/// Bytes of an answer that are read at once.
const ANSWER_BYTES: usize = 4096;
