//! Faults that end a command with a status other than 0.
//!
//! Errors of the library are passed through unchanged; the types here are the command's own.

use crate::signals::Interrupted;
use picows_uring::{ConnectError, ConnectFault, Error};
use std::fmt;
use std::process::ExitCode;

/// Anything that ends a command.
pub(crate) type Fault = Box<dyn std::error::Error + Send + Sync>;

/// A wrong flag, or a wrong combination of flags.
#[derive(Debug)]
pub(crate) struct Usage(pub(crate) String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// A threshold that the figures of a run have missed.
#[derive(Debug)]
pub(crate) struct Missed(pub(crate) String);

impl fmt::Display for Missed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Missed {}

/// An end whose exit status the user has chosen.
#[derive(Debug)]
pub(crate) struct Status {
    pub(crate) status: u8,
    pub(crate) text: String,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Status {}

/// Describes a fault to users, who know settings by their flags.
pub(crate) fn describe(fault: &Fault) -> String {
    match wrong_setting(fault) {
        // The flag is refused before: this one is of the environment, and its text names the variable.
        Some(("driver", what)) => what.to_owned(),
        Some((setting, what)) => format!("{}: {what}", flag(setting)),
        // An option of the library that a text names.
        None => fault.to_string().replace("redirect_keeps(…)", "--redirect-keeps"),
    }
}

/// Returns the setting that the library refuses, and what is wrong with it.
fn wrong_setting(fault: &Fault) -> Option<(&str, &str)> {
    if let Some(Error::Config { setting, fault }) = fault.downcast_ref() {
        return Some((setting, fault));
    }
    match fault.downcast_ref().map(ConnectError::fault) {
        Some(ConnectFault::Setting { setting, fault }) => Some((setting, fault)),
        _ => None,
    }
}

/// Returns the flag that sets `setting`. Settings without a flag keep defaults, which are valid.
fn flag(setting: &str) -> String {
    match setting {
        "max_queue_size" => "--max-queue".to_owned(),
        "local_address" => "--source".to_owned(),
        _ => format!("--{}", setting.replace('_', "-")),
    }
}

/// Returns the exit status for `fault`: 2 for a wrong command line, 3 for a missed threshold, 1 for a failure,
/// 128 plus its number for a signal.
pub(crate) fn exit_code(fault: &Fault) -> ExitCode {
    if let Some(Interrupted(signal)) = fault.downcast_ref() {
        return ExitCode::from(signal.exit_status());
    }
    if let Some(Status { status, .. }) = fault.downcast_ref() {
        return ExitCode::from(*status);
    }
    if fault.is::<Missed>() {
        return ExitCode::from(EXIT_MISSED);
    }
    let is_usage = fault.is::<Usage>()
        || wrong_setting(fault).is_some()
        || matches!(fault.downcast_ref::<Error>(), Some(Error::Address { .. }))
        || matches!(
            fault.downcast_ref::<ConnectError>().map(ConnectError::fault),
            Some(
                ConnectFault::Url(_)
                    | ConnectFault::Option(_)
                    | ConnectFault::Request(_)
                    | ConnectFault::TlsUnsupported
            )
        );
    if is_usage { ExitCode::from(EXIT_USAGE) } else { ExitCode::FAILURE }
}

/// The exit status of the argument parser, too.
const EXIT_USAGE: u8 = 2;
const EXIT_MISSED: u8 = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use picows_uring::{Connect, EchoListener};
    use std::time::Duration;

    #[test]
    fn settings_are_named_by_their_flags() {
        let described = |setting| {
            let fault: Fault = Error::Config { setting, fault: "0 is wrong".into() }.into();
            describe(&fault)
        };
        assert_eq!(described("max_queue_size"), "--max-queue: 0 is wrong");
        assert_eq!(described("drain_spread"), "--drain-spread: 0 is wrong");
        assert_eq!(described("local_address"), "--source: 0 is wrong");
        assert_eq!(describe(&"3 errors".into()), "3 errors");
    }

    #[test]
    fn a_clients_setting_is_named_by_its_flag_as_well() {
        let connect = Connect::new("ws://127.0.0.1:1/").idle_timeout(Duration::ZERO);
        let refused = picows_uring::run(connect.connect(EchoListener)).unwrap();
        let fault: Fault = refused.map(drop).unwrap_err().into();
        let text = "--idle-timeout: 0 ends every connection at once: use None for ever";
        assert_eq!(describe(&fault), text);
        assert_eq!(format!("{:?}", exit_code(&fault)), format!("{:?}", ExitCode::from(2)));
    }

    #[test]
    fn a_wrong_command_line_has_another_status_than_a_failure() {
        let code = |fault: Fault| format!("{:?}", exit_code(&fault));
        let usage = format!("{:?}", ExitCode::from(2));
        let failure = format!("{:?}", ExitCode::FAILURE);
        assert_eq!(code(Usage("--rate".into()).into()), usage);
        assert_eq!(code(Error::Config { setting: "workers", fault: "0".into() }.into()), usage);
        assert_eq!(code(Error::SecondWorker.into()), failure);
        assert_eq!(code("3 errors".into()), failure);
        assert_eq!(code(Missed("p99>5ms".into()).into()), format!("{:?}", ExitCode::from(3)));
    }
}
