//! Listening sockets: addresses, options, and what is left behind.
//!
//! The only place that makes sockets; what happens on them is the ring's.

mod port;
mod takeover;
mod unix_path;

use crate::error::{Error, name_cure};
use crate::patience::patiently;
use crate::unix_url;
use socket2::{Domain, Protocol, Socket, Type};
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fmt, io};
use unix_path::PathFault;

pub(crate) use port::{port_fault, url_port_fault};
use takeover::SocketGroup;
pub(crate) use takeover::{
    Asker, Control, GroupName, Heard, OfferedSockets, Part, Predecessor, Takeover,
};
pub(crate) use unix_path::SocketPath;

/// An address or socket to listen on.
#[derive(Clone, Debug)]
pub(crate) enum ListenOn {
    /// `host:port` or `unix:path`.
    Text(String),
    /// A listening socket of the caller's, which clones of a builder share.
    Inherited(Arc<OwnedFd>),
    /// What a predecessor had inherited, unless it is listened on already.
    Taken(GroupName),
}

/// What to listen on, and whether TLS is spoken there.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) on: ListenOn,
    pub(crate) is_secure: bool,
}

/// An address that a server listens on. Printed, it is the URL that a client connects to.
///
/// ```
/// use picows_uring::{EchoListener, Server, Upgrade};
///
/// let builder = Server::builder().listen("127.0.0.1:0").workers(1);
/// let server = builder.start(|_| Upgrade::accept(EchoListener))?;
/// assert!(server.addresses()[0].to_string().starts_with("ws://127.0.0.1:"));
/// # Ok::<(), picows_uring::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ListenAddress {
    /// TCP, with the port that was found if port 0 was asked for.
    Tcp(SocketAddr),
    /// A Unix socket; empty for one without a path. Printed, bytes of the path that have a meaning
    /// in URLs are percent-encoded.
    Unix(PathBuf),
    /// TCP, on which TLS is spoken.
    Tls(SocketAddr),
    /// A Unix socket, on which TLS is spoken.
    TlsUnix(PathBuf),
}

impl ListenAddress {
    /// The same address, on which TLS is spoken.
    fn secured(self) -> Self {
        match self {
            Self::Tcp(address) | Self::Tls(address) => Self::Tls(address),
            Self::Unix(path) | Self::TlsUnix(path) => Self::TlsUnix(path),
        }
    }

    /// The address of a TCP socket.
    pub(crate) fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) | Self::Tls(address) => Some(*address),
            Self::Unix(_) | Self::TlsUnix(_) => None,
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "ws://{address}"),
            Self::Unix(path) => unix_url::Shown { scheme: "ws", path }.fmt(f),
            Self::Tls(address) => write!(f, "wss://{address}"),
            Self::TlsUnix(path) => unix_url::Shown { scheme: "wss", path }.fmt(f),
        }
    }
}

/// The options of listening sockets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ListenOptions {
    pub(crate) workers: usize,
    pub(crate) backlog: i32,
    /// Other processes may listen on the same port.
    pub(crate) share_port: bool,
    /// Copies of the sockets are kept, for a process that takes them over.
    pub(crate) keeps_copies: bool,
    /// What the server is of its process.
    pub(crate) part: Part,
}

/// The listening sockets of all workers.
#[derive(Debug)]
pub(crate) struct Listening {
    pub(crate) addresses: Vec<ListenAddress>,
    /// For each address, the number of what was wanted that it is of: a name may have several.
    pub(crate) origins: Vec<usize>,
    /// For each worker, its sockets, at least one for each address, with the number of that.
    pub(crate) sockets: Vec<Vec<(usize, OwnedFd)>>,
    /// For each address, the path that was made for it, which is removed when this is dropped.
    pub(crate) paths: Vec<Option<SocketPath>>,
    /// For each address, what a process would take over.
    pub(crate) copies: Vec<Copies>,
}

/// Copies of all listening sockets of one address.
#[derive(Debug, Default)]
pub(crate) struct Copies {
    /// Empty where none are kept.
    pub(crate) sockets: Vec<OwnedFd>,
    pub(crate) kind: SocketKind,
}

/// The origin of the listening sockets of one address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum SocketKind {
    /// Made for the address.
    #[default]
    Named,
    /// Made for port 0.
    AnyPort,
    /// A parent process keeps it open as well.
    Inherited,
}

/// Listens on everything in `wanted`, with a socket for each worker.
///
/// Takes sockets of a predecessor where it has them. Waits a moment for an address in use: the kernel takes
/// the rings of a process that was killed down in the background, and their sockets listen until then.
pub(crate) fn listen(
    wanted: Vec<Wanted>,
    options: ListenOptions,
    mut predecessor: Option<&mut Predecessor>,
) -> Result<Listening, Error> {
    let mut listening = Listening {
        addresses: Vec::new(),
        origins: Vec::new(),
        sockets: (0..options.workers).map(|_| Vec::new()).collect(),
        paths: Vec::new(),
        copies: Vec::new(),
    };
    let part = options.part;
    // How many addresses there are without those that a predecessor had inherited, which come last.
    let mut others = None;
    for (number, Wanted { on, is_secure }) in wanted.into_iter().enumerate() {
        let first = listening.addresses.len();
        match on {
            ListenOn::Text(text) => match text.strip_prefix("unix:") {
                Some(path) => {
                    let path = Path::new(path);
                    match take(&mut predecessor, &ListenAddress::Unix(path.to_owned()), part) {
                        Some(group) => listening.add_taken(group, options)?,
                        None => patiently(is_in_use, || listening.add_unix(&text, path, options))?,
                    }
                }
                None => {
                    for address in resolve(&text)? {
                        match take(&mut predecessor, &ListenAddress::Tcp(address), part) {
                            Some(group) => listening.add_taken(group, options)?,
                            None => patiently(is_in_use, || listening.add_tcp(address, options))?,
                        }
                    }
                }
            },
            ListenOn::Inherited(socket) => listening.add_inherited(socket, options)?,
            ListenOn::Taken(name) => {
                let others =
                    listening.addresses.get(..*others.get_or_insert(first)).unwrap_or_default();
                let group = predecessor.as_mut().and_then(|it| it.take_inherited(name, others));
                group.map(|group| listening.add_taken(group, options)).transpose()?;
            }
        }
        listening.origins.resize(listening.addresses.len(), number);
        if is_secure {
            let added = listening.addresses.split_off(first);
            listening.addresses.extend(added.into_iter().map(ListenAddress::secured));
        }
    }
    Ok(listening)
}

/// The sockets of a predecessor that listen on an address.
fn take(
    predecessor: &mut Option<&mut Predecessor>,
    address: &ListenAddress,
    part: Part,
) -> Option<SocketGroup> {
    predecessor.as_mut()?.take(address, part)
}

/// Whether another socket has the address, which the kernel may be about to close.
fn is_in_use(error: &Error) -> bool {
    matches!(error, Error::Listen { source, .. } if source.kind() == io::ErrorKind::AddrInUse)
}

impl Listening {
    /// A socket for each worker, between which the kernel spreads connections (`SO_REUSEPORT`,
    /// socket(7)).
    fn add_tcp(&mut self, mut address: SocketAddr, options: ListenOptions) -> Result<(), Error> {
        let wanted = address;
        let kind = if address.port() == 0 { SocketKind::AnyPort } else { SocketKind::Named };
        let failed = |source| Error::Listen { address: wanted.to_string(), source };
        let is_shared = options.workers > 1 || options.share_port;
        if is_shared && !options.share_port && address.port() != 0 {
            // SO_REUSEPORT would let us in beside another server of the same user, and each of
            // the two would get half of the connections. A socket without it fails as it should.
            tcp_socket(address, false).map_err(failed)?;
        }
        let mut made = Vec::new();
        for _ in &self.sockets {
            let socket = tcp_socket(address, is_shared).map_err(failed)?;
            socket.listen(options.backlog).map_err(failed)?;
            if address.port() == 0
                && let Some(bound) = socket.local_addr().map_err(failed)?.as_socket()
            {
                address = bound;
            }
            made.push(socket);
        }
        let made = made.into_iter().map(OwnedFd::from).collect();
        self.deal_out(made, kind, options).map_err(failed)?;
        self.addresses.push(ListenAddress::Tcp(address));
        self.paths.push(None);
        Ok(())
    }

    /// The sockets of a predecessor, as many as it had workers.
    fn add_taken(&mut self, group: SocketGroup, options: ListenOptions) -> Result<(), Error> {
        let SocketGroup { address, path, kind, sockets, .. } = group;
        let failed = |source| Error::Listen { address: address.to_string(), source };
        for socket in sockets.iter().filter(|_| kind != SocketKind::Inherited) {
            // The backlog is a setting of each process.
            socket2::SockRef::from(socket).listen(options.backlog).map_err(failed)?;
        }
        self.deal_out(sockets, kind, options).map_err(failed)?;
        self.addresses.push(address);
        self.paths.push(path);
        Ok(())
    }

    /// Gives each worker a socket of an address: those that are left over as well, as what waits in the
    /// backlog of one is lost with it; where there are too few, workers share them.
    fn deal_out(
        &mut self,
        made: Vec<OwnedFd>,
        kind: SocketKind,
        options: ListenOptions,
    ) -> io::Result<()> {
        let (number, count) = (self.addresses.len(), made.len());
        let mut copies = Copies { kind, ..Copies::default() };
        if options.keeps_copies {
            copies.sockets = made.iter().map(OwnedFd::try_clone).collect::<Result<_, _>>()?;
        }
        for index in count..self.sockets.len() {
            let Some(shared) = made.get(index % count.max(1)) else { break };
            self.sockets[index].push((number, shared.try_clone()?));
        }
        let workers = self.sockets.len().max(1);
        for (index, socket) in made.into_iter().enumerate() {
            self.sockets[index % workers].push((number, socket));
        }
        self.copies.push(copies);
        Ok(())
    }

    fn add_unix(&mut self, text: &str, path: &Path, options: ListenOptions) -> Result<(), Error> {
        let failed = |source| Error::Listen { address: text.to_owned(), source };
        if path.as_os_str().is_empty() {
            let fault = "the path is missing: write unix:/run/picows.sock".to_owned();
            return Err(Error::Address { address: text.to_owned(), fault });
        }
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(failed)?;
        let bound = unix_path::bind(&socket, path).map_err(|fault| match fault {
            PathFault::Io(error) => failed(error),
            PathFault::Taken(fault) => Error::Address { address: text.to_owned(), fault },
        })?;
        socket.listen(options.backlog).map_err(failed)?;
        self.deal_out(vec![socket.into()], SocketKind::Named, options).map_err(failed)?;
        self.addresses.push(ListenAddress::Unix(path.to_owned()));
        self.paths.push(Some(bound));
        Ok(())
    }

    /// A socket of the caller's, which all workers share; the first of them accepts.
    fn add_inherited(&mut self, socket: Arc<OwnedFd>, options: ListenOptions) -> Result<(), Error> {
        let failed = |source| Error::Listen { address: "an inherited socket".into(), source };
        let socket = Arc::try_unwrap(socket).or_else(|shared| shared.try_clone());
        let socket = Socket::from(socket.map_err(failed)?);
        if !socket.is_listener().map_err(failed)? {
            let fault = "it does not listen: call listen(2) before handing it over".to_owned();
            return Err(Error::Address { address: "an inherited socket".into(), fault });
        }
        // Whether it is marked not to wait, which each driver needs in its own way, is left to their
        // accepts: servers may share it, and the mark with it.
        let address = address_of(&socket).map_err(failed)?;
        if let ListenAddress::Tcp(_) = address {
            socket.set_tcp_nodelay(true).map_err(failed)?;
        }
        self.deal_out(vec![socket.into()], SocketKind::Inherited, options).map_err(failed)?;
        self.addresses.push(address);
        self.paths.push(None);
        Ok(())
    }
}

/// The address that a socket is bound to.
fn address_of(socket: &Socket) -> io::Result<ListenAddress> {
    let address = socket.local_addr()?;
    Ok(match address.as_socket() {
        Some(address) => ListenAddress::Tcp(address),
        None => ListenAddress::Unix(address.as_pathname().map(Path::to_owned).unwrap_or_default()),
    })
}

/// A connected socket of a caller, made ready for a ring.
pub(crate) fn connected(socket: OwnedFd) -> Result<OwnedFd, Error> {
    let bad = |fault: String| Error::Socket { fault };
    let socket = Socket::from(socket);
    let kind = socket.r#type().map_err(|error| bad(format!("it is no socket: {error}")))?;
    if kind != Type::STREAM {
        return Err(bad("it is no stream socket, as TCP and Unix sockets are".to_owned()));
    }
    let not_connected = |error: io::Error| {
        bad(format!("it is not connected ({error}): accept(2) returns one that is"))
    };
    socket.peer_addr().map_err(not_connected)?;
    let failed = |error: io::Error| bad(error.to_string());
    // io_uring does not wait on a socket that is marked not to.
    socket.set_nonblocking(false).map_err(failed)?;
    // Fails on a Unix socket, which has no delay anyway.
    let _ = socket.set_tcp_nodelay(true);
    Ok(socket.into())
}

/// A bound socket, not listening yet.
fn tcp_socket(address: SocketAddr, is_shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(is_shared)?;
    if address.is_ipv6() {
        // So that [::] and 0.0.0.0 can both be given, and neither takes the other's port.
        socket.set_only_v6(true)?;
    }
    // Accepted sockets inherit it: no system call for each connection.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// The addresses that `text` stands for.
fn resolve(text: &str) -> Result<Vec<SocketAddr>, Error> {
    let bad = |fault: String| Error::Address { address: text.to_owned(), fault };
    let mut found: Vec<_> = text
        .to_socket_addrs()
        .map_err(|error| {
            let error = port_fault(text).map_or_else(|| error.to_string(), str::to_owned);
            bad(format!(
                "{error}: write 127.0.0.1:9001, [::1]:9001, localhost:9001 (port 0 for any free \
                 one) or unix:/run/picows.sock{}",
                name_cure()
            ))
        })?
        .collect();
    found.dedup();
    if found.is_empty() {
        return Err(bad("the name has no address".into()));
    }
    Ok(found)
}
