//! A subscriber that comes back with its position, so that nothing is missing in silence.
//!
//! ```sh
//! picows pubsub --listen 127.0.0.1:9002 --history 1000
//! cargo run --release -p examples --example topic_recovery -- ws://127.0.0.1:9002/topic/news 3
//! ```
//!
//! It speaks the subprotocol `picows.pubsub.1`, in which each message begins with its position. When the
//! connection is lost, `Reconnect` makes the next one with `?from=` the last position: the server first
//! delivers all that was published meanwhile, or says that it is lost. The example cuts its own connection
//! after each message to show that; behind the given number of messages it ends.

#![allow(clippy::print_stdout, reason = "it is what the program is for")]

use picows_uring::topics::Position;
use picows_uring::{
    Backoff, CloseCode, Connect, Frame, Listener, ListenerError, ListenerResult, MsgType,
    Reconnect, Transport, run,
};
use std::cell::Cell;
use std::error::Error;
use std::rc::Rc;
use std::time::Duration;

/// What outlives a connection.
struct Course {
    /// The position of the last message, or of the subscription.
    position: Cell<Option<Position>>,
    left: Cell<u32>,
}

/// The listener of one connection.
struct Subscriber {
    course: Rc<Course>,
    /// The first message says where the subscription begins.
    is_first: bool,
}

impl Subscriber {
    fn begin(&self, text: &str) -> ListenerResult {
        let (_, rest) = text.split_once(r#""position":""#).ok_or("no position in it")?;
        let position: Position = rest.split('"').next().unwrap_or_default().parse()?;
        if text.contains(r#""lost":true"#) {
            // An application gets its state elsewhere now, and goes on from this position.
            println!("lost: begins again at {position}");
            self.course.position.set(Some(position));
        } else if self.course.position.get().is_none() {
            self.course.position.set(Some(position));
        } else {
            // What was missed follows, each message with its position.
            println!("recovers: {text}");
        }
        Ok(())
    }
}

impl Listener for Subscriber {
    fn on_frame(&mut self, transport: &Transport, frame: &Frame<'_>) -> ListenerResult {
        let (position, payload) = match frame.msg_type() {
            MsgType::Text if std::mem::take(&mut self.is_first) => {
                return self.begin(frame.text()?);
            }
            MsgType::Text => {
                let (position, text) = frame.text()?.split_once(' ').ok_or("no position")?;
                (position.parse()?, text.to_owned())
            }
            MsgType::Binary => {
                let (head, payload) = frame.payload().split_at_checked(16).ok_or("too short")?;
                let (epoch, offset) = head.split_at(8);
                let epoch = u64::from_be_bytes(epoch.try_into()?);
                let position = Position { epoch, offset: u64::from_be_bytes(offset.try_into()?) };
                (position, format!("{} bytes", payload.len()))
            }
            _ => return Ok(()),
        };
        println!("{position}: {payload}");
        self.course.position.set(Some(position));
        self.course.left.set(self.course.left.get().saturating_sub(1));
        if self.course.left.get() == 0 {
            // Our own CLOSE: no reason to connect again.
            transport.send_close(CloseCode::NORMAL, "");
            return Ok(());
        }
        Err(ListenerError::close(CloseCode::GOING_AWAY, "cut for show"))
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().unwrap_or_else(|| "ws://127.0.0.1:9002/topic/news".to_owned());
    let count = arguments.next().map_or(Ok(3), |count| count.parse())?;
    let course = Rc::new(Course { position: Cell::new(None), left: Cell::new(count) });
    let known = Rc::clone(&course);
    let connect = move || {
        let url = match known.position.get() {
            Some(position) => format!("{url}?from={position}"),
            None => url.clone(),
        };
        Connect::new(url).subprotocol("picows.pubsub.1")
    };
    let backoff = Backoff::default().initial(Duration::from_millis(10));
    let reconnect = Reconnect::new(connect).backoff(backoff).max_attempts(10);
    let subscriber = || Subscriber { course: Rc::clone(&course), is_first: true };
    run(reconnect.run(subscriber))??;
    Ok(())
}
