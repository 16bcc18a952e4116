//! From a host name to a connected socket: resolve, and race the addresses (RFC 8305).
//!
//! Names are resolved by the loop's blocking threads, and sockets connect in the loop, so nothing
//! here keeps the worker from its connections.

use super::error::ConnectFault;
use super::target::Target;
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;
use tokio::net::TcpSocket;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

/// Sets options of a socket before it connects.
pub(super) type SocketHook = Rc<dyn Fn(BorrowedFd<'_>) -> io::Result<()>>;

/// How sockets are made.
#[derive(Clone, Default)]
pub(super) struct DialOptions {
    pub(super) local: Option<IpAddr>,
    pub(super) hook: Option<SocketHook>,
}

/// Looks up the addresses of a target.
pub(super) async fn resolve(target: &Target) -> Result<Vec<SocketAddr>, ConnectFault> {
    let failed = |source| ConnectFault::Resolve { host: target.host.clone(), source };
    let found = tokio::net::lookup_host((target.host.as_str(), target.port)).await;
    let addresses: Vec<_> = found.map_err(failed)?.collect();
    if addresses.is_empty() {
        return Err(failed(io::Error::new(io::ErrorKind::NotFound, "it has no address")));
    }
    Ok(addresses)
}

/// Connects to the first address that answers, starting with one more every 250 ms or as soon as
/// one fails.
pub(super) async fn dial(
    addresses: Vec<SocketAddr>,
    options: &DialOptions,
) -> Result<OwnedFd, ConnectFault> {
    let mut waiting = VecDeque::from(interleave(addresses));
    let mut racing = JoinSet::new();
    let mut attempts = Vec::new();
    loop {
        if let Some(address) = waiting.pop_front() {
            let options = options.clone();
            racing.spawn_local(async move { (address, connect(address, &options).await) });
        }
        let next_start = Instant::now() + ATTEMPT_DELAY;
        let finished = if waiting.is_empty() {
            racing.join_next().await
        } else {
            match timeout_at(next_start, racing.join_next()).await {
                Ok(finished) => finished,
                Err(_) => continue,
            }
        };
        match finished {
            // Dropping the set ends the other attempts.
            Some(Ok((_, Ok(socket)))) => return Ok(socket),
            Some(Ok((address, Err(error)))) => attempts.push((address, error)),
            Some(Err(error)) => return Err(ConnectFault::Socket(io::Error::other(error))),
            None if waiting.is_empty() => return Err(ConnectFault::Unreachable { attempts }),
            None => {}
        }
    }
}

async fn connect(address: SocketAddr, options: &DialOptions) -> io::Result<OwnedFd> {
    let socket = if address.is_ipv6() { TcpSocket::new_v6()? } else { TcpSocket::new_v4()? };
    socket.set_nodelay(true)?;
    if let Some(hook) = &options.hook {
        hook(socket.as_fd())?;
    }
    if let Some(local) = options.local {
        socket.bind(SocketAddr::new(local, 0))?;
    }
    Ok(OwnedFd::from(socket.connect(address).await?.into_std()?))
}

/// IPv6 and IPv4 in turn, beginning with the family that the resolver put first (RFC 8305 §4).
fn interleave(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == first_is_v6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut mixed = Vec::new();
    loop {
        let pair = (first.next(), second.next());
        if pair == (None, None) {
            return mixed;
        }
        mixed.extend(pair.0);
        mixed.extend(pair.1);
    }
}

/// RFC 8305 §5 recommends it.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns_rfc8305_4() {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        let (a, b, c) = (address("[::1]:1"), address("[::2]:1"), address("[::3]:1"));
        let (x, y) = (address("1.1.1.1:1"), address("2.2.2.2:1"));
        assert_eq!(interleave(vec![a, b, c, x, y]), [a, x, b, y, c]);
        assert_eq!(interleave(vec![x, y, a]), [x, a, y]);
        assert_eq!(interleave(vec![]), []);
    }
}
