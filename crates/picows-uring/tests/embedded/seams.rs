//! Functions of a worker for libraries of other languages: limits of calls, pauses, heads, raw bytes.

use super::*;
use picows_uring::ListenerResult;
use std::os::fd::RawFd;

/// A server that answers the first frame with `count` empty ones, and a connection to it.
fn burst(worker: &Embedded, count: usize) -> (ServerHandle, Transport, Rc<Cell<usize>>) {
    let server = workers(1).start(move |_| {
        Upgrade::accept(on_frame(move |transport, _| {
            assert!((0..count).all(|_| transport.send_text("").is_queued()));
            Ok(())
        }))
    });
    let (server, received) = (server.expect("a server"), Rc::default());
    let transport = connected(worker, address(&server), counting(&received, 0));
    (server, transport, received)
}

#[test]
fn a_call_has_a_limit_of_turns_of_its_own() {
    // More than one turn handles of a connection, and less than sixteen do.
    const BURST: usize = 5000;
    for driver in DRIVERS {
        let worker = worker(driver);
        let (_server, transport, received) = burst(&worker, BURST);
        for (limit, is_busy) in [(Some(1), true), (Some(0), true), (None, false)] {
            received.set(0);
            transport.send_text("begin");
            let mut was_busy = false;
            while received.get() < BURST {
                wait(&worker);
                let turned = limit.map_or_else(|| worker.turn(), |limit| worker.turn_within(limit));
                was_busy |= turned.expect("the ring is there") == Turned::Busy;
            }
            assert_eq!(was_busy, is_busy, "{limit:?}");
        }
    }
}

/// Counts the calls to pause and to resume.
struct Paused {
    pauses: Rc<Cell<usize>>,
    resumes: Rc<Cell<usize>>,
}

impl Listener for Paused {
    fn on_frame(&mut self, _: &Transport, _: &picows_uring::Frame<'_>) -> ListenerResult {
        Ok(())
    }

    fn pause_writing(&mut self, _: &Transport) {
        self.pauses.set(self.pauses.get() + 1);
    }

    fn resume_writing(&mut self, _: &Transport) {
        self.resumes.set(self.resumes.get() + 1);
    }
}

#[test]
fn a_sender_in_a_loop_takes_the_pause_over() {
    for driver in DRIVERS {
        // The server reads nothing while its first callback waits.
        let (release, released) = channel::<()>();
        let released = Arc::new(Mutex::new(released));
        let server = workers(1).start(move |_| {
            let released = Arc::clone(&released);
            Upgrade::accept(on_frame(move |_, _| {
                let _ = released.lock().expect("no callback panics").recv();
                Ok(())
            }))
        });
        let (server, worker) = (server.expect("a server"), worker(driver));
        let (pauses, resumes) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let listener = Paused { pauses: Rc::clone(&pauses), resumes: Rc::clone(&resumes) };
        let transport = connected(&worker, address(&server), listener);
        assert!(!transport.take_pause(), "nothing was sent");
        let payload = noise(3, 64 << 10);
        loop {
            let status = transport.send(MsgType::Binary, &payload);
            assert!(status.is_queued(), "{status:?}");
            worker.flush();
            if transport.take_pause() {
                break;
            }
        }
        assert!(transport.buffered_amount() > 64 << 10, "the socket does not take it");
        assert!(!transport.take_pause(), "it is the caller's already");
        settle(&worker);
        assert_eq!((pauses.get(), resumes.get()), (0, 0));
        drop(release);
        run_until(&worker, || resumes.get() == 1);
        assert_eq!(pauses.get(), 0, "the caller has paused by itself");
    }
}

#[test]
fn the_heads_and_the_listening_sockets_are_there_as_they_are() {
    for driver in DRIVERS {
        let worker = worker(driver);
        let builder = Server::builder().listen("127.0.0.1:0").listen("127.0.0.1:0");
        let listening = worker.listen(builder, |_| Upgrade::accept(EchoListener));
        let listening = listening.expect("ports are free");
        let [first, second]: [RawFd; 2] = listening.descriptors().try_into().expect("two");
        assert!(first >= 0 && second >= 0 && first != second);
        let [ListenAddress::Tcp(address), _] = listening.addresses() else { panic!() };
        let transport = connected(&worker, *address, EchoListener);
        let request = transport.request().expect("it is kept").raw_head();
        assert!(request.starts_with(b"GET / HTTP/1.1\r\n") && request.ends_with(b"\r\n\r\n"));
        let response = transport.response().expect("it was answered").raw_head();
        assert!(response.starts_with(b"HTTP/1.1 101 ") && response.ends_with(b"\r\n\r\n"));
    }
}

#[test]
fn raw_bytes_leave_behind_what_is_queued() {
    for driver in DRIVERS {
        let (events, told) = channel();
        let server = workers(1).start(move |_| Upgrade::accept(recorder(&events, |_, _| Ok(()))));
        let (server, worker) = (server.expect("a server"), worker(driver));
        let transport = connected(&worker, address(&server), EchoListener);
        assert_eq!(next(&told), Event::Connected);
        transport.send_text("a frame");
        // Opcode 4 is reserved.
        picows_uring::internal::write_raw(&transport, &[0x84, 0x80, 0, 0, 0, 0]);
        run_until(&worker, || transport.is_disconnected());
        assert_eq!(next(&told), Event::Frame(MsgType::Text, b"a frame".to_vec()));
        let close = transport.close_handshake().received.expect("the server says why");
        assert_eq!(close.code(), Some(CloseCode::PROTOCOL_ERROR));
    }
}
