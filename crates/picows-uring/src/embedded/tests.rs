//! An embedded worker that loses its ring, on the real kernel.

use super::*;
use crate::client::ConnectFault;
use crate::listener::EchoListener;
use crate::ring::uring::tests::lose_ring;
use std::cell::RefCell;
use std::net::{TcpListener, TcpStream};

#[test]
fn a_worker_that_loses_its_ring_ends_its_connections_and_stays_lost() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let worker = Embedded::builder().driver(Driver::IoUring).build().unwrap();
    let outcomes = Rc::new(RefCell::new(Vec::new()));
    let begin = || {
        let socket = TcpStream::connect(address).unwrap();
        let seen = Rc::clone(&outcomes);
        let outcome = move |result| seen.borrow_mut().push(result);
        worker.connect(Connect::new("ws://a/").socket(socket), |_: &_, _: &_| EchoListener, outcome)
    };
    let _attempt = begin().unwrap();
    assert_eq!(worker.turn().unwrap(), Turned::Idle);
    lose_ring();
    for _ in 0..2 {
        let error = worker.turn().unwrap_err();
        assert!(matches!(error, Error::Worker { .. }), "{error}");
        assert!(error.to_string().contains("its ring is lost"), "{error}");
    }
    let outcome = outcomes.borrow_mut().pop().unwrap().unwrap_err();
    assert!(matches!(outcome.fault(), ConnectFault::Disconnected(None)), "{outcome}");
    worker.flush();
    let refused = begin().unwrap_err();
    assert!(matches!(refused.fault(), ConnectFault::NoRuntime), "{refused}");
    assert!(outcomes.borrow().is_empty());
    assert_eq!(worker.stats().connections, 0);
    drop(worker);
    assert!(!crate::local::has_worker(), "there is room for another");
}
