//! Opening a tunnel: connects to the proxy and drives the protocol, on the loop beside the worker.
//!
//! The socket of an open tunnel is handed on like one that has connected directly.

use super::fault::of_proxy;
#[cfg(feature = "_tls")]
use super::secure::ProxyTls;
use super::stream::ProxyStream;
use super::url::{ProxyScheme, ProxyUrl};
use super::{ProxyFault, Route};
use crate::client::dial::{DialOptions, dial, resolve};
use crate::client::error::{ConnectFault, ConnectStage};
use crate::client::target::{Endpoint, Target};
use crate::foreign::log;
use picows_uring_proto::{Tunnel, TunnelError, TunnelMisuse, TunnelStep};
use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

/// The way to a server: a connected socket.
pub(in crate::client) struct Way {
    pub(in crate::client) socket: OwnedFd,
    /// TLS to a proxy, around all that is sent on the socket.
    #[cfg(feature = "_tls")]
    pub(in crate::client) tls: Option<Box<ProxyTls>>,
}

impl Way {
    /// The way without TLS to a proxy.
    pub(in crate::client) fn plain(socket: OwnedFd) -> Self {
        Self {
            socket,
            #[cfg(feature = "_tls")]
            tls: None,
        }
    }
}

impl DialOptions {
    /// Connects to `target` through the proxy; `None` when it is to be connected to directly.
    pub(in crate::client) async fn dial_proxied(
        &self,
        target: &Target,
        stage: &Cell<ConnectStage>,
    ) -> Result<Option<Way>, ConnectFault> {
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
                Ok(way) => return Ok(Some(way)),
                // Another address of the server may do.
                Err(fault) if is_of_address(&fault) => last = fault,
                Err(fault) => return Err(fault),
            }
        }
        Err(last)
    }

    /// Ends that the proxy may be asked for, the best first: the server's name, or its addresses.
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
        if !matches!(route.url.scheme, ProxyScheme::Socks4 | ProxyScheme::Socks5) {
            return Ok(vec![host.to_owned()]);
        }
        stage.set(ConnectStage::Resolve);
        let addresses = resolve(host, port, &self.resolver).await?;
        let addresses = addresses.iter().map(SocketAddr::ip).filter(is_wanted);
        Ok(addresses.map(|it| it.to_string()).take(ADDRESSES_TRIED_MAX).collect())
    }

    /// Opens `tunnel`, on a second connection where the first one needs that.
    async fn open(&self, route: &Route<'_>, mut tunnel: Tunnel) -> Result<Way, ConnectFault> {
        let ProxyUrl { host, port, .. } = &route.url;
        loop {
            let addresses = resolve(host, *port, &self.resolver).await;
            let addresses = addresses.map_err(|fault| route.dial_fault(fault))?;
            let socket = dial(addresses, self).await.map_err(|fault| route.dial_fault(fault))?;
            let mut stream = ProxyStream::new(socket).map_err(ConnectFault::Socket)?;
            #[cfg(feature = "_tls")]
            if route.url.scheme == ProxyScheme::Https {
                stream.secure(route).await?;
            }
            match drive(&mut stream, &mut tunnel).await.map_err(|fault| route.fault(fault))? {
                TunnelStep::Reconnect => {}
                TunnelStep::Open => {
                    #[cfg(feature = "_tls")]
                    let tls = stream.records.take().map(|records| ProxyTls::new(records, route));
                    return Ok(Way {
                        socket: stream.into_socket().map_err(ConnectFault::Socket)?,
                        #[cfg(feature = "_tls")]
                        tls,
                    });
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
            #[cfg(feature = "_tls")]
            ProxyScheme::Https => Tunnel::http(host, port)?,
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

    pub(super) fn fault(&self, fault: ProxyFault) -> ConnectFault {
        ConnectFault::Proxy { proxy: self.url.to_string(), variable: self.variable, fault }
    }

    pub(super) fn dial_fault(&self, fault: ConnectFault) -> ConnectFault {
        of_proxy(fault).map_or_else(|fault| fault, |fault| self.fault(fault))
    }
}

/// Sends and receives on a connection to the proxy until it comes to a step.
async fn drive(stream: &mut ProxyStream, tunnel: &mut Tunnel) -> Result<TunnelStep, ProxyFault> {
    let (mut out, mut input) = (Vec::new(), Vec::new());
    loop {
        out.clear();
        tunnel.poll_transmit(&mut out);
        // A proxy that ends the connection may have answered before.
        let sent = stream.send(&out).await;
        match stream.receive(&mut input).await {
            Ok(()) if input.is_empty() => return ended(tunnel, sent.err()),
            Ok(()) => {
                if let Some(step) = tunnel.handle_input(&input)? {
                    return Ok(step);
                }
            }
            Err(fault) => return ended(tunnel, Some(fault)),
        }
    }
}

/// The connection is over; a new one may be in order.
fn ended(tunnel: &mut Tunnel, fault: Option<ProxyFault>) -> Result<TunnelStep, ProxyFault> {
    match (tunnel.handle_end(), fault) {
        (Ok(step), _) => Ok(step),
        (Err(_), Some(fault)) => Err(fault),
        (Err(error), None) => Err(error.into()),
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
