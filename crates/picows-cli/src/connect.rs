//! `picows connect`: a client for people and pipes, in the manner of websocat.
//!
//! The connection lives on this thread; standard input is read by another.

mod backlog;
mod input;
mod output;

use crate::auto_ping::AutoPingArgs;
use crate::client::Waiting;
use crate::fault::Fault;
use crate::{note, units};
use backlog::Backlog;
use input::Input;
use output::Printer;
use picows_uring::{
    CloseCode, CloseFrame, Connect, DisconnectCause, MsgType, RemoteTransport, Runtime, Transport,
};
use std::io::{IsTerminal, stdin};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

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
    let runtime = Runtime::builder().busy_poll(args.waiting.busy_poll).build()?;
    let (failed, failures) = mpsc::channel();
    let begun = begin(&args, failed);
    let transport = if args.waiting.dedicated {
        runtime.run_dedicated(begun)??
    } else {
        runtime.block_on(async {
            let transport = begun.await?;
            // Its end is judged below.
            let _ = transport.wait_disconnected().await;
            Ok::<_, Fault>(transport)
        })??
    };
    failures.try_recv().map_or_else(|_| judge(&transport), Err)
}

/// Connects, and has other threads send what is to be sent.
async fn begin(args: &Args, failed: mpsc::Sender<Fault>) -> Result<Transport, Fault> {
    let backlog = Arc::<Backlog>::default();
    let printer = Printer::new(std::io::stdout(), args.binary, Arc::clone(&backlog));
    let transport = connector(args).connect(printer).await?;
    if stdin().is_terminal() {
        let subprotocol = transport.subprotocol();
        let subprotocol = subprotocol.map_or_else(String::new, |name| format!(", speaking {name}"));
        note(format_args!("connected to {}{subprotocol}; Ctrl-D ends it", args.url));
    }
    if let Some(interval) = args.ping_interval {
        let remote = transport.remote();
        spawn("picows-ping", move || ping(&remote, interval))?;
    }
    let remote = transport.remote();
    let (is_binary, linger) = (args.binary, (!args.no_close).then_some(args.linger));
    spawn("picows-stdin", move || converse(&remote, &backlog, is_binary, linger, &failed))?;
    Ok(transport)
}

/// A thread that ends with the connection, or with the process.
fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    thread::Builder::new().name(name.to_owned()).spawn(work).map(drop)
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

fn ping(remote: &RemoteTransport, interval: Duration) {
    loop {
        thread::sleep(interval);
        if remote.send(MsgType::Ping, "").is_err() {
            return;
        }
    }
}

/// Sends standard input, and CLOSE after it, `linger` later if at all.
fn converse(
    remote: &RemoteTransport,
    backlog: &Arc<Backlog>,
    is_binary: bool,
    linger: Option<Duration>,
    failed: &mpsc::Sender<Fault>,
) {
    // A connection that has ended is for the thread it was on to tell.
    let send = |msg_type, payload| remote.send(msg_type, backlog.post(payload)).is_ok();
    let outcome = Input::new(send, || backlog.catch_up()).read(stdin().lock(), is_binary);
    match (outcome, linger) {
        (Ok(()), None) => return,
        (Ok(()), Some(linger)) => thread::sleep(linger),
        // Before the connection ends of it.
        (Err(failure), _) => drop(failed.send(failure)),
    }
    let _ = remote.send_close(CloseCode::NORMAL, "");
}

/// What an end of the connection means for the exit status.
fn judge(transport: &Transport) -> Result<(), Fault> {
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
