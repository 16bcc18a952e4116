//! Sockets that go from one process to the next, both of them threads of this one.

use super::super::Copies;
use super::*;
use std::net::TcpListener;
use std::thread;

fn path(test: &str) -> PathBuf {
    std::env::temp_dir().join(format!("picows-{}-{test}", std::process::id()))
}

/// Copies of a listening socket, and its address.
fn listening(count: usize, kind: SocketKind) -> (ListenAddress, OfferedSockets) {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = ListenAddress::Tcp(socket.local_addr().unwrap());
    let sockets = (0..count).map(|_| socket.try_clone().unwrap().into()).collect();
    (address, OfferedSockets::new(Copies { sockets, kind }, None))
}

#[test]
fn all_sockets_of_an_address_arrive_and_each_address_is_taken_once() {
    let path = path("arrive");
    let (first, control) = Takeover::begin(&path).unwrap().finish();
    assert_eq!(first, None);
    let name = |part, number| GroupName { part, number };
    let names = [name(Part::Main, 0), name(Part::Main, 4), name(Part::Admin, 0)];
    // More than go into a message.
    let offered = [
        (2 * DESCRIPTORS_MAX + 1, SocketKind::Named),
        (1, SocketKind::AnyPort),
        (1, SocketKind::AnyPort),
    ]
    .map(|(count, kind)| listening(count, kind));
    let addresses = offered.each_ref().map(|(address, _)| address.clone());
    let old = thread::spawn(move || {
        let mut asker = control.accept().unwrap();
        assert_eq!(asker.hear(), Ok(Some(Heard::Ask)));
        assert_eq!(asker.process(), std::process::id());
        asker.offer(names.into_iter().zip(offered.iter().map(|(_, sockets)| sockets)), &control);
        asker.send(&control).unwrap();
        assert_eq!(asker.time_to_read(), None);
        let heard = asker.hear();
        control.give_up();
        asker.confirm().unwrap();
        assert_eq!(heard, Ok(Some(Heard::Take(vec![names[1], names[0], names[2]]))));
    });
    let mut takeover = Takeover::begin(&path).unwrap();
    let predecessor = takeover.predecessor.as_mut().unwrap();
    let any = ListenAddress::Tcp("127.0.0.1:0".parse().unwrap());
    assert_eq!(predecessor.take(&any, Part::Main).unwrap().address, addresses[1]);
    assert!(predecessor.take(&any, Part::Main).is_none(), "the third is the admin's");
    let taken = predecessor.take(&addresses[0], Part::Main).unwrap();
    assert_eq!(taken.sockets.len(), 2 * DESCRIPTORS_MAX + 1);
    assert!(predecessor.take(&addresses[0], Part::Main).is_none(), "it is taken");
    let other = ListenAddress::Tcp("127.0.0.2:0".parse().unwrap());
    assert!(predecessor.take(&other, Part::Admin).is_none());
    assert_eq!(predecessor.take(&any, Part::Admin).unwrap().address, addresses[2]);
    takeover.commit().unwrap();
    old.join().unwrap();
    assert!(path.exists(), "it is the new process's");
    drop(takeover);
    assert!(!path.exists());
}

#[test]
fn paths_are_the_others_until_it_has_handed_over() {
    let (path, unix) = (path("owner"), path("owner-unix"));
    let (_, control) = Takeover::begin(&path).unwrap().finish();
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    let bound = unix_path::bind(&socket, &unix).unwrap();
    socket.listen(1).unwrap();
    let copies = Copies { sockets: vec![socket.into()], kind: SocketKind::Named };
    let offered = OfferedSockets::new(copies, Some(&bound));
    let name = GroupName { part: Part::Main, number: 0 };
    let address = ListenAddress::Unix(unix.clone());
    let take = |is_committed: bool| {
        thread::scope(|scope| {
            let asking = scope.spawn(|| {
                let mut takeover = Takeover::begin(&path).unwrap();
                let predecessor = takeover.predecessor.as_mut().unwrap();
                let taken = predecessor.take(&address, Part::Main).unwrap();
                if is_committed {
                    takeover.commit().unwrap();
                }
                drop(taken);
            });
            let mut asker = control.accept().unwrap();
            assert_eq!(asker.hear(), Ok(Some(Heard::Ask)));
            asker.offer([(name, &offered)], &control);
            asker.send(&control).unwrap();
            if is_committed {
                assert_eq!(asker.hear(), Ok(Some(Heard::Take(vec![name]))));
                asker.confirm().unwrap();
            }
            asking.join().unwrap();
        });
    };
    take(false);
    assert!(path.exists() && unix.exists(), "it serves on");
    take(true);
    assert!(!path.exists() && !unix.exists());
}

#[test]
fn what_a_process_does_not_read_waits_and_keeps_nothing_else_waiting() {
    let path = path("unread");
    let (_, control) = Takeover::begin(&path).unwrap().finish();
    let mut other = Channel::connect(&path).unwrap().unwrap();
    let mut asker = control.accept().unwrap();
    // Few, as the kernel counts those under way (RLIMIT_NOFILE).
    let (_, offered) = listening(1, SocketKind::Named);
    let name = GroupName { part: Part::Main, number: 0 };
    let mut offers = 0;
    while asker.time_to_read().is_none() {
        asker.offer([(name, &offered)], &control);
        // Returns, whether or not all of it was sent.
        asker.send(&control).unwrap();
        offers += 1;
        assert!(offers < 10_000, "the kernel takes any number");
    }
    // Neither does it wait for a word to arrive.
    asker.refuse("it does not read");
    let mut sockets = [0; 3];
    let mut ends = 0;
    while ends < offers {
        asker.send(&control).unwrap();
        match other.receive().unwrap().unwrap() {
            (Message::Sockets(found, _), descriptors) => {
                assert_eq!(found, name);
                sockets[0] += descriptors.len();
            }
            (Message::Control(_), descriptors) => sockets[1] += descriptors.len(),
            (Message::End, descriptors) => {
                sockets[2] += descriptors.len();
                ends += 1;
            }
            (message, _) => panic!("{message:?}"),
        }
    }
    assert_eq!(sockets, [offers, offers, 0]);
    assert_eq!(asker.time_to_read(), None);
}
