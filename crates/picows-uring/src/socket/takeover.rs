//! Takeover: listening sockets that go from one process to the next, by a Unix socket.
//!
//! Asks, hands over and takes; which workers accept meanwhile is decided in `server/takeover.rs`. A process
//! serves until the next one is ready and says so, whatever becomes of that one before.

mod wire;

use super::unix_path::{self, PathFault, PathOwner, SocketPath, absolute};
use super::{ListenAddress, SocketKind, address_of};
use crate::error::Error;
use crate::foreign::log;
use rustix::fs::{Mode, fchmod};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
    accept_with, connect, recvmsg, sendmsg, socket_with,
};
use rustix::process::geteuid;
use socket2::{Domain, SockRef, Socket, Type};
use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use wire::{GroupKind, Message, PathRecord};

pub(crate) use wire::{GroupName, Part};

/// The listening sockets of one address.
#[derive(Debug)]
pub(crate) struct SocketGroup {
    pub(crate) name: GroupName,
    pub(crate) address: ListenAddress,
    /// Of a Unix socket that was made for this address.
    pub(crate) path: Option<SocketPath>,
    pub(crate) kind: SocketKind,
    pub(crate) sockets: Vec<OwnedFd>,
}

/// The socket by which the next process finds this one.
#[derive(Debug)]
pub(crate) struct Control {
    socket: OwnedFd,
    path: SocketPath,
}

/// The takeover by a process that starts.
#[derive(Debug)]
pub(crate) struct Takeover {
    /// The process that serves, if there is one.
    pub(crate) predecessor: Option<Predecessor>,
    control: Control,
}

/// The process that serves, and what is left of its sockets.
#[derive(Debug)]
pub(crate) struct Predecessor {
    channel: Channel,
    path: PathBuf,
    groups: Vec<SocketGroup>,
    taken: Vec<GroupName>,
    /// Of the paths that come with what was taken.
    paths: Vec<PathOwner>,
}

/// A process that wants to take over. What it is sent waits here while it does not read: the thread that
/// answers does not.
#[derive(Debug)]
pub(crate) struct Asker {
    channel: Channel,
    unsent: VecDeque<Packet>,
    /// The time until which it may leave something unsent.
    late_at: Instant,
}

/// A message for a process that wants to take over.
#[derive(Debug)]
struct Packet {
    message: Message,
    beside: Beside,
}

/// The descriptors of a message.
#[derive(Debug)]
enum Beside {
    Nothing,
    /// The socket by which the next process finds this one.
    Control,
    Sockets(Arc<[OwnedFd]>, Range<usize>),
}

/// What a process that wants to take over says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    Ask,
    Take(Vec<GroupName>),
}

impl Takeover {
    /// Asks the process that serves at `path` for its sockets. Without one, this is the first.
    ///
    /// # Errors
    ///
    /// When there is another program, or a process that does not hand over; it serves on.
    pub(crate) fn begin(path: &Path) -> Result<Self, Error> {
        match Channel::connect(path) {
            Ok(Some(channel)) => {
                let (predecessor, control) = Predecessor::ask(channel, path)?;
                Ok(Self { predecessor: Some(predecessor), control })
            }
            Ok(None) => {
                log::info!(?path, "there is no process to take over from");
                Ok(Self { predecessor: None, control: Control::bind(path)? })
            }
            Err(fault) => Err(refused(path, fault)),
        }
    }

    /// Everything is ready. When this returns, the predecessor accepts no more.
    ///
    /// # Errors
    ///
    /// When it refuses; it serves on.
    pub(crate) fn commit(&mut self) -> Result<(), Error> {
        if let Some(predecessor) = &mut self.predecessor {
            predecessor.commit()?;
            self.control.path.owner().take();
        }
        Ok(())
    }

    /// The number of the predecessor's process, if there was one, and what the next process asks.
    pub(crate) fn finish(self) -> (Option<u32>, Control) {
        (self.predecessor.map(|it| it.channel.process), self.control)
    }
}

impl Predecessor {
    fn ask(channel: Channel, path: &Path) -> Result<(Self, Control), Error> {
        let failed = |fault| refused(path, no_takeover(fault));
        channel
            .send(&Message::Ask, &[], SendFlags::empty())
            .map_err(|errno| failed(unheard(errno)))?;
        let mut predecessor = Self {
            channel,
            path: path.to_owned(),
            groups: Vec::new(),
            taken: Vec::new(),
            paths: Vec::new(),
        };
        let mut control = None;
        loop {
            match predecessor.channel.receive().map_err(failed)? {
                Some((Message::Sockets(name, kind), sockets)) => {
                    predecessor.add(name, kind, sockets).map_err(|it| failed(it.to_string()))?;
                }
                Some((Message::Control(record), sockets)) => {
                    let path = SocketPath::of_other(record.path, record.identity);
                    control = sockets.into_iter().next().map(|socket| Control { socket, path });
                }
                Some((Message::End, _)) => break,
                Some((Message::Refused(reason), _)) => return Err(failed(reason)),
                Some(_) => return Err(failed("it sent what makes no sense".to_owned())),
                None => return Err(failed("it ended meanwhile: start again".to_owned())),
            }
        }
        let control = control.ok_or_else(|| failed("it sent what makes no sense".to_owned()))?;
        Ok((predecessor, control))
    }

    /// Takes note of sockets that were sent.
    fn add(&mut self, name: GroupName, kind: GroupKind, sockets: Vec<OwnedFd>) -> io::Result<()> {
        if let Some(group) = self.groups.iter_mut().find(|group| group.name == name) {
            group.sockets.extend(sockets);
            return Ok(());
        }
        let Some(first) = sockets.first() else { return Ok(()) };
        let own_address = || address_of(&SockRef::from(first));
        let (address, path, kind) = match kind {
            GroupKind::Tcp { is_any_port: false } => (own_address()?, None, SocketKind::Named),
            GroupKind::Tcp { is_any_port: true } => (own_address()?, None, SocketKind::AnyPort),
            GroupKind::Inherited => (own_address()?, None, SocketKind::Inherited),
            GroupKind::Unix(PathRecord { path, identity }) => {
                let address = ListenAddress::Unix(path.clone());
                (address, Some(SocketPath::of_other(path, identity)), SocketKind::Named)
            }
        };
        self.groups.push(SocketGroup { name, address, path, kind, sockets });
        Ok(())
    }

    /// The sockets that listen on an address, unless they were taken before. Any free port is one that was
    /// any free one for the predecessor.
    pub(crate) fn take(&mut self, address: &ListenAddress, part: Part) -> Option<SocketGroup> {
        let index = self.groups.iter().position(|group| match (address, &group.address) {
            (ListenAddress::Tcp(wanted), ListenAddress::Tcp(found)) if wanted.port() == 0 => {
                let is_any_port = group.kind == SocketKind::AnyPort;
                is_any_port && group.name.part == part && wanted.ip() == found.ip()
            }
            (ListenAddress::Tcp(wanted), ListenAddress::Tcp(found)) => wanted == found,
            (ListenAddress::Unix(wanted), ListenAddress::Unix(found)) => absolute(wanted) == *found,
            _ => false,
        })?;
        Some(self.take_at(index))
    }

    /// The sockets that it inherited itself, but for those that were taken before.
    pub(crate) fn inherited(&self, part: Part) -> Vec<GroupName> {
        let is_inherited =
            |group: &&SocketGroup| group.kind == SocketKind::Inherited && group.name.part == part;
        self.groups.iter().filter(is_inherited).map(|group| group.name).collect()
    }

    /// The sockets of this name, unless they were taken before, or listen on one of `addresses`.
    pub(crate) fn take_inherited(
        &mut self,
        name: GroupName,
        addresses: &[ListenAddress],
    ) -> Option<SocketGroup> {
        let is_elsewhere = |group: &SocketGroup| match &group.address {
            // Any number of sockets may be without an address.
            ListenAddress::Unix(path) if path.as_os_str().is_empty() => false,
            address => addresses.iter().any(|it| it.clone().secured() == address.clone().secured()),
        };
        let index = self.groups.iter().position(|it| it.name == name && !is_elsewhere(it))?;
        Some(self.take_at(index))
    }

    fn take_at(&mut self, index: usize) -> SocketGroup {
        let group = self.groups.remove(index);
        self.taken.push(group.name);
        self.paths.extend(group.path.as_ref().map(|path| path.owner().clone()));
        group
    }

    fn commit(&mut self) -> Result<(), Error> {
        // It goes on to accept from those that are not taken, until they are empty.
        self.groups.clear();
        let failed = |fault| refused(&self.path, no_takeover(fault));
        let take = Message::Take(self.taken.clone());
        let answer = match self.channel.send(&take, &[], SendFlags::empty()) {
            Ok(()) => self.channel.receive().map_err(failed)?,
            Err(Errno::PIPE | Errno::CONNRESET) => None,
            Err(errno) => return Err(failed(unheard(errno))),
        };
        match answer {
            Some((Message::Taken, _)) => {}
            // It has ended without a word, and its sockets are here.
            None => log::warn!(
                process = self.channel.process,
                "the process that served ended meanwhile"
            ),
            Some((Message::Refused(reason), _)) => return Err(failed(reason)),
            Some(_) => return Err(failed("it sent what makes no sense".to_owned())),
        }
        self.paths.iter().for_each(PathOwner::take);
        Ok(())
    }
}

impl Control {
    /// Binds `path` for processes of this user.
    fn bind(path: &Path) -> Result<Self, Error> {
        let failed = |error: io::Error| refused(path, bind_cure(&error));
        let socket = Socket::new(Domain::UNIX, Type::SEQPACKET, None).map_err(failed)?;
        // The mode of the path (unix(7)).
        fchmod(&socket, Mode::RUSR | Mode::WUSR).map_err(|errno| failed(errno.into()))?;
        let bound = unix_path::bind(&socket, path).map_err(|fault| match fault {
            PathFault::Io(error) => failed(error),
            PathFault::Taken(fault) => refused(path, fault),
        })?;
        socket.listen(BACKLOG).map_err(failed)?;
        Ok(Self { socket: socket.into(), path: bound })
    }

    /// The process that has connected first: the mode of the path leaves this user's, and root's, which does
    /// not ask that of another user.
    ///
    /// # Errors
    ///
    /// When there is none, or descriptors are short.
    pub(crate) fn accept(&self) -> io::Result<Asker> {
        let accept = || accept_with(&self.socket, SocketFlags::CLOEXEC);
        let socket = retry_on_intr(accept)?;
        let channel = Channel { socket, process: 0 };
        channel.set_up().map_err(io::Error::other)?;
        Ok(Asker { channel, unsent: VecDeque::new(), late_at: Instant::now() })
    }

    /// The path is the next process's.
    pub(crate) fn give_up(&self) {
        self.path.owner().give_up();
    }
}

impl AsFd for Control {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Asker {
    /// The number of its process, as soon as it has said something.
    pub(crate) fn process(&self) -> u32 {
        self.channel.process
    }

    /// What it says next; `None` when it has gone.
    ///
    /// # Errors
    ///
    /// What is wrong with it, which it was answered.
    pub(crate) fn hear(&mut self) -> Result<Option<Heard>, String> {
        let fault = match self.channel.receive() {
            Ok(None) => return Ok(None),
            Ok(Some((Message::Ask, _))) => return Ok(Some(Heard::Ask)),
            Ok(Some((Message::Take(names), _))) => return Ok(Some(Heard::Take(names))),
            Ok(Some(_)) => "it sent what makes no sense".to_owned(),
            Err(fault) => fault,
        };
        self.refuse(&fault);
        Err(fault)
    }

    /// Has copies of all sockets ready for it, and of the one by which the next process is found;
    /// [`send`](Self::send) sends them.
    pub(crate) fn offer<'a>(
        &mut self,
        groups: impl IntoIterator<Item = (GroupName, &'a OfferedSockets)>,
        control: &Control,
    ) {
        for (name, offered) in groups {
            let all = offered.sockets.len();
            for first in (0..all).step_by(DESCRIPTORS_MAX) {
                let part = first..all.min(first + DESCRIPTORS_MAX);
                let message = Message::Sockets(name, offered.group_kind());
                let beside = Beside::Sockets(Arc::clone(&offered.sockets), part);
                self.unsent.push_back(Packet { message, beside });
            }
        }
        let message = Message::Control(PathRecord::of(&control.path));
        self.unsent.push_back(Packet { message, beside: Beside::Control });
        self.unsent.push_back(Packet { message: Message::End, beside: Beside::Nothing });
        self.late_at = Instant::now() + ANSWER_MAX;
    }

    /// Sends what waits for it, as far as it reads. Does not wait.
    ///
    /// # Errors
    ///
    /// When it has gone, does not read, or the kernel carries too many descriptors.
    pub(crate) fn send(&mut self, control: &Control) -> io::Result<()> {
        while let Some(Packet { message, beside }) = self.unsent.front() {
            let sockets: Vec<_> = match beside {
                Beside::Nothing => Vec::new(),
                Beside::Control => vec![control.socket.as_fd()],
                Beside::Sockets(all, part) => {
                    all.get(part.clone()).unwrap_or_default().iter().map(AsFd::as_fd).collect()
                }
            };
            match self.channel.send(message, &sockets, SendFlags::DONTWAIT) {
                Ok(()) => drop(self.unsent.pop_front()),
                Err(Errno::AGAIN) if Instant::now() < self.late_at => break,
                Err(Errno::AGAIN) => return Err(io::Error::other("it does not read them")),
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    /// How long it may go on to leave something unsent; `None` where it has been sent all.
    pub(crate) fn time_to_read(&self) -> Option<Duration> {
        let left = || self.late_at.saturating_duration_since(Instant::now());
        (!self.unsent.is_empty()).then(left)
    }

    /// Reports that nothing is accepted any more from what it has taken.
    pub(crate) fn confirm(&self) -> io::Result<()> {
        Ok(self.channel.send(&Message::Taken, &[], SendFlags::DONTWAIT)?)
    }

    /// Reports the reason why there is no takeover, if it reads.
    pub(crate) fn refuse(&self, reason: &str) {
        let message = Message::Refused(reason.to_owned());
        let _ = self.channel.send(&message, &[], SendFlags::DONTWAIT);
    }
}

impl AsFd for Asker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.socket.as_fd()
    }
}

/// Copies of the sockets of one address, for a process that takes over.
#[derive(Debug)]
pub(crate) struct OfferedSockets {
    sockets: Arc<[OwnedFd]>,
    kind: SocketKind,
    path: Option<PathRecord>,
    owner: Option<PathOwner>,
}

impl OfferedSockets {
    pub(crate) fn new(copies: super::Copies, path: Option<&SocketPath>) -> Self {
        Self {
            sockets: copies.sockets.into(),
            kind: copies.kind,
            path: path.map(PathRecord::of),
            owner: path.map(|path| path.owner().clone()),
        }
    }

    fn group_kind(&self) -> GroupKind {
        match (self.kind, &self.path) {
            (SocketKind::Inherited, _) => GroupKind::Inherited,
            (_, Some(path)) => GroupKind::Unix(path.clone()),
            (kind, None) => GroupKind::Tcp { is_any_port: kind == SocketKind::AnyPort },
        }
    }

    /// Another process has taken them.
    pub(crate) fn give_up(self) {
        if let Some(owner) = self.owner {
            owner.give_up();
        }
    }
}

impl PathRecord {
    fn of(path: &SocketPath) -> Self {
        let (path, identity) = path.record();
        Self { path, identity }
    }
}

/// A connection between two processes, which keeps messages apart.
#[derive(Debug)]
struct Channel {
    socket: OwnedFd,
    /// The number of the other process, as that knows itself.
    process: u32,
}

impl Channel {
    /// Connects to the process that serves at `path`, if there is one.
    fn connect(path: &Path) -> Result<Option<Self>, String> {
        let address = SocketAddrUnix::new(path).map_err(|errno| bind_cure(&errno.into()))?;
        let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
        let socket = socket_with(family, kind, SocketFlags::CLOEXEC, None);
        let socket = socket.map_err(|errno| bind_cure(&errno.into()))?;
        let channel = Self { socket, process: 0 };
        channel.set_up()?;
        match retry_on_intr(|| connect(&channel.socket, &address)) {
            Ok(()) => {}
            Err(Errno::NOENT | Errno::CONNREFUSED) => return Ok(None),
            Err(Errno::ACCESS | Errno::PERM) => return Err(FOREIGN_USER.to_owned()),
            Err(Errno::PROTOTYPE) => {
                return Err("a socket of another program is there: choose another path".to_owned());
            }
            Err(Errno::AGAIN) => return Err(unheard(Errno::AGAIN)),
            Err(errno) => return Err(bind_cure(&errno.into())),
        }
        let owner = std::fs::symlink_metadata(path).map_err(|error| bind_cure(&error))?.uid();
        if owner != geteuid().as_raw() {
            return Err(FOREIGN_USER.to_owned());
        }
        Ok(Some(channel))
    }

    /// Bounds each wait.
    fn set_up(&self) -> Result<(), String> {
        [Timeout::Send, Timeout::Recv]
            .into_iter()
            .try_for_each(|which| set_socket_timeout(&self.socket, which, Some(ANSWER_MAX)))
            .map_err(|errno| errno.to_string())
    }

    fn send(
        &self,
        message: &Message,
        descriptors: &[BorrowedFd<'_>],
        flags: SendFlags,
    ) -> rustix::io::Result<()> {
        let bytes = message.to_bytes();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors))
        {
            return Err(Errno::NOBUFS);
        }
        let parts = [IoSlice::new(&bytes)];
        // A signal ends a wait that is bounded, even if no handler ran (signal(7)).
        retry_on_intr(|| sendmsg(&self.socket, &parts, &mut ancillary, flags | SendFlags::NOSIGNAL))
            .map(drop)
    }

    /// The next message, and what came with it; `None` when the other end is closed.
    ///
    /// # Errors
    ///
    /// What is wrong, as a part of a sentence about the other process.
    fn receive(&mut self) -> Result<Option<(Message, Vec<OwnedFd>)>, String> {
        let mut bytes = [0; MESSAGE_BYTES_MAX];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let flags = RecvFlags::CMSG_CLOEXEC;
        let receive = || recvmsg(&self.socket, &mut parts, &mut ancillary, flags);
        let got = match retry_on_intr(receive) {
            Ok(got) => got,
            Err(Errno::CONNRESET) => return Ok(None),
            Err(errno) => return Err(unheard(errno)),
        };
        let descriptors: Vec<_> = ancillary
            .drain()
            .filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
                _ => None,
            })
            .flatten()
            .collect();
        if got.flags.contains(ReturnFlags::CTRUNC) {
            return Err("no descriptor is left for its sockets: raise the limit of open files \
                        (ulimit -n, LimitNOFILE= in systemd)"
                .to_owned());
        }
        match bytes.get(..got.bytes) {
            Some([]) | None => Ok(None),
            Some(bytes) => {
                let (process, message) = Message::parse(bytes)?;
                self.process = process;
                Ok(Some((message, descriptors)))
            }
        }
    }
}

/// The error of a takeover.
fn refused(path: &Path, fault: String) -> Error {
    Error::Takeover { path: path.display().to_string(), fault }
}

fn no_takeover(fault: String) -> String {
    format!("the process that serves does not hand over: {fault}")
}

/// What it means that a message did not get through.
fn unheard(errno: Errno) -> String {
    match errno {
        Errno::AGAIN => format!(
            "it does not answer within {ANSWER_MAX:?}: it hangs, or hands over to another process just \
             now; try again, or stop it first"
        ),
        errno => io::Error::from(errno).to_string(),
    }
}

/// What the kernel said of the path, with what helps against it.
fn bind_cure(error: &io::Error) -> String {
    let cure = match error.kind() {
        io::ErrorKind::AddrInUse => "another process starts there just now: try again",
        io::ErrorKind::NotFound => "the folder does not exist: make it first",
        io::ErrorKind::PermissionDenied => {
            "this user cannot write to the folder: choose another one"
        }
        io::ErrorKind::InvalidInput => {
            "a path has at most 107 bytes and no zero: choose another one"
        }
        _ => return error.to_string(),
    };
    format!("{error}: {cure}")
}

const FOREIGN_USER: &str = "the process there is another user's: run both as the same user, or choose \
                            another path";
/// How long either process waits for the other in each step.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Processes that start at the same time.
const BACKLOG: i32 = 8;
/// Descriptors in a message: the kernel takes 253 at the most (unix(7)).
const DESCRIPTORS_MAX: usize = 64;
/// More than the names of all addresses take.
const MESSAGE_BYTES_MAX: usize = 32 * 1024;

#[cfg(test)]
mod tests;
