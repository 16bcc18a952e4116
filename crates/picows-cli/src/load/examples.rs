//! Examples of `picows load --help`: one at least for each option.

pub(super) const EXAMPLES: &str = "\
Examples:
  picows load ws://127.0.0.1:9001/
      64 connections, each with one message in flight
  picows load ws://127.0.0.1:9001/ --connections 1000 --threads 2 --size 64KiB --text --pipeline 4
      1000 connections on two threads, each with four messages of 64 KiB of text in flight
  picows load ws://127.0.0.1:9001/ --binary --warmup 5s --duration 60s --drain-timeout 20s
      binary messages for a minute after five seconds, and 20 s of patience for the last echoes
  picows load ws://127.0.0.1:9001/ --rate 50000 --duration 30s --json load.json
      an open loop, with the figures as JSON
  picows load ws://127.0.0.1:9001/ --rounds 12 --duration 5s --json load.json
      twelve rounds of five seconds behind one warm-up, for picows compare
  picows load ws://127.0.0.1:9001/ --stages 10s:20000,60s:20000,10s:0
      up to 20000 messages a second, held for a minute, and down again
  picows load ws://127.0.0.1:9001/ --rate 20000 --fail-if 'p99>5ms' --fail-if 'rate<19900'
      status 3 if the server is too slow, for pipelines
  picows load ws://127.0.0.1:9001/ --json load.json --html load.html --hdr load.hlog
      all figures, a page with charts, and a log for tools of HdrHistogram

Modes:
  picows load ws://127.0.0.1:9001/ --mode idle -c 50000 --source 127.0.0.0/8 --server-pid PID
      what a connection costs the server while nothing is sent
  picows load ws://127.0.0.1:9001/ --mode idle -c 5000 --connect-rate 500 --auto-ping 10s,5s \\
      --auto-ping-strategy periodic
      500 connections begun per second, which ping the server
  picows load ws://127.0.0.1:9001/ --mode churn --rate 500 -c 100 --messages 3
      500 connections a second that each have three messages echoed, at most 100 at a time
  picows load ws://127.0.0.1:9001/ --mode slow --slow-connections 20 --slow-read 1KiB
      what others get while 20 connections hardly read
  picows load ws://127.0.0.1:9002/topic/load --mode fan-out --subscribers 1000
      one publication at a time to 1000 subscribers of picows pubsub
  picows load ws://127.0.0.1:9002/topic/load --mode fan-out --subscribers 1000 --pipeline 16 --allow-gaps
      16 publications in flight, which the server joins, and may drop
  picows load ws://HOST/topic/load --mode fan-out --publishers 4 --rate 10000 \\
      --publish-url 'ws://HOST/topic/load?token=SECRET'
      four publishers with a token, at an even rate
  picows load ws://HOST/topic/load --mode fan-out --subscribers 1000 --stages 10s:1000,60s:1000
      up to 1000 publications a second, held for a minute

The client's end, and the way to the server:
  picows load ws://127.0.0.1:9001/ --driver epoll --event-loop tokio --busy-poll 50us
      on epoll with tokio's own loop, spinning for 50 µs before it sleeps
  picows load ws://127.0.0.1:9001/ --dedicated --log-format json
      threads that leave their loops, and a log of JSON
  picows load ws://127.0.0.1:9001/ --payload json --deflate --deflate-level 1 --deflate-window 15
      text that compresses, with little effort and large windows
  picows load ws://127.0.0.1:9001/ --payload json --deflate --deflate-no-context
      each message compressed by itself
  picows load wss://HOST/ --tls-ca ca.pem --tls-cert client.pem --tls-key client.key
      over TLS, to a server of a private authority that asks for a certificate
  picows load wss://127.0.0.1:9001/ --tls-insecure
      over TLS, whatever certificate the server has
  picows load ws://HOST/ --proxy https://proxy.example:3128 --proxy-ca proxy-ca.pem
      through a proxy behind TLS";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::tests::Cli;
    use clap::{CommandFactory, Parser};

    #[test]
    fn every_option_has_an_example_here_and_in_the_guide() {
        // The guide is not in the package of the crate.
        let guide = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/guides/measuring.md");
        let guide = std::fs::read_to_string(guide).ok();
        let command = Cli::command();
        let options = command.get_arguments().filter(|arg| !arg.is_positional());
        let mut count = 0;
        for long in options.filter_map(clap::Arg::get_long).filter(|long| *long != "help") {
            let has = |text: &str| {
                let words = text.split(|c: char| !c.is_alphanumeric() && c != '-');
                words.filter_map(|word| word.strip_prefix("--")).any(|word| word == long)
            };
            assert!(has(EXAMPLES), "--{long} has no example in --help");
            assert!(guide.as_deref().is_none_or(has), "--{long} is not in the guide");
            count += 1;
        }
        assert!(count > 30, "{count} options");
    }

    #[test]
    fn examples_are_command_lines_that_parse() {
        // A flag of all commands, and the number of a process, which readers fill in.
        let text = EXAMPLES.replace("\\\n", " ").replace(" --log-format json", "");
        let text = text.replace("PID", "1").replace('\'', "");
        let lines: Vec<_> = text.lines().filter_map(|it| it.strip_prefix("  picows ")).collect();
        assert!(lines.len() > 20, "{} examples", lines.len());
        let needs_tls = |line: &str| line.contains("--tls-") || line.contains("--proxy-ca");
        for line in lines.into_iter().filter(|it| cfg!(feature = "tls") || !needs_tls(it)) {
            let parsed = Cli::try_parse_from(line.split_whitespace());
            assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
        }
    }
}
