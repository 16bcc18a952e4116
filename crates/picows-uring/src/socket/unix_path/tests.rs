//! Whatever can lie at a path, and whatever can happen to it in between.

use super::*;
use socket2::{Domain, Type};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::sync::{Arc, Barrier};

/// A folder of a test's own, removed with what is in it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("pp-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir(&folder).unwrap();
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.0).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Binds and listens, as a server does.
fn listen(path: &Path) -> Result<(Socket, SocketPath), PathFault> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    let bound = bind(&socket, path)?;
    socket.listen(10).unwrap();
    Ok((socket, bound))
}

fn is_in_use(path: &Path) -> bool {
    let fault = listen(path).map(drop).unwrap_err();
    matches!(fault, PathFault::Io(error) if error.kind() == io::ErrorKind::AddrInUse)
}

fn taken_by(path: &Path) -> String {
    let PathFault::Taken(text) = listen(path).map(drop).unwrap_err() else { panic!("{path:?}") };
    text
}

#[test]
fn what_is_no_socket_is_left_as_it_is() {
    let folder = Folder::new("other");
    let file = folder.path("file");
    std::fs::write(&file, "precious").unwrap();
    assert!(taken_by(&file).starts_with("a file that is no socket is there"));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");

    let empty = folder.path("folder");
    std::fs::create_dir(&empty).unwrap();
    assert!(taken_by(&empty).starts_with("a folder is there"));
    assert!(taken_by(&folder.path("folder/")).starts_with("a folder is there"));
    assert!(empty.is_dir());

    let pipe = folder.path("pipe");
    rustix::fs::mkfifoat(CWD, &pipe, Mode::RUSR | Mode::WUSR).unwrap();
    assert!(taken_by(&pipe).starts_with("a named pipe is there"));
    assert!(taken_by(Path::new("/dev/null")).starts_with("a device is there"));
    assert_eq!(folder.names(), ["file", "folder", "pipe"]);
}

#[test]
fn a_symbolic_link_is_left_as_it_is_wherever_it_leads() {
    let folder = Folder::new("link");
    let (file, dead) = (folder.path("file"), folder.path("dead"));
    std::fs::write(&file, "precious").unwrap();
    drop(UnixListener::bind(&dead).unwrap());
    for (name, target) in [("a", "nowhere"), ("b", "file"), ("c", "dead"), ("d", "."), ("e", "e")] {
        let link = folder.path(name);
        std::os::unix::fs::symlink(target, &link).unwrap();
        assert!(taken_by(&link).starts_with("a symbolic link is there"), "{target}");
        assert_eq!(std::fs::read_link(&link).unwrap(), Path::new(target));
    }
    assert_eq!(folder.names(), ["a", "b", "c", "d", "dead", "e", "file"]);
}

#[test]
fn only_a_socket_that_is_dead_is_replaced() {
    let folder = Folder::new("dead");
    let path = folder.path("s");
    let dead: [fn(&Path); 2] = [
        |path| drop(UnixListener::bind(path).unwrap()),
        |path| drop(UnixDatagram::bind(path).unwrap()),
    ];
    for make in dead {
        make(&path);
        let (_socket, bound) = listen(&path).unwrap();
        UnixStream::connect(&path).unwrap();
        assert!(is_in_use(&path), "now it lives");
        drop(bound);
        assert!(folder.names().is_empty());
    }
    let lives = UnixDatagram::bind(&path).unwrap();
    assert!(is_in_use(&path), "a socket of another type");
    drop(lives);
    assert_eq!(folder.names(), ["s"]);
}

/// connect(2) says of it what it says of one that is dead.
#[test]
fn a_socket_between_its_bind_and_its_listen_is_in_use() {
    let folder = Folder::new("bound");
    let path = folder.path("s");
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    socket.bind(&SockAddr::unix(&path).unwrap()).unwrap();
    let refused = UnixStream::connect(&path).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    assert!(is_in_use(&path));
    socket.listen(1).unwrap();
    UnixStream::connect(&path).unwrap();
}

/// A blocking connect would wait for it.
#[test]
fn a_server_whose_backlog_is_full_is_in_use() {
    let folder = Folder::new("full");
    let path = folder.path("s");
    let server = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    server.bind(&SockAddr::unix(&path).unwrap()).unwrap();
    server.listen(0).unwrap();
    let _first = UnixStream::connect(&path).unwrap();
    assert!(is_in_use(&path));
}

#[test]
fn of_those_who_start_at_the_same_time_one_has_the_path() {
    let folder = Folder::new("race");
    let path = folder.path("s");
    for round in 0..50 {
        if round % 2 == 0 {
            drop(UnixListener::bind(&path).unwrap());
        }
        let (count, barrier) = (4, Arc::new(Barrier::new(4)));
        let threads: Vec<_> = (0..count)
            .map(|_| {
                let (path, barrier) = (path.clone(), Arc::clone(&barrier));
                std::thread::spawn(move || {
                    barrier.wait();
                    listen(&path)
                })
            })
            .collect();
        let outcomes: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        let (won, lost): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
        assert_eq!((won.len(), lost.len()), (1, count - 1), "round {round}: {lost:?}");
        UnixStream::connect(&path).unwrap();
        drop(won);
        assert!(folder.names().is_empty(), "{:?}", folder.names());
    }
}

#[test]
fn what_came_to_a_path_meanwhile_is_not_removed() {
    let folder = Folder::new("swap");
    let path = folder.path("s");
    let before = UnixListener::bind(&path).unwrap();
    let identity = Identity::at(&path).unwrap();
    drop(before);
    std::fs::remove_file(&path).unwrap();
    let _after = UnixListener::bind(&path).unwrap();
    assert!(!remove_if(&path, identity).unwrap());
    UnixStream::connect(&path).unwrap();
    assert_eq!(folder.names(), ["s"]);
}

#[test]
fn in_the_end_only_our_own_socket_is_removed() {
    let folder = Folder::new("end");
    let path = folder.path("s");
    let replace: [fn(&Path); 3] = [
        |path| drop(UnixListener::bind(path).unwrap()),
        |path| std::fs::write(path, "precious").unwrap(),
        |path| std::os::unix::fs::symlink("nowhere", path).unwrap(),
    ];
    for make in replace {
        let (socket, bound) = listen(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        // So that the number of the inode may be used again.
        drop(socket);
        make(&path);
        drop(bound);
        assert_eq!(folder.names(), ["s"]);
        std::fs::remove_file(&path).unwrap();
    }
    // Permissions are the operator's affair.
    let (_socket, bound) = listen(&path).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&path, mode).unwrap();
    drop(bound);
    assert!(folder.names().is_empty());
}

#[test]
fn paths_that_are_none_are_named() {
    let folder = Folder::new("long");
    let long = folder.path(&"x".repeat(120));
    assert!(taken_by(&long).contains("at most 107"), "{}", taken_by(&long));
    assert!(taken_by(Path::new("\0abstract")).contains("abstract names are not supported"));
    let longest = folder.path(&"x".repeat(106 - folder.0.as_os_str().len()));
    assert_eq!(longest.as_os_str().len(), 107);
    drop(UnixListener::bind(&longest).unwrap());
    let (_socket, _bound) = listen(&longest).unwrap();
    UnixStream::connect(&longest).unwrap();
}

/// Root may write anywhere.
#[test]
fn a_folder_that_cannot_be_written_to_is_an_error() {
    if rustix::process::geteuid().is_root() {
        return;
    }
    let folder = Folder::new("closed");
    let path = folder.path("s");
    drop(UnixListener::bind(&path).unwrap());
    let mode = |mode| std::os::unix::fs::PermissionsExt::from_mode(mode);
    std::fs::set_permissions(&folder.0, mode(0o500)).unwrap();
    let fault = listen(&path).map(drop).unwrap_err();
    std::fs::set_permissions(&folder.0, mode(0o700)).unwrap();
    let PathFault::Io(error) = fault else { panic!("{fault:?}") };
    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    assert_eq!(folder.names(), ["s"]);
}
