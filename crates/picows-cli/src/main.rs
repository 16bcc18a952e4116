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
mod hints;
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
mod successor;
mod system;
mod systemd;
mod threshold;
mod tls;
mod units;

use clap::{Command as Clap, CommandFactory, FromArgMatches, Parser, Subcommand};
use fault::Fault;
use signals::Interrupted;
use std::path::PathBuf;
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

    /// Filter of the log, in place of RUST_LOG: LEVEL, or TARGET=LEVEL such as picows_uring=debug, one on each
    /// line, and comments behind #. Servers read it again on SIGHUP
    #[arg(long, global = true, value_name = "FILE")]
    log_filter_file: Option<PathBuf>,

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
    // First, as it changes the environment, which threads may read.
    systemd::read_environment();
    if let Err(error) = signals::install() {
        note(format_args!("signals keep their default actions: {error}"));
    }
    let matches = command().try_get_matches().unwrap_or_else(|error| {
        hints::of_the_address(error, command(), std::env::args_os().skip(1)).exit()
    });
    let cli = Cli::from_arg_matches(&matches);
    let cli = cli.unwrap_or_else(|error| error.format(&mut command()).exit());
    stdio::report_panics();
    if let Err(fault) = stdio::install_log(cli.log_format, cli.log_filter_file) {
        return end(Err(fault.into()));
    }
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
        Command::Pages(args) => pages::run(&args, command()),
    };
    end(outcome)
}

/// The command line. A negative number is the value of an option whose values are numbers, so that its parser
/// refuses it with the cure, and not an option that does not exist.
fn command() -> Clap {
    with_negative_values(Cli::command())
}

fn with_negative_values(command: Clap) -> Clap {
    let allow = |arg: clap::Arg| match (is_number(&arg), arg.get_num_args()) {
        (false, _) => arg,
        // Where the value may be left out, the next option is not taken for it.
        (true, Some(count)) if count.min_values() == 0 => arg.allow_negative_numbers(true),
        (true, _) => arg.allow_hyphen_values(true),
    };
    command.mut_args(allow).mut_subcommands(with_negative_values)
}

/// Whether the value of an option is a number, with or without a unit.
fn is_number(arg: &clap::Arg) -> bool {
    let names = arg.get_value_names().unwrap_or_default();
    !arg.is_positional() && names.iter().any(|name| NUMBERS.contains(&name.as_str()))
}

/// Names of values that are numbers.
const NUMBERS: [&str; 10] = [
    "DURATION",
    "INTERVAL",
    "IDLE,REPLY",
    "N",
    "PID",
    "BYTES",
    "PER_SECOND",
    "STAGES",
    "1-9",
    "8-15",
];

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
    use super::{command, is_number};
    use clap::error::ErrorKind;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    /// The words of an example, as a shell has them, without pipes and files.
    fn words(line: &str) -> Vec<String> {
        let line = line.split(" <").next().unwrap_or_default();
        // What is between quotes is one word.
        let quoted = line.split('\'').enumerate().map(|(index, part)| match index % 2 {
            0 => part.to_owned(),
            _ => part.replace(' ', "\0"),
        });
        let line: String = quoted.collect();
        line.split_whitespace().map(|word| word.replace('\0', " ")).collect()
    }

    #[test]
    fn every_option_of_a_client_has_an_example_that_parses() {
        let command = command();
        for name in ["load", "compare", "connect"] {
            let subcommand = command.find_subcommand(name).unwrap();
            let help = subcommand.get_after_long_help().unwrap().to_string();
            let mut count = 0;
            for long in subcommand.get_arguments().filter_map(clap::Arg::get_long) {
                let mut options = help.split(|c: char| !c.is_alphanumeric() && c != '-');
                let has = options.any(|word| word.strip_prefix("--") == Some(long));
                assert!(has, "--{long} of {name} has no example");
                count += 1;
            }
            let examples = help.replace("\\\n", " ").replace("PID", "1");
            let is_command = |line: &&str| line.starts_with("  ") && !line.starts_with("   ");
            let lines = examples.lines().filter(is_command);
            for line in lines.filter_map(|line| Some(&line[line.find("picows ")?..])) {
                let needs_tls = line.contains("--tls-") || line.contains("--proxy-ca");
                if needs_tls && !cfg!(feature = "tls") {
                    continue;
                }
                let parsed = command.clone().try_get_matches_from(words(line));
                assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
                count += 1;
            }
            assert!(count > 5, "{name}");
        }
    }

    #[test]
    fn a_negative_number_is_refused_as_a_value_with_the_cure() {
        let command = command();
        let mut tried = 0;
        for subcommand in command.get_subcommands() {
            for arg in subcommand.get_arguments().filter(|arg| is_number(arg)) {
                let Some(long) = arg.get_long() else { continue };
                let is_duration = arg.get_value_names().is_some_and(|it| it[0] == "DURATION");
                for value in ["-1", "-1s"].into_iter().take(1 + usize::from(is_duration)) {
                    let words = ["picows", subcommand.get_name(), &format!("--{long}"), value];
                    let error = command.clone().try_get_matches_from(words).unwrap_err();
                    let text = error.to_string();
                    assert_eq!(error.kind(), ErrorKind::ValueValidation, "{text}");
                    assert!(text.contains(&format!("--{long}")) && text.contains(value), "{text}");
                    let cures = ["write ", "is not in", "unit is missing"];
                    assert!(cures.iter().any(|cure| text.contains(cure)), "{words:?}: {text}");
                    tried += 1;
                }
            }
        }
        assert!(tried > 40, "{tried} options");
    }
}
