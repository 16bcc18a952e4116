//! `picows connect`: a client for people and pipes, in the manner of websocat.
//!
//! The loop and its connection live on this thread; standard input is read by another.

mod input;
mod output;

use crate::auto_ping::AutoPingArgs;
use crate::client::Waiting;
use crate::fault::Fault;
use crate::{note, units};
use input::Input;
use output::Printer;
use picows_uring::{
    CloseCode, CloseFrame, Connect, DisconnectCause, RemoteTransport, Runtime, Transport,
};
use std::cell::RefCell;
use std::io::{IsTerminal, stdin};
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};

/// Talk to a server: lines of standard input out as text messages, messages in to standard output
///
/// Each message that arrives is a line of its own. With --binary, standard input is sent as it
/// comes, in pieces of up to 64 KiB, each a binary message, and what arrives is written as it is.
///
/// At the end of the input, what was received by then is not all that is to come: CLOSE is sent,
/// and what arrives until the server has answered it is still written. A server that answers
/// in order, as an echo server does, so has answered everything. --linger and --no-close are for
/// others.
///
/// Exit status: 0 after a close handshake, 1 if there was no connection, if it broke, or if the
/// server closed it with a code other than 1000 or 1001, 2 if the command line makes no sense.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The server, such as ws://127.0.0.1:9001/
    url: String,

    /// Send and write bytes as they are
    #[arg(short, long)]
    binary: bool,

    /// Add a header to the request, such as 'Origin: null'; may be given several
    /// times
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = units::header)]
    headers: Vec<(String, String)>,

    /// Offer a subprotocol; may be given several times, the first choice first
    #[arg(long = "subprotocol", value_name = "NAME")]
    subprotocols: Vec<String>,

    /// Send PING this often, whatever comes of it; see --auto-ping for finding out that the server is
    /// gone
    #[arg(long, value_name = "DURATION", value_parser = units::positive_duration)]
    ping_interval: Option<Duration>,

    /// Do not send CLOSE at the end of the input: go on until the server does
    #[arg(short, long)]
    no_close: bool,

    /// Wait this long after the end of the input before CLOSE is sent
    #[arg(long, value_name = "DURATION", value_parser = units::duration, default_value = "0",
          conflicts_with = "no_close")]
    linger: Duration,

    /// How long the server may take to answer CLOSE
    #[arg(long, value_name = "DURATION", value_parser = units::positive_duration,
          default_value = "5s")]
    close_timeout: Duration,

    /// Largest frame to accept, such as 64KiB
    #[arg(long, value_name = "BYTES", value_parser = units::size, default_value = "64MiB")]
    max_frame_size: u64,

    #[command(flatten)]
    auto_ping: AutoPingArgs,

    #[command(flatten)]
    waiting: Waiting,
}

/// Runs until the connection ends.
pub(crate) fn run(args: Args) -> Result<(), Fault> {
    let runtime = Runtime::builder().busy_poll(args.waiting.busy_poll()?).build()?;
    runtime.block_on(converse(args))?
}

async fn converse(args: Args) -> Result<(), Fault> {
    let printer = Rc::new(RefCell::new(Printer::new(std::io::stdout(), args.binary)));
    let congestion = Rc::clone(&printer.borrow().congestion);
    let transport = connector(&args).connect(printer).await?;
    let is_terminal = stdin().is_terminal();
    if is_terminal {
        let subprotocol = transport.subprotocol();
        let subprotocol = subprotocol.map_or_else(String::new, |name| format!(", speaking {name}"));
        note(format_args!("connected to {}{subprotocol}; Ctrl-D ends it", args.url));
    }
    if let Some(interval) = args.ping_interval {
        picows_uring::spawn(ping(transport.clone(), interval))?;
    }
    let (pauses, mut paused) = mpsc::unbounded_channel::<oneshot::Sender<()>>();
    picows_uring::spawn(async move {
        while let Some(resume) = paused.recv().await {
            // Lets the worker take what was posted.
            tokio::task::yield_now().await;
            congestion.over().await;
            let _ = resume.send(());
        }
    })?;
    let end_of_input = read_input(transport.remote(), args.binary, pauses)?;
    let failure = tokio::select! {
        outcome = transport.wait_disconnected() => return judge(&transport, outcome),
        ended = end_of_input => ended?.err(),
    };
    if failure.is_none() && !args.no_close {
        tokio::select! {
            outcome = transport.wait_disconnected() => return judge(&transport, outcome),
            () = sleep(args.linger) => {}
        }
    }
    if failure.is_some() || !args.no_close {
        // The way that the messages took, so that it stays behind them. A connection that has ended
        // needs none.
        let _ = transport.remote().send_close(CloseCode::NORMAL, "");
    }
    let outcome = transport.wait_disconnected().await;
    match failure {
        Some(failure) => Err(failure),
        None => judge(&transport, outcome),
    }
}

fn connector(args: &Args) -> Connect {
    let mut connect = Connect::new(args.url.as_str())
        .max_frame_size(args.max_frame_size)
        .close_timeout(args.close_timeout)
        .auto_ping(args.auto_ping.settings());
    for (name, value) in &args.headers {
        connect = connect.header(name, value.as_str());
    }
    for name in &args.subprotocols {
        connect = connect.subprotocol(name);
    }
    connect
}

async fn ping(transport: Transport, interval: Duration) {
    let mut ticks = interval_at(Instant::now() + interval, interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !transport.is_disconnected() {
        ticks.tick().await;
        transport.send_ping(b"");
    }
}

/// Reads standard input in a thread that ends with it, or with the process.
fn read_input(
    remote: RemoteTransport,
    is_binary: bool,
    pauses: mpsc::UnboundedSender<oneshot::Sender<()>>,
) -> std::io::Result<oneshot::Receiver<Result<(), Fault>>> {
    let (teller, end) = oneshot::channel();
    std::thread::Builder::new().name("picows-stdin".to_owned()).spawn(move || {
        let catch_up = || {
            let (resume, resumed) = oneshot::channel();
            // Either fails when the loop is over, and then there is nothing to wait for.
            let _ = pauses.send(resume).is_ok() && resumed.blocking_recv().is_ok();
        };
        // A connection that has ended is the loop's to tell.
        let send = |msg_type, payload: Vec<u8>| remote.send(msg_type, payload).is_ok();
        let outcome = Input::new(send, catch_up).read(stdin().lock(), is_binary);
        let _ = teller.send(outcome);
    })?;
    Ok(end)
}

/// What an end of the connection means for the exit status.
fn judge(transport: &Transport, outcome: Result<(), DisconnectCause>) -> Result<(), Fault> {
    outcome?;
    match transport.disconnect_cause() {
        None => Ok(()),
        Some(DisconnectCause::Closed) => {
            let close = transport.close_handshake();
            let received = close.received.filter(|_| close.received_first);
            let code = received.as_ref().and_then(CloseFrame::code);
            match (code, received) {
                (Some(code), Some(frame)) if !is_regular(code) => {
                    let reason = frame.reason();
                    let reason =
                        if reason.is_empty() { String::new() } else { format!(" {reason:?}") };
                    Err(format!("the server closed the connection with {code}{reason}").into())
                }
                _ => Ok(()),
            }
        }
        Some(cause) => Err(cause.into()),
    }
}

fn is_regular(code: CloseCode) -> bool {
    matches!(code, CloseCode::NORMAL | CloseCode::GOING_AWAY)
}
