//! Paths of Unix sockets: taking one, taking one over from a server that is dead, giving it up.
//!
//! Decides by looking at the object, never by an errno alone, and removes nothing but sockets: a
//! stale one in whose place ours comes, and ours in the end.
//!
//! # Why no server loses its path
//!
//! - *Dead* means that no socket is bound to the inode, which never changes back: each bind(2) makes a
//!   new inode. connect(2) of a stream socket does not show it, as ECONNREFUSED is also what a socket
//!   gives between its bind and its listen. That of a datagram socket does: where a socket of another
//!   type is bound, listening or not, it is EPROTOTYPE, and ECONNREFUSED only where there is none.
//!   Nor does it disturb a server that lives: nothing arrives there.
//! - Paths are no inodes, and may come to mean another one at any moment. So the inode that was found
//!   dead is held open, which keeps its number from being used again; what is at the path is renamed,
//!   and removed only if it is that inode. Else it is renamed back, unless something new is there.
//! - Of two servers that start at the same time and find the same dead socket, the slower would
//!   rename the faster one's new socket away, for a moment. So a server holds a lock of the folder from
//!   its look until it has bound (flock(2), which ends with the process). Where the lock cannot be
//!   had, that moment is the worst that can happen.

use crate::error::shown;
use crate::foreign::log;
use rustix::fs::{CWD, FlockOperation, Mode, OFlags, RenameFlags, flock, open, renameat_with};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use socket2::{SockAddr, Socket};
use std::fs::{File, FileType, Metadata};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// The reason why a path cannot be had.
#[derive(Debug)]
pub(super) enum PathFault {
    /// What the kernel said.
    Io(io::Error),
    /// Something is there that does not go away by itself; what, and the cure.
    Taken(String),
}

impl From<io::Error> for PathFault {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Errno> for PathFault {
    fn from(errno: Errno) -> Self {
        Self::Io(errno.into())
    }
}

/// Binds `socket` to `path`. If that is the socket of a server that is dead, it is replaced.
///
/// # Errors
///
/// `AddrInUse` where a socket lives, and [`PathFault::Taken`] where something else is. Nothing is
/// removed then.
pub(super) fn bind(socket: &Socket, path: &Path) -> Result<SocketPath, PathFault> {
    let address = address_of(path)?;
    let lock = lock_folder_of(path);
    match socket.bind(&address) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            remove_dead(path)?;
            socket.bind(&address)?;
        }
        bound => bound?,
    }
    let (path, identity) = (path.to_owned(), Identity::at(path)?);
    let bound = SocketPath { path, identity, owner: PathOwner::default() };
    drop(lock);
    Ok(bound)
}

/// `path` as an address.
fn address_of(path: &Path) -> Result<SockAddr, PathFault> {
    let bytes = path.as_os_str().as_encoded_bytes();
    if bytes.contains(&0) {
        return Err(PathFault::Taken(
            "a path has no zero bytes, and abstract names are not supported: write \
             unix:/run/picows.sock"
                .to_owned(),
        ));
    }
    if bytes.len() > PATH_BYTES_MAX {
        return Err(PathFault::Taken(format!(
            "the path has {} bytes, and that of a Unix socket at most {PATH_BYTES_MAX}: use a shorter \
             one, such as one relative to the working directory",
            bytes.len()
        )));
    }
    Ok(SockAddr::unix(path)?)
}

/// Removes the socket at `path` if it is dead.
fn remove_dead(path: &Path) -> Result<(), PathFault> {
    // Held open, so that no other file gets its number before it is removed.
    let held = match open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
        Ok(held) => File::from(held),
        // It has just gone.
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(errno.into()),
    };
    let found = held.metadata()?;
    if !found.file_type().is_socket() {
        return Err(PathFault::Taken(format!(
            "{} is there, which is left as it is: choose another path, or remove it",
            name_of(found.file_type())
        )));
    }
    if is_alive(path)? {
        return Err(io::Error::from(io::ErrorKind::AddrInUse).into());
    }
    let removed = remove_if(path, Identity::of(&found));
    drop(held);
    match removed {
        Ok(true) => Ok(()),
        Ok(false) => Err(io::Error::from(io::ErrorKind::AddrInUse).into()),
        Err(error) => Err(error.into()),
    }
}

/// Whether a socket is bound to the inode at `path`, listening or not: see the module.
fn is_alive(path: &Path) -> Result<bool, PathFault> {
    let (family, kind) = (AddressFamily::UNIX, SocketType::DGRAM);
    let probe = socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    match connect(&probe, &SocketAddrUnix::new(path)?) {
        Err(Errno::CONNREFUSED) => Ok(false),
        Err(Errno::ACCESS) => Err(PathFault::Taken(
            "a socket is there to which this user may not connect, so whether its server lives is \
             unknown: choose another path, or remove it"
                .to_owned(),
        )),
        // EPROTOTYPE, as a rule. Whatever else it is: nothing says that it is dead.
        _ => Ok(true),
    }
}

/// Removes what is at `path` if it is `wanted`; `false` if it is something else, which stays.
fn remove_if(path: &Path, wanted: Identity) -> io::Result<bool> {
    if Identity::at(path)? != wanted {
        return Ok(false);
    }
    let aside = aside_of(path);
    std::fs::rename(path, &aside)?;
    if Identity::at(&aside)? == wanted {
        std::fs::remove_file(&aside)?;
        return Ok(true);
    }
    // Exchanged since the look: goes back, unless there is one more by now.
    if let Err(error) = renameat_with(CWD, &aside, CWD, path, RenameFlags::NOREPLACE) {
        let (path, aside) = (path.as_os_str().as_bytes(), aside.as_os_str().as_bytes());
        let (path, aside) = (shown(path), shown(aside));
        log::error!(?path, ?aside, %error, "a path changed while it was looked at");
    }
    Ok(false)
}

/// A name in the folder of `path` that no other thread or process uses.
fn aside_of(path: &Path) -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let (process, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    path.with_file_name(format!(".picows-{process}-{count}.stale"))
}

/// The lock of the folder of `path` as long as the descriptor is open; without a wait, and `None`
/// where it cannot be had.
fn lock_folder_of(path: &Path) -> Option<OwnedFd> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = open(folder.unwrap_or(Path::new(".")), flags, Mode::empty()).ok()?;
    for _ in 0..LOCK_ATTEMPTS {
        match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Some(folder),
            // Another server is at it, for as long as a few system calls take.
            Err(Errno::WOULDBLOCK) => std::thread::sleep(LOCK_PAUSE),
            Err(_) => return None,
        }
    }
    None
}

fn name_of(kind: FileType) -> &'static str {
    if kind.is_dir() {
        "a folder"
    } else if kind.is_symlink() {
        "a symbolic link"
    } else if kind.is_fifo() {
        "a named pipe"
    } else if kind.is_file() {
        "a file that is no socket"
    } else {
        "a device"
    }
}

/// Distinguishes what is at a path from what is there later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) device: u64,
    pub(super) inode: u64,
    /// A number of an inode that is gone may be used again; the time when it was made is another
    /// one. Permissions and owner may change meanwhile, and do not change this.
    pub(super) made: (i64, i64),
}

impl Identity {
    fn at(path: &Path) -> io::Result<Self> {
        Ok(Self::of(&std::fs::symlink_metadata(path)?))
    }

    fn of(metadata: &Metadata) -> Self {
        let made = (metadata.mtime(), metadata.mtime_nsec());
        Self { device: metadata.dev(), inode: metadata.ino(), made }
    }
}

/// The path of a Unix socket that we bound; removed when this is dropped, unless something else is
/// there by then.
#[derive(Debug)]
pub(crate) struct SocketPath {
    path: PathBuf,
    identity: Identity,
    owner: PathOwner,
}

/// Whether this process removes the path of a socket, which another one may come to serve.
#[derive(Clone, Debug, Default)]
pub(crate) struct PathOwner {
    is_other: Arc<AtomicBool>,
}

impl PathOwner {
    /// The path is another process's.
    pub(crate) fn give_up(&self) {
        self.is_other.store(true, Ordering::SeqCst);
    }

    /// The path is this process's.
    pub(super) fn take(&self) {
        self.is_other.store(false, Ordering::SeqCst);
    }
}

impl SocketPath {
    /// A path that another process has bound, and removes until [`PathOwner::take`].
    pub(super) fn of_other(path: PathBuf, identity: Identity) -> Self {
        let owner = PathOwner::default();
        owner.give_up();
        Self { path, identity, owner }
    }

    pub(crate) fn owner(&self) -> &PathOwner {
        &self.owner
    }

    /// The path, whatever the working directory, and what is at it.
    pub(super) fn record(&self) -> (PathBuf, Identity) {
        (absolute(&self.path), self.identity)
    }
}

/// A path that means the same in any working directory.
pub(super) fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

impl Drop for SocketPath {
    fn drop(&mut self) {
        if self.owner.is_other.load(Ordering::SeqCst) {
            return;
        }
        let lock = lock_folder_of(&self.path);
        // If it cannot be removed, the next server finds it dead and does.
        let _ = remove_if(&self.path, self.identity);
        drop(lock);
    }
}

/// `sun_path` with its last zero (unix(7)).
const PATH_BYTES_MAX: usize = 107;
/// Half a second in all: the folder may be locked by a program that has other reasons.
const LOCK_ATTEMPTS: u32 = 100;
const LOCK_PAUSE: std::time::Duration = std::time::Duration::from_millis(5);

#[cfg(test)]
mod tests;
