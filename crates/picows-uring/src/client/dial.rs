//! From a host name to a connected socket: resolve, and race the addresses (RFC 8305).
//!
//! Names are resolved by threads of their own, and sockets connect in the loop, so nothing here
//! keeps the worker from its connections.

use super::error::ConnectFault;
use super::proxy::Proxy;
use super::resolve::Resolver;
use crate::foreign;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;
use tokio::net::TcpSocket;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

/// Sets options of a socket before it connects.
pub(super) type SocketHook = Rc<dyn Fn(BorrowedFd<'_>) -> io::Result<()>>;

/// The options of sockets to be made.
#[derive(Clone, Default)]
pub(super) struct DialOptions {
    pub(super) local: Option<IpAddr>,
    pub(super) hook: Option<SocketHook>,
    pub(super) resolver: Resolver,
    pub(super) proxy: Option<Proxy>,
}

/// Looks up the addresses of a host.
pub(super) async fn resolve(
    host: &str,
    port: u16,
    resolver: &Resolver,
) -> Result<Vec<SocketAddr>, ConnectFault> {
    let failed = |source| ConnectFault::Resolve { host: host.to_owned(), source };
    let addresses = resolver.addresses(host, port).await.map_err(failed)?;
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

/// Connects to a Unix socket, and waits as long as its server does not accept what waits already.
pub(super) async fn dial_unix(path: &Path, options: &DialOptions) -> Result<OwnedFd, ConnectFault> {
    if options.local.is_some() {
        let fault = "a Unix socket has no local address: leave it out".to_owned();
        return Err(ConnectFault::Setting { setting: "local_address", fault });
    }
    let failed = |source| ConnectFault::UnixSocket { path: path.to_owned(), source };
    let address = SocketAddrUnix::new(path).map_err(|errno| failed(errno.into()))?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .map_err(|errno| failed(errno.into()))?;
    if let Some(hook) = &options.hook {
        let hooked = foreign::call(|| hook(socket.as_fd())).map_err(io::Error::other);
        hooked.and_then(|hooked| hooked).map_err(failed)?;
    }
    loop {
        match rustix::net::connect(&socket, &address) {
            Ok(()) => return Ok(socket),
            // The queue of the listener is full, and nothing says when it is no more (unix(7)).
            Err(Errno::AGAIN) => sleep(QUEUE_FULL_PAUSE).await,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(failed(errno.into())),
        }
    }
}

async fn connect(address: SocketAddr, options: &DialOptions) -> io::Result<OwnedFd> {
    let socket = if address.is_ipv6() { TcpSocket::new_v6()? } else { TcpSocket::new_v4()? };
    socket.set_nodelay(true)?;
    if let Some(hook) = &options.hook {
        foreign::call(|| hook(socket.as_fd())).map_err(io::Error::other)??;
    }
    if let Some(local) = options.local {
        if local.is_ipv6() != address.is_ipv6() {
            let fault = format!("the local address {local} is of another family");
            return Err(io::Error::new(io::ErrorKind::Unsupported, fault));
        }
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

/// Between two tries of a Unix socket whose queue is full: of a server that is that busy, it is a
/// small part of the time that the handshake will take.
const QUEUE_FULL_PAUSE: Duration = Duration::from_millis(5);

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

    fn run<T>(future: impl Future<Output = T>) -> T {
        crate::run(future).unwrap()
    }

    /// An address where connecting fails at once: no socket listens, and no other one can.
    fn unheard() -> (OwnedFd, SocketAddr) {
        use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket};
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        bind(&socket, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = getsockname(&socket).unwrap().try_into().unwrap();
        (socket, address)
    }

    /// An address where connecting never ends: its backlog is full, and nothing is accepted.
    struct Silent {
        address: SocketAddr,
        _waiting: std::net::TcpStream,
        _listener: OwnedFd,
    }

    impl Silent {
        fn new() -> Self {
            use rustix::event::{PollFd, PollFlags, poll};
            let (listener, address) = unheard();
            // The queue is full when it is longer than this.
            rustix::net::listen(&listener, 0).unwrap();
            let waiting = std::net::TcpStream::connect(address).unwrap();
            poll(&mut [PollFd::new(&listener, PollFlags::IN)], None).unwrap();
            Self { address, _waiting: waiting, _listener: listener }
        }
    }

    fn listener() -> (std::net::TcpListener, SocketAddr) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    fn peer(socket: &OwnedFd) -> SocketAddr {
        rustix::net::getpeername(socket).unwrap().unwrap().try_into().unwrap()
    }

    #[test]
    fn a_silent_address_is_overtaken_after_a_moment_rfc8305_5() {
        let (silent, (_listener, alive)) = (Silent::new(), listener());
        let started = Instant::now();
        let addresses = vec![silent.address, alive];
        let socket = run(async { dial(addresses, &DialOptions::default()).await }).unwrap();
        assert_eq!(peer(&socket), alive);
        assert!(started.elapsed() >= ATTEMPT_DELAY, "{:?}", started.elapsed());
    }

    #[test]
    fn an_address_that_refuses_is_passed_over_at_once_rfc8305_5() {
        let (silent, (_listener, alive)) = (Silent::new(), listener());
        let (_unheard, refusing) = unheard();
        // So many that a moment for each would take longer than any machine is busy.
        let mut addresses = vec![refusing; 200];
        addresses.extend([alive, silent.address]);
        let started = Instant::now();
        let socket = run(async { dial(addresses, &DialOptions::default()).await }).unwrap();
        assert_eq!(peer(&socket), alive);
        assert!(started.elapsed() < 200 * ATTEMPT_DELAY / 2, "{:?}", started.elapsed());
    }

    #[test]
    fn every_address_that_refuses_is_named() {
        let (_unheard, refusing) = unheard();
        let addresses = vec![refusing; 2];
        let fault =
            run(async { dial(addresses.clone(), &DialOptions::default()).await }).unwrap_err();
        let ConnectFault::Unreachable { attempts } = fault else { panic!("{fault:?}") };
        let tried: Vec<_> = attempts.iter().map(|(address, _)| *address).collect();
        assert_eq!(tried, addresses);
    }

    #[test]
    fn a_local_address_of_another_family_is_named_with_the_cure() {
        let (_listener, v4) = listener();
        let v6 = SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, 1));
        for (local, address) in [("::1", v4), ("127.0.0.1", v6)] {
            let options = DialOptions { local: local.parse().ok(), ..DialOptions::default() };
            let text = run(async { dial(vec![address], &options).await }).unwrap_err().to_string();
            if text.contains("Address family not supported") {
                assert!(address.is_ipv6(), "a machine without IPv6: {text}");
                continue;
            }
            for part in [&format!("the local address {local}"), "both of IPv4, or both of IPv6"] {
                assert!(text.contains(part), "{text}");
            }
        }
        // The address of the other family of a name that has both is passed over.
        let local = "127.0.0.1".parse().ok();
        let options = DialOptions { local, ..DialOptions::default() };
        let socket = run(async { dial(vec![v6, v4], &options).await }).unwrap();
        assert_eq!(peer(&socket), v4);
    }

    #[test]
    fn a_timeout_names_the_stage_of_connecting() {
        use crate::{Connect, ConnectStage, EchoListener};
        let silent = Silent::new();
        let connect = Connect::new(format!("ws://{}/", silent.address))
            .handshake_timeout(Duration::from_millis(50));
        let error = run(connect.connect(EchoListener)).unwrap_err();
        let stage = ConnectStage::Connect;
        assert!(
            matches!(error.fault(), ConnectFault::Timeout { stage: it, .. } if *it == stage),
            "{error:?}"
        );
        assert!(error.to_string().contains("connecting took longer than 50ms"), "{error}");
    }
}
