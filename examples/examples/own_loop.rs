//! A connection in a loop of one's own, which is `poll` and a few lines.
//!
//! cargo run --release -p examples --example own_loop -- ws://127.0.0.1:9001/ 10
//!
//! own_loop_mio and own_loop_calloop are the same with these loops.

#![allow(clippy::print_stdout, reason = "it is what the program is for")]

use picows_uring::{
    CloseCode, Connect, Embedded, Frame, Listener, ListenerResult, MsgType, Stopper, Transport,
    Turned,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::cell::RefCell;
use std::error::Error;
use std::net::TcpStream;
use std::rc::Rc;

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

    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    let mut turned = worker.turn()?;
    while turned != Turned::Done {
        let wait = (turned == Turned::Busy).then_some(&at_once);
        // Beside it, whatever else the program waits for.
        poll(&mut [PollFd::new(&worker, PollFlags::IN)], wait)?;
        turned = worker.turn()?;
    }
    failure.take().map_or(Ok(()), |error| Err(error.into()))
}
