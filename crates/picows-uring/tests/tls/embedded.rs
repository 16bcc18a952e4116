//! TLS of a worker in a loop of the application, as server and as client at once; on both drivers.

use super::certificates::Certificates;
use super::common::{PATIENCE, noise};
use picows_uring::{
    Connect, ConnectFault, Driver, EchoListener, Embedded, Frame, ListenAddress, Listener,
    ListenerResult, MsgType, Server, Transport, Turned, Upgrade,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::cell::{Cell, RefCell};
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;

/// Waits and takes turns until something holds.
#[track_caller]
fn run_until(worker: &Embedded, holds: impl Fn() -> bool) {
    let patience = Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
    let mut turned = worker.turn().expect("the ring is there");
    while !holds() {
        if turned == Turned::Idle {
            let ready = poll(&mut [PollFd::new(worker, PollFlags::IN)], Some(&patience));
            assert_eq!(ready.expect("no signal"), 1, "a wake-up was lost");
        }
        turned = worker.turn().expect("the ring is there");
    }
}

fn address(listening: &picows_uring::Listening) -> SocketAddr {
    match listening.addresses()[0] {
        ListenAddress::Tls(address) => address,
        ref other => panic!("{other:?}"),
    }
}

/// Counts echoes that are as they were sent.
struct Client {
    payload: Vec<u8>,
    echoes: Rc<Cell<usize>>,
}

impl Listener for Client {
    fn on_connected(&mut self, transport: &Transport) -> ListenerResult {
        assert!(transport.tls_info().is_some());
        transport.send(MsgType::Binary, &self.payload);
        Ok(())
    }

    fn on_frame(&mut self, transport: &Transport, frame: &Frame<'_>) -> ListenerResult {
        if frame.msg_type() == MsgType::Binary {
            assert!(frame.payload() == self.payload, "an echo");
            self.echoes.set(self.echoes.get() + 1);
            transport.disconnect();
        }
        Ok(())
    }
}

#[test]
fn an_embedded_worker_speaks_tls_both_ways() {
    for driver in [Driver::IoUring, Driver::Epoll] {
        let certificates = Certificates::new();
        let worker = Embedded::builder().driver(driver).build().expect("the driver is there");
        let builder = Server::builder().listen("127.0.0.1:0").tls(certificates.server());
        let listening =
            worker.listen(builder, |_| Upgrade::accept(EchoListener)).expect("it listens");
        let (echoes, ended) = (Rc::new(Cell::new(0)), Rc::new(RefCell::new(Vec::new())));
        let tls = certificates.client();
        for size in [0, 100, 20_000, 300_000] {
            let socket = TcpStream::connect(address(&listening)).expect("it accepts");
            let connect = Connect::new("wss://localhost/").socket(socket).tls(&tls);
            let listener = Client { payload: noise(size, size as usize), echoes: echoes.clone() };
            let ended = ended.clone();
            let outcome = move |outcome: Result<Transport, _>| ended.borrow_mut().push(outcome);
            drop(worker.connect(connect, |_, _| listener, outcome).expect("an attempt"));
        }
        run_until(&worker, || echoes.get() == 4);
        run_until(&worker, || worker.stats().disconnected == 8);
        assert!(ended.borrow().iter().all(Result::is_ok));
        // Another authority: the attempt ends, and the worker goes on.
        let strangers = Certificates::new().client();
        let socket = TcpStream::connect(address(&listening)).expect("it accepts");
        let connect = Connect::new("wss://localhost/").socket(socket).tls(&strangers);
        let (report, fault) = (Rc::new(RefCell::new(None)), |_: &_, _: &_| EchoListener);
        let reported = report.clone();
        let outcome = move |outcome| drop(report.replace(Some(outcome)));
        let attempt = worker.connect(connect, fault, outcome).expect("an attempt");
        run_until(&worker, || reported.borrow().is_some());
        drop(attempt);
        let error = reported.take().expect("an outcome").expect_err("no such root");
        assert!(matches!(error.fault(), ConnectFault::Tls(_)), "{error:?}");
    }
}
