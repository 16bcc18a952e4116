//! Why a command ends with a status other than 0.
//!
//! What the library reports passes through as it is; these are the command's own.

use picows_uring::{ConnectError, ConnectFault, Error};
use std::fmt;
use std::process::ExitCode;

/// Anything that ends a command.
pub(crate) type Fault = Box<dyn std::error::Error + Send + Sync>;

/// A flag, or several together, that make no sense.
#[derive(Debug)]
pub(crate) struct Usage(pub(crate) String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// The exit status for `fault`: 2 for what was asked, 1 for what came of it.
pub(crate) fn exit_code(fault: &Fault) -> ExitCode {
    let is_usage = fault.is::<Usage>()
        || matches!(
            fault.downcast_ref::<Error>(),
            Some(Error::Address { .. } | Error::Config { .. })
        )
        || matches!(
            fault.downcast_ref::<ConnectError>().map(ConnectError::fault),
            Some(ConnectFault::Url(_) | ConnectFault::Option(_))
        );
    if is_usage { ExitCode::from(EXIT_USAGE) } else { ExitCode::FAILURE }
}

/// What the argument parser exits with, too.
const EXIT_USAGE: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_is_told_from_what_came_of_it() {
        let code = |fault: Fault| format!("{:?}", exit_code(&fault));
        let usage = format!("{:?}", ExitCode::from(2));
        let failure = format!("{:?}", ExitCode::FAILURE);
        assert_eq!(code(Usage("--rate".into()).into()), usage);
        assert_eq!(code(Error::Config { setting: "workers", fault: "0".into() }.into()), usage);
        assert_eq!(code(Error::Ring("no io_uring".into()).into()), failure);
        assert_eq!(code("3 errors".into()), failure);
    }
}
