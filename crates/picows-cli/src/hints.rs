//! Hints for options that there are not: an address or URL is an argument.

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, Error, ErrorKind};
use clap::{Arg, Command};
use std::ffi::OsString;

/// Replaces the tip of an error about an option such as `--port`, which names one that is spelt alike, where the
/// subcommand in `words` has the address as its argument. Other errors stay as they are.
pub(crate) fn of_the_address(
    mut error: Error,
    mut command: Command,
    words: impl IntoIterator<Item = OsString>,
) -> Error {
    let Some(ContextValue::String(option)) = error.get(ContextKind::InvalidArg) else {
        return error;
    };
    let option = option.split('=').next().unwrap_or_default();
    if error.kind() != ErrorKind::UnknownArgument || !OPTIONS.contains(&option) {
        return error;
    }
    command.build();
    let name = words.into_iter().find(|word| command.find_subcommand(word).is_some());
    let subcommand = name.and_then(|name| command.find_subcommand_mut(name));
    let Some(subcommand) = subcommand else { return error };
    let names = subcommand.get_positionals().find_map(Arg::get_value_names).unwrap_or_default();
    let path = format!("picows {}", subcommand.get_name());
    let tip = match names {
        [name] if name.as_str() == "ADDR" => format!(
            "the address is an argument without a name: {path} 127.0.0.1:9001, or {path} 9001 for that port of \
             127.0.0.1"
        ),
        [name] if name.as_str() == "URL" => {
            format!("the URL is an argument without a name: {path} ws://127.0.0.1:9001/")
        }
        _ => return error,
    };
    let usage = subcommand.render_usage();
    error.remove(ContextKind::SuggestedArg);
    error.remove(ContextKind::SuggestedValue);
    error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![StyledStr::from(tip)]));
    error.insert(ContextKind::Usage, ContextValue::StyledStr(usage));
    error
}

/// Names that other programs have for it.
const OPTIONS: [&str; 19] = [
    "--port",
    "--ports",
    "--host",
    "--hostname",
    "--bind",
    "--bind-address",
    "--addr",
    "--address",
    "--ip",
    "--interface",
    "--listen",
    "--listen-address",
    "--url",
    "--uri",
    "--server",
    "--target",
    "--connect",
    "--endpoint",
    "-p",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn error_of(line: &str) -> String {
        let words = || line.split_whitespace().map(OsString::from);
        let command = crate::command();
        let error = command.clone().try_get_matches_from(words()).unwrap_err();
        of_the_address(error, command, words().skip(1)).to_string()
    }

    #[test]
    fn an_option_in_place_of_the_argument_gets_the_argument_as_its_tip() {
        for option in OPTIONS {
            for (command, is_url, tip) in [
                ("echo", false, "picows echo 127.0.0.1:9001, or picows echo 9001"),
                ("pubsub", false, "picows pubsub 127.0.0.1:9001, or picows pubsub 9001"),
                ("load", true, "picows load ws://127.0.0.1:9001/"),
                ("rtt", true, "picows rtt ws://127.0.0.1:9001/"),
                ("connect", true, "picows connect ws://127.0.0.1:9001/"),
            ] {
                // What there is needs no tip.
                if (option == "--listen" && !is_url) || (option == "-p" && command == "load") {
                    continue;
                }
                for value in ["", " 9001", "=9001"] {
                    for before in ["", "--log-format text "] {
                        let line = format!("picows {before}{command} {option}{value}");
                        let text = error_of(&line);
                        assert!(text.contains(&format!("'{option}' found")), "{line}: {text}");
                        assert!(text.contains(tip), "{line}: {text}");
                        assert_eq!(text.matches("tip:").count(), 1, "{line}: {text}");
                        let usage = format!("Usage: picows {command} [OPTIONS] ");
                        assert!(text.contains(&usage), "{line}: {text}");
                    }
                }
            }
        }
    }

    #[test]
    fn other_errors_keep_their_tips() {
        for (line, tip) in [
            ("picows echo --subprotocl a", "'--subprotocol' exists"),
            ("picows echo --wrokers 2", "'--workers'"),
            ("picows doctor --port 1", "unexpected argument '--port'"),
            ("picows --port 1", "unexpected argument '--port'"),
        ] {
            let text = error_of(line);
            let tip = tip.trim_end_matches(" exists");
            assert!(text.contains(tip) && !text.contains("without a name"), "{line}: {text}");
        }
    }
}
