//! An echo server on tokio, written by hand over our own protocol crate.
//!
//! Separates the gain of the ring from that of the protocol crate: this has only the latter.

use benches::by_hand::{Conversation, Local, write};
use peers::{Fault, Hub};
use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, Interest, ReadBuf};
use tokio::net::TcpStream;

thread_local! {
    /// Used between two waits only, so that one is enough for all tasks of the thread.
    static SHARED: RefCell<Local> = RefCell::new(Local::new(false));
    /// Those of all tasks: they stay on this thread, and tokio wants tasks that could leave it.
    static CONVERSATIONS: RefCell<Vec<Option<Conversation>>> = const { RefCell::new(Vec::new()) };
    static FREE_SEATS: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// The place of a task's conversation.
struct Seat(usize);

impl Seat {
    fn take() -> Self {
        CONVERSATIONS.with_borrow_mut(|all| {
            let seat = FREE_SEATS.with_borrow_mut(Vec::pop).unwrap_or_else(|| {
                all.push(None);
                all.len() - 1
            });
            all[seat] = Some(Conversation::default());
            Self(seat)
        })
    }

    fn with<T>(&self, f: impl FnOnce(&mut Conversation) -> T) -> T {
        CONVERSATIONS.with_borrow_mut(|all| f(all[self.0].as_mut().expect("taken until dropped")))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        CONVERSATIONS.with_borrow_mut(|all| all[self.0] = None);
        FREE_SEATS.with_borrow_mut(|free| free.push(self.0));
    }
}

fn main() -> Result<(), Fault> {
    peers::run(|stream, hub: Option<Hub<()>>| async move {
        if hub.is_some() {
            return Err("--fan-out: this server only echoes".into());
        }
        echo(stream).await
    })
}

async fn echo(mut stream: TcpStream) -> Result<(), Fault> {
    let seat = Seat::take();
    loop {
        let answered = poll_fn(|context| {
            SHARED.with_borrow_mut(|shared| {
                seat.with(|conversation| {
                    read_and_answer(&mut stream, conversation, shared, context)
                })
            })
        });
        match answered.await? {
            Answered::All => {}
            Answered::Part(rest) => send(&mut stream, &rest).await?,
            Answered::EndOfStream => return Ok(()),
        }
        if seat.with(|conversation| conversation.is_ending()) {
            return Ok(());
        }
    }
}

enum Answered {
    All,
    /// The socket would not take this.
    Part(Vec<u8>),
    EndOfStream,
}

/// One read, and one write of everything that it brought about.
///
/// Polled, as tokio then takes a read that leaves room in the buffer for the last there is, and does
/// not read again to be told so.
fn read_and_answer(
    stream: &mut TcpStream,
    conversation: &mut Conversation,
    shared: &mut Local,
    context: &mut Context<'_>,
) -> Poll<io::Result<Answered>> {
    let mut input = ReadBuf::new(&mut shared.input);
    ready!(Pin::new(&mut *stream).poll_read(context, &mut input))?;
    let len = input.filled().len();
    if len == 0 {
        return Poll::Ready(Ok(Answered::EndOfStream));
    }
    conversation.receive(shared, len);
    let taken = write(&mut Unready(stream), &shared.out);
    let rest = taken.map(|taken| shared.out[taken..].to_vec());
    // Also when the connection broke: what is left would go to another one.
    shared.out.clear();
    Poll::Ready(rest.map(|rest| if rest.is_empty() { Answered::All } else { Answered::Part(rest) }))
}

async fn send(stream: &mut TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.ready(Interest::WRITABLE).await?;
        bytes = &bytes[write(&mut Unready(stream), bytes)?..];
    }
    Ok(())
}

/// Writes without waiting.
struct Unready<'a>(&'a TcpStream);

impl io::Write for Unready<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
