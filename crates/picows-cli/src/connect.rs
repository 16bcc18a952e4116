//! `picows connect`: a client for people and pipes, in the manner of websocat.
//!
//! The connection lives on this thread; standard input is read by another.

mod backlog;
mod ending;
mod format;
mod input;
mod output;

use crate::auto_ping::AutoPingArgs;
use crate::client::Waiting;
use crate::fault::Fault;
use crate::signals::{self, Interrupted};
use crate::stdio::{self, note};
use crate::units;
use backlog::Backlog;
use format::Format;
use input::Input;
use output::Printer;
use picows_uring::{
    CloseCode, Connect, MsgType, RedirectKeeps, RemoteTransport, Runtime, Transport,
};
use std::io::{BufReader, IsTerminal, stdin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

/// Talk to a server: lines of standard input out as text messages, messages in to standard output
///
/// Each message that arrives is a line of its own. With --binary, standard input is sent as it
/// comes, in pieces of up to 64 KiB, each a binary message, and what arrives is written as it is.
/// At a terminal, control characters of messages are shown escaped, so that a server cannot steer
/// it; to a pipe or a file they go as they came. With --json a line is a message whatever it holds.
///
/// At the end of the input, what was received by then is not all that is to come: CLOSE is sent,
/// and what arrives until the server has answered it is still written. A server that answers
/// in order, as an echo server does, so has answered everything. --linger and --no-close are for
/// others.
///
/// A reader of standard output that is slow slows the server down, and loses nothing. SIGINT,
/// SIGTERM, SIGHUP and SIGQUIT send CLOSE 1001 and end it; a second one ends it at once.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXIT_STATUS)]
pub(crate) struct Args {
    /// The server, such as ws://127.0.0.1:9001/ or ws+unix:/run/picows.sock, with :/PATH behind it
    /// for another path than /
    url: String,

    /// Send and write bytes as they are
    #[arg(short, long)]
    binary: bool,

    /// Write each message as a line of JSON: {"type":"text","text":"..."} or
    /// {"type":"binary","base64":"..."}
    #[arg(long, conflicts_with = "binary")]
    json: bool,

    /// Add a header to the request, such as 'Origin: null'; may be given several
    /// times
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = units::header)]
    headers: Vec<(String, String)>,

    /// Offer a subprotocol; may be given several times, the first choice first
    #[arg(long = "subprotocol", value_name = "NAME")]
    subprotocols: Vec<String>,

    /// What of --header and --subprotocol follows redirects to another origin; without it such a
    /// redirect is an error, if any of them is given
    #[arg(long, value_name = "WHAT")]
    redirect_keeps: Option<Keeps>,

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

/// What follows a redirect to another origin.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Keeps {
    /// Neither headers nor subprotocol offers
    Nothing,
    /// Headers only
    Headers,
    /// Subprotocol offers only
    Subprotocols,
    /// Both: trust every server that this one leads to
    All,
}

impl From<Keeps> for RedirectKeeps {
    fn from(keeps: Keeps) -> Self {
        match keeps {
            Keeps::Nothing => Self::Nothing,
            Keeps::Headers => Self::Headers,
            Keeps::Subprotocols => Self::Subprotocols,
            Keeps::All => Self::HeadersAndSubprotocols,
        }
    }
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
    if let Some(signal) = signals::first() {
        return Err(Interrupted(signal).into());
    }
    failures.try_recv().map_or(Ok(()), Err)?;
    stdio::out().failure().map_or(Ok(()), |error| Err(stdio::cannot_write_out(&error)))?;
    ending::judge(transport.disconnect_cause(), &transport.close_handshake(), args.close_timeout)
}

/// Connects, and has other threads send what is to be sent.
async fn begin(args: &Args, failed: mpsc::Sender<Fault>) -> Result<Transport, Fault> {
    let backlog = Arc::<Backlog>::default();
    let format = Format::new(args.binary, args.json, stdio::out_is_terminal());
    let is_closing = Arc::<AtomicBool>::default();
    let closing = Arc::clone(&is_closing);
    let printer = Printer::new(stdio::out(), format, Arc::clone(&backlog), closing);
    let transport = connector(args).connect(printer).await?;
    let ending = Ending { remote: transport.remote(), is_closing };
    obey_signals(&ending);
    stdio::out().when_failed({
        let ending = ending.clone();
        move || ending.close(CloseCode::GOING_AWAY)
    });
    if stdin().is_terminal() {
        let subprotocol = transport.subprotocol();
        let subprotocol = subprotocol.map_or_else(String::new, |name| format!(", speaking {name}"));
        note(format_args!("connected to {}{subprotocol}; Ctrl-D ends it", args.url));
    }
    if let Some(interval) = args.ping_interval {
        let remote = transport.remote();
        spawn("picows-ping", move || ping(&remote, interval))?;
    }
    let (is_binary, linger) = (args.binary, (!args.no_close).then_some(args.linger));
    spawn("picows-stdin", move || converse(&ending, &backlog, is_binary, linger, &failed))?;
    Ok(transport)
}

/// The way to end the connection from other threads.
#[derive(Clone)]
struct Ending {
    remote: RemoteTransport,
    /// CLOSE is sent: reading is not to be paused any more.
    is_closing: Arc<AtomicBool>,
}

impl Ending {
    /// Sends CLOSE, and reads until it is answered. Harmless when repeated.
    fn close(&self, code: CloseCode) {
        self.is_closing.store(true, Ordering::SeqCst);
        // A connection that has ended needs neither.
        let _ = self.remote.resume_reading();
        let _ = self.remote.send_close(code, "");
    }
}

/// The first signal sends CLOSE, the second ends the process.
fn obey_signals(ending: &Ending) {
    let ending = ending.clone();
    signals::handle(move |_, number| {
        if number > 1 {
            return Duration::ZERO;
        }
        stdio::out().release();
        ending.close(CloseCode::GOING_AWAY);
        STOP_TIMEOUT
    });
}

/// A thread that ends with the connection, or with the process.
fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    thread::Builder::new().name(name.to_owned()).spawn(work).map(drop)
}

fn connector(args: &Args) -> Connect {
    let mut connect = Connect::new(args.url.as_str())
        .max_frame_size(args.max_frame_size)
        .close_timeout(args.close_timeout)
        .validate_text(!args.binary)
        .auto_ping(args.auto_ping.settings());
    for (name, value) in &args.headers {
        connect = connect.header(name, value.as_str());
    }
    for name in &args.subprotocols {
        connect = connect.subprotocol(name);
    }
    if let Some(keeps) = args.redirect_keeps {
        connect = connect.redirect_keeps(keeps.into());
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
    ending: &Ending,
    backlog: &Arc<Backlog>,
    is_binary: bool,
    linger: Option<Duration>,
    failed: &mpsc::Sender<Fault>,
) {
    // A connection that has ended is for the thread it was on to report.
    let send = |msg_type, payload| ending.remote.send(msg_type, backlog.post(payload)).is_ok();
    let input = BufReader::new(stdio::Input(stdin()));
    let outcome = Input::new(send, || backlog.catch_up()).read(input, is_binary);
    match (outcome, linger) {
        (Ok(()), None) => return,
        (Ok(()), Some(linger)) => thread::sleep(linger),
        // Before the connection ends of it.
        (Err(failure), _) => drop(failed.send(failure)),
    }
    ending.close(CloseCode::NORMAL);
}

const EXIT_STATUS: &str = "\
Exit status:
  0      the server closed with 1000, 1001 or no code, whoever was first
  1      the server closed with another code, which is shown with its reason
         the server ended the connection without CLOSE, or did not answer ours
         no connection could be made, or it broke, or a ping was not answered
         the server sent text that is not UTF-8 (it gets CLOSE 1007; --binary
         takes it), a frame that is too large (1009), or no WebSocket (1002)
         standard input could not be read, or standard output not be written
  2      the command line makes no sense
  128+N  signal N ended it: 129 HUP, 130 INT, 131 QUIT, 143 TERM";
/// How long the process may take to end after a signal: for the server's CLOSE, and for what is left
/// to be written.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);
