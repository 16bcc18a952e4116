//! A connection in a loop of mio, which watches descriptors by edge.
//!
//! cargo run --release -p examples --example own_loop_mio -- ws://127.0.0.1:9001/ 10

#![allow(clippy::print_stdout, reason = "it is what the program is for")]

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use picows_uring::{
    CloseCode, Connect, Embedded, Frame, Listener, ListenerResult, MsgType, Stopper, Transport,
    Turned,
};
use std::cell::RefCell;
use std::error::Error;
use std::net::TcpStream;
use std::os::fd::{AsFd, AsRawFd};
use std::rc::Rc;
use std::time::Duration;

/// Sends numbered messages, each when the one before has come back.
struct Count {
    sent: usize,
    count: usize,
    stopper: Stopper,
}

impl Count {
    fn send_next(&mut self, transport: &Transport) {
        if self.sent == self.count {
            transport.send_close(CloseCode::NORMAL, "");
        } else {
            transport.send_text(format!("message {}", self.sent));
            self.sent += 1;
        }
    }
}

impl Listener for Count {
    fn on_connected(&mut self, transport: &Transport) -> ListenerResult {
        self.send_next(transport);
        Ok(())
    }

    fn on_frame(&mut self, transport: &Transport, frame: &Frame<'_>) -> ListenerResult {
        if frame.msg_type() == MsgType::Text {
            println!("{}", frame.text()?);
            self.send_next(transport);
        }
        Ok(())
    }

    fn on_disconnected(&mut self, _: &Transport) {
        // Ends the loop below.
        self.stopper.stop();
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().unwrap_or_else(|| "ws://127.0.0.1:9001/".to_owned());
    let count = arguments.next().map_or(Ok(10), |count| count.parse())?;
    // Dialling is the program's, which has a loop for it; here it may block.
    let address = url.trim_start_matches("ws://").split('/').next().unwrap_or_default();
    let socket = TcpStream::connect(address)?;

    let worker = Embedded::builder().build()?;
    let failure = Rc::new(RefCell::new(None));
    let (stopper, seen) = (worker.stopper(), Rc::clone(&failure));
    worker.connect(
        Connect::new(&url).socket(socket),
        {
            let stopper = stopper.clone();
            move |_, _| Count { sent: 0, count, stopper }
        },
        move |outcome| {
            if let Err(error) = outcome {
                *seen.borrow_mut() = Some(error);
                stopper.stop();
            }
        },
    )?;

    let (mut poll, mut events) = (Poll::new()?, Events::with_capacity(16));
    let descriptor = worker.as_fd().as_raw_fd();
    poll.registry().register(&mut SourceFd(&descriptor), WORKER, Interest::READABLE)?;
    let mut turned = worker.turn()?;
    while turned != Turned::Done {
        let wait = (turned == Turned::Busy).then_some(Duration::ZERO);
        poll.poll(&mut events, wait)?;
        // Events of other tokens are the program's own.
        turned = worker.turn()?;
    }
    failure.take().map_or(Ok(()), |error| Err(error.into()))
}

const WORKER: Token = Token(0);
