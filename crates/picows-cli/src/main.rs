//! The `picows` command: parses its arguments, sets up the log, and runs a subcommand.

mod auto_ping;
mod client;
mod compare;
mod connect;
mod deflate;
mod doctor;
mod driver;
mod echo;
mod fan_out;
mod fault;
mod load;
mod measure;
mod pages;
mod proxy;
mod pubsub;
mod report;
mod rtt;
mod signals;
mod source;
mod stdio;
mod system;
mod threshold;
mod tls;
mod units;

use clap::{CommandFactory, Parser, Subcommand};
use fault::Fault;
use signals::Interrupted;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use stdio::{FLUSH_MIN, FLUSH_TIMEOUT, note, note_at};
use tracing::Level;

/// WebSocket on io_uring or epoll: servers and tools to try and to measure.
#[derive(Debug, Parser)]
#[command(name = "picows", version, propagate_version = true, arg_required_else_help = true)]
struct Cli {
    /// Form of the lines on standard error: the log, whose level RUST_LOG sets, and notes of the command
    #[arg(long, global = true, value_enum, value_name = "FORMAT", default_value_t)]
    log_format: stdio::LogFormat,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Echo(echo::Args),
    Pubsub(pubsub::Args),
    Load(load::Args),
    Compare(compare::Args),
    Rtt(rtt::Args),
    Connect(connect::Args),
    Doctor(doctor::Args),
    #[command(hide = true)]
    Pages(pages::Args),
}

fn main() -> ExitCode {
    if let Err(error) = signals::install() {
        note(format_args!("signals keep their default actions: {error}"));
    }
    let cli = Cli::parse();
    stdio::report_panics();
    stdio::install_log(cli.log_format);
    let outcome = match cli.command {
        Command::Echo(args) => {
            return served(echo::run(&args));
        }
        Command::Pubsub(args) => return served(pubsub::run(&args)),
        Command::Load(args) => load::run(args),
        Command::Compare(args) => compare::run(args),
        Command::Rtt(args) => rtt::run(args),
        Command::Connect(args) => connect::run(args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Pages(args) => pages::run(&args, Cli::command()),
    };
    end(outcome)
}

/// Ends a server. Its work was to serve: lost lines are counted, and do not change the exit status.
fn served((outcome, limit): (Result<(), Fault>, Duration)) -> ExitCode {
    let end = Instant::now() + limit;
    let _ = stdio::out().flush(Some(limit));
    finish(&outcome, end)
}

/// Waits until the output is written, which is part of the outcome, and returns the exit status.
///
/// A slow reader is waited for until a signal ends the wait.
fn end(outcome: Result<(), Fault>) -> ExitCode {
    signals::end_at_once();
    let limit = signals::first().map(|_| FLUSH_TIMEOUT);
    let written = stdio::out().flush(limit).map_err(|error| stdio::cannot_write_out(&error));
    finish(&outcome.and(written), Instant::now() + FLUSH_TIMEOUT)
}

/// Reports a fault, and returns the exit status. Waits for standard error until `end`.
fn finish(outcome: &Result<(), Fault>, end: Instant) -> ExitCode {
    let code = match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            let prefix = if fault.is::<Interrupted>() { "" } else { "error: " };
            note_at(Level::ERROR, format_args!("{prefix}{}", fault::describe(fault)));
            fault::exit_code(fault)
        }
    };
    // Unwritten diagnostics do not change the status; a stream that is read gets a moment.
    let left = end.saturating_duration_since(Instant::now());
    let _ = stdio::err().flush(Some(left.max(FLUSH_MIN)));
    code
}

#[cfg(test)]
mod tests {
    use super::Cli;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
