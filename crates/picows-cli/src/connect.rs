//! `picows connect`: a client for people and pipes, in the manner of websocat.
//!
//! The connection lives on this thread; standard input is read by another.

mod backlog;
mod ending;
mod examples;
mod format;
mod input;
mod output;

use crate::auto_ping::AutoPingArgs;
use crate::client::LoopFlags;
use crate::deflate::DeflateArgs;
use crate::fault::Fault;
use crate::proxy::{ProxyFlag, ProxyTlsFlags};
use crate::signals::{self, Interrupted};
use crate::stdio::{self, Lines, note};
use crate::{tls, units};
use backlog::Backlog;
use examples::EXAMPLES;
use format::Format;
use input::Input;
use output::Printer;
use picows_uring::{CloseCode, Connect, MsgType, Proxy, RedirectKeeps, RemoteTransport, Transport};
use std::io::{BufReader, Read, stdin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

/// Talk to a server: lines of standard input out as text messages, messages in to standard output
///
/// Each received message is a line of its own. With --binary, standard input is sent in pieces of
/// up to 64 KiB, each a binary message, and received messages are written unchanged, without line
/// ends. At a terminal, control characters of messages are shown escaped, so that a server cannot
/// control it; to a pipe or a file they are written unchanged. With --json each message is one
/// line, whatever it contains.
///
/// At a terminal lines are edited, with the keys of shells and a history (up and down) that ends with the command;
/// messages appear above the line. TERM=dumb leaves that to the terminal.
///
/// At the end of the input CLOSE is sent, and messages are written until the server has answered
/// it. A server that answers in order, as an echo server does, has answered everything by then. For
/// other servers there are --linger and --no-close.
///
/// A slow reader of standard output slows the server down, and loses nothing. SIGINT, SIGTERM,
/// SIGHUP and SIGQUIT send CLOSE 1001 and end the command; a second signal ends it at once.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
    /// The server, such as ws://127.0.0.1:9001/, wss://example.com/ or ws+unix:/run/picows.sock, with :/PATH behind it
    /// for another path than /
    url: String,

    /// Send standard input, and write messages, as bytes without line ends
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

    /// Which of --header and --subprotocol a redirect to another origin keeps; without it such a
    /// redirect is an error if either is given
    #[arg(long, value_name = "WHAT")]
    redirect_keeps: Option<Keeps>,

    /// Send PING at this interval, whether or not it is answered; --auto-ping detects a server that
    /// has disappeared
    #[arg(long, value_name = "DURATION", value_parser = units::positive_duration)]
    ping_interval: Option<Duration>,

    /// Do not send CLOSE at the end of the input: wait until the server closes
    #[arg(short, long)]
    no_close: bool,

    /// Wait this long after the end of the input before CLOSE is sent
    #[arg(long, value_name = "DURATION", value_parser = units::duration, default_value = "0",
          conflicts_with = "no_close")]
    linger: Duration,

    /// Write this many messages, then send CLOSE and end. The end of the input sends CLOSE as well, unless there is
    /// --no-close
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_messages: Option<u32>,

    /// Send one message, the first of the input if there is any, and write one: a question and its answer. The end of
    /// the input does not send CLOSE
    #[arg(short = '1', long, conflicts_with_all = ["max_messages", "linger"])]
    one_message: bool,

    /// Exit status if the server closes with this code, such as 4401=10; 0 without a status. 1005 is CLOSE
    /// without a code. May be given several times
    #[arg(long, value_name = "CODE[=STATUS]", value_parser = ending::exit_on)]
    exit_on_close_code: Vec<ending::ExitOn>,

    /// Longest time for the server to answer CLOSE
    #[arg(long, value_name = "DURATION", value_parser = units::positive_duration,
          default_value = "5s")]
    close_timeout: Duration,

    /// Largest frame to accept, such as 64KiB
    #[arg(long, value_name = "BYTES", value_parser = units::size, default_value = "64MiB")]
    max_frame_size: u64,

    #[command(flatten)]
    deflate: DeflateArgs,

    #[command(flatten)]
    auto_ping: AutoPingArgs,

    /// Connect through a proxy: `http://[USER:PASSWORD@]HOST[:PORT]`, or https, socks5h, socks5,
    /// socks4a or socks4; `env` takes the one that https_proxy and its kin name, `none` connects directly
    #[arg(long, value_name = "URL|env|none", default_value = "env")]
    proxy: ProxyFlag,

    #[command(flatten)]
    proxy_tls: ProxyTlsFlags,

    #[command(flatten)]
    event_loop: LoopFlags,
}

/// Options that a redirect to another origin keeps.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Keeps {
    /// Neither headers nor subprotocol offers
    Nothing,
    /// Headers only
    Headers,
    /// Subprotocol offers only
    Subprotocols,
    /// Both: trusts every server that this one redirects to
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
    let _terminal = TerminalGuard;
    let runtime = args.event_loop.driver.of_loop().busy_poll(args.event_loop.busy_poll).build()?;
    let (failed, failures) = mpsc::channel();
    let tls = args.event_loop.tls.settings()?;
    let begun = begin(&args, args.proxy.proxy(&args.proxy_tls)?, tls, failed);
    let transport = if args.event_loop.dedicated {
        runtime.run_dedicated(begun)??
    } else {
        runtime.block_on(async {
            let transport = begun.await?;
            // The cause of the end is judged below.
            let _ = transport.wait_disconnected().await;
            Ok::<_, Fault>(transport)
        })??
    };
    if let Some(signal) = signals::first() {
        return Err(Interrupted(signal).into());
    }
    failures.try_recv().map_or(Ok(()), Err)?;
    stdio::out().failure().map_or(Ok(()), |error| Err(stdio::cannot_write_out(&error)))?;
    let (cause, close) = (transport.disconnect_cause(), transport.close_handshake());
    ending::judge(cause, &close, args.close_timeout, &args.exit_on_close_code)
}

/// Gives the terminal back at the end, before anything else is printed.
struct TerminalGuard;

impl Drop for TerminalGuard {
    fn drop(&mut self) {
        stdio::end_editor();
    }
}

/// Connects, and starts the threads that send.
async fn begin(
    args: &Args,
    proxy: Option<Proxy>,
    tls: Option<tls::ClientSettings>,
    failed: mpsc::Sender<Fault>,
) -> Result<Transport, Fault> {
    let backlog = Arc::<Backlog>::default();
    let format = Format::new(args.binary, args.json, stdio::out_is_terminal());
    let is_closing = Arc::<AtomicBool>::default();
    let closing = Arc::clone(&is_closing);
    let printer = Printer::new(stdio::out(), format, Arc::clone(&backlog), closing);
    let printer = printer.at_most(args.max_messages());
    let transport = tls::of_client(connector(args, proxy), tls.as_ref()).connect(printer).await?;
    let ending = Ending { remote: transport.remote(), is_closing };
    handle_signals(&ending);
    stdio::out().when_failed({
        let ending = ending.clone();
        move || ending.close(CloseCode::GOING_AWAY)
    });
    if stdio::in_is_terminal() {
        let subprotocol = transport.subprotocol();
        let subprotocol = subprotocol.map_or_else(String::new, |name| format!(", speaking {name}"));
        note(format_args!("connected to {}{subprotocol}; Ctrl-D ends it", args.url));
    }
    if let Some(interval) = args.ping_interval {
        let remote = transport.remote();
        spawn("picows-ping", move || ping(&remote, interval))?;
    }
    let plan = InputPlan {
        is_binary: args.binary,
        linger: (!args.no_close && !args.one_message).then_some(args.linger),
        max_messages: args.one_message.then_some(1),
    };
    let lines = if args.binary { None } else { edited_lines() };
    spawn("picows-stdin", move || send_input(lines, &ending, &backlog, &plan, &failed))?;
    Ok(transport)
}

/// What is sent of standard input, and what comes at its end.
struct InputPlan {
    is_binary: bool,
    /// Wait before CLOSE at the end; `None` sends none.
    linger: Option<Duration>,
    max_messages: Option<u64>,
}

impl Args {
    /// Messages to be written.
    fn max_messages(&self) -> Option<u64> {
        if self.one_message { Some(1) } else { self.max_messages.map(u64::from) }
    }
}

/// Handle by which other threads end the connection.
#[derive(Clone)]
struct Ending {
    remote: RemoteTransport,
    /// CLOSE is sent: from now on reading is not paused.
    is_closing: Arc<AtomicBool>,
}

impl Ending {
    /// Sends CLOSE, and keeps reading until it is answered. Harmless when repeated.
    fn close(&self, code: CloseCode) {
        self.is_closing.store(true, Ordering::SeqCst);
        // Both fail only when the connection has ended.
        let _ = self.remote.resume_reading();
        let _ = self.remote.send_close(code, "");
    }
}

/// Registers the signal handler: the first signal sends CLOSE, the second ends the process.
fn handle_signals(ending: &Ending) {
    let ending = ending.clone();
    signals::handle(move |_, number| {
        // Whatever ends the process, the terminal is as it was.
        stdio::end_editor();
        if number > 1 {
            return Duration::ZERO;
        }
        stdio::out().release();
        ending.close(CloseCode::GOING_AWAY);
        STOP_TIMEOUT
    });
}

/// Starts a thread that ends with the connection, or with the process.
fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    thread::Builder::new().name(name.to_owned()).spawn(work).map(drop)
}

fn connector(args: &Args, proxy: Option<Proxy>) -> Connect {
    let mut connect = Connect::new(args.url.as_str())
        .max_frame_size(args.max_frame_size)
        .close_timeout(args.close_timeout)
        .validate_text(!args.binary)
        .deflate(args.deflate.of_client())
        .auto_ping(args.auto_ping.settings());
    for (name, value) in &args.headers {
        connect = connect.header(name, value.as_str());
    }
    for name in &args.subprotocols {
        connect = connect.subprotocol(name);
    }
    if let Some(proxy) = proxy {
        connect = connect.proxy(proxy);
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

/// The lines of a terminal that can be edited.
fn edited_lines() -> Option<Lines> {
    stdio::start_editor().unwrap_or_else(|error| {
        tracing::debug!(%error, "lines are edited by the terminal itself");
        None
    })
}

/// Sends standard input, and then CLOSE if the plan has it.
fn send_input(
    lines: Option<Lines>,
    ending: &Ending,
    backlog: &Arc<Backlog>,
    plan: &InputPlan,
    failed: &mpsc::Sender<Fault>,
) {
    // The connection's own thread reports its end.
    let send = |msg_type, payload| ending.remote.send(msg_type, backlog.post(payload)).is_ok();
    let input: Box<dyn Read> = match lines {
        Some(lines) => Box::new(lines),
        None => Box::new(stdio::Input(stdin())),
    };
    let input = BufReader::new(input);
    let mut messages = Input::new(send, || backlog.catch_up()).at_most(plan.max_messages);
    let outcome = messages.read(input, plan.is_binary);
    match (outcome, plan.linger) {
        (Ok(()), None) => return,
        (Ok(()), Some(linger)) => thread::sleep(linger),
        // Reported before the connection ends because of it.
        (Err(failure), _) => drop(failed.send(failure)),
    }
    ending.close(CloseCode::NORMAL);
}

/// Time for the process to end after a signal: for the server's CLOSE, and for output still to be
/// written.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);
