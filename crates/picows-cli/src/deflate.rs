//! Flags of permessage-deflate, common to all commands.

use picows_uring::Deflate;

/// Flags of permessage-deflate, which compresses messages.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub(crate) struct DeflateArgs {
    /// Compress messages, if the peer agrees (permessage-deflate, RFC 7692)
    #[arg(long)]
    deflate: bool,

    /// How hard to compress: 1 is the fastest, 9 the smallest
    #[arg(long, value_name = "1-9", default_value_t = 4, requires = "deflate",
          value_parser = clap::value_parser!(u8).range(1..=9))]
    deflate_level: u8,

    /// Window of what we send, and of what a server asks for, in bits
    #[arg(long, value_name = "8-15", default_value_t = 12, requires = "deflate",
          value_parser = clap::value_parser!(u8).range(8..=15))]
    deflate_window: u8,

    /// Compress each message by itself, without reference to earlier ones, both ways
    #[arg(long, requires = "deflate")]
    deflate_no_context: bool,
}

impl DeflateArgs {
    /// Returns the setting of the library for a server.
    pub(crate) fn of_server(self) -> Option<Deflate> {
        // Clients that link zlib offer 8 and fail with it: it has no window that small.
        self.settings(Deflate::new().peer_window_bits(self.deflate_window.max(9)))
    }

    /// The window of messages that are compressed once for all connections, if they are compressed.
    pub(crate) fn shared_window(self) -> Option<u8> {
        self.deflate.then_some(self.deflate_window.max(9))
    }

    /// Returns the setting of the library for a client, which asks for no window of the server's.
    pub(crate) fn of_client(self) -> Option<Deflate> {
        self.settings(Deflate::new())
    }

    fn settings(self, deflate: Deflate) -> Option<Deflate> {
        let takeover = !self.deflate_no_context;
        let deflate = deflate
            .level(self.deflate_level)
            .window_bits(self.deflate_window)
            .context_takeover(takeover)
            .peer_context_takeover(takeover);
        self.deflate.then_some(deflate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        args: DeflateArgs,
    }

    fn parse(flags: &str) -> Result<DeflateArgs, String> {
        let words = ["echo"].into_iter().chain(flags.split_whitespace());
        Cli::try_parse_from(words).map(|cli| cli.args).map_err(|error| error.to_string())
    }

    #[test]
    fn flags_make_settings() {
        assert_eq!(parse("").unwrap().of_server(), None);
        assert_eq!(parse("").unwrap().shared_window(), None);
        let shared = |flags: &str| parse(flags).unwrap().shared_window();
        assert_eq!(shared("--deflate"), Some(12));
        assert_eq!(shared("--deflate --deflate-window 8"), Some(9));
        let plain = parse("--deflate").unwrap();
        assert_eq!(plain.of_client(), Some(Deflate::new()));
        assert_eq!(plain.of_server(), Some(Deflate::new().peer_window_bits(12)));
        let all = "--deflate --deflate-level 9 --deflate-window 8 --deflate-no-context";
        let wanted = Deflate::new().level(9).window_bits(8);
        let wanted = wanted.context_takeover(false).peer_context_takeover(false);
        assert_eq!(parse(all).unwrap().of_client(), Some(wanted));
    }

    #[test]
    fn wrong_flags_are_refused_by_name() {
        for flags in [
            "--deflate --deflate-level 0",
            "--deflate --deflate-level 10",
            "--deflate --deflate-window 7",
            "--deflate --deflate-window 16",
            "--deflate-no-context",
        ] {
            let error = parse(flags).unwrap_err();
            assert!(error.contains("--deflate"), "{flags}: {error}");
        }
    }
}
