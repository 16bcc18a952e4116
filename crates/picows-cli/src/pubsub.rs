//! `picows pubsub`: a server of topics, ready to run.

mod bus;
mod client;
mod request;
mod rights;
mod wire;

use crate::echo::{self, Service, ServingFlags};
use crate::fault::Fault;
use crate::{stdio, units};
use bus::Nodes;
use client::Client;
use http::StatusCode;
use picows_uring::topics::{Format, History, Hub, HubStats, SlowPolicy, TopicSettings};
use picows_uring::{
    ListenAddress, Messages, QueuePolicy, ServerBuilder, Upgrade, UpgradeRequest, UpgradeResponse,
};
use request::{Refused, Wish};
use rights::{Publish, Rights, Tokens};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use wire::SUBPROTOCOL;

/// Run a server of topics: what is published to one goes to all of its subscribers
///
/// ws://HOST/topic/NAME subscribes to topic NAME; what a client sends there is published, if --publish
/// lets it, and else answered with CLOSE 1008. A name is tokens divided by dots, such as rooms.lobby.
/// With * for a token, or > (%3E) for all that follow, it subscribes to all topics that match.
/// ?last=N delivers the last N publications first, as far as --history keeps them.
///
/// With the subprotocol picows.pubsub.1 each message begins with its position: BINARY with epoch and
/// offset, 16 bytes, big endian; TEXT with EPOCH:OFFSET in hexadecimal and a blank. The first message is
/// TEXT, {"recovered":N,"position":"E:O"}. With ?from=E:O all that came behind that position is
/// delivered first, or the first message is {"lost":true,"position":"E:O"}: never a part.
///
/// Prints a line `listening on ws://ADDRESS` for each address once it accepts connections, and then who may
/// publish. GET /healthz answers 503 when the process is better started again; GET /readyz also while no more
/// clients should come, and while NATS is not connected. --admin has both, and /metrics. Signals, logs and the
/// exit status are those of `picows echo`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    server: ServingFlags,

    /// Who may publish [default: all, if every address is loopback or a Unix socket, else none]
    #[arg(long, value_enum, value_name = "none|all|token", help_heading = HEADING)]
    publish: Option<Publish>,

    /// The tokens of --publish token, one on each line: sent as `Authorization: Bearer TOKEN`, or as
    /// `?token=TOKEN`. SIGHUP then reads them again, for new connections
    #[arg(long, value_name = "FILE", help_heading = HEADING)]
    publish_token_file: Option<PathBuf>,

    /// Publications that each topic keeps, for ?from= and ?last=
    #[arg(long, value_name = "N", value_parser = units::count::<usize>, default_value_t = 0, help_heading = HEADING)]
    history: usize,

    /// Most bytes that a topic keeps, such as 1MiB
    #[arg(long, value_name = "BYTES", value_parser = units::size, default_value = "64MiB",
          help_heading = HEADING)]
    history_bytes: u64,

    /// How long a topic keeps a publication [default: without limit]
    #[arg(long, value_name = "DURATION", value_parser = units::positive_duration,
          help_heading = HEADING)]
    history_age: Option<Duration>,

    /// How long a publication may wait for others of its topic, so that all leave in one send: up to the next
    /// millisecond more. 0s sends those of a turn together
    #[arg(long, value_name = "DURATION", value_parser = units::duration, default_value = "0s",
          help_heading = HEADING)]
    linger: Duration,

    /// Publications with which a topic waits no longer
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = batch_max, help_heading = HEADING)]
    batch_max: usize,

    /// What happens to a subscriber that reads too slowly: `close` sends CLOSE 1013 beyond --max-queue,
    /// `drop-oldest` or `drop-oldest:N` keeps the last N publications for it (64), `latest` the last one
    #[arg(long, value_name = "POLICY", value_parser = policy, default_value = "close",
          help_heading = HEADING)]
    policy: SlowPolicy,

    /// Most topics at a time; further subscribers get CLOSE 1013
    #[arg(long, value_name = "N", value_parser = units::count::<usize>, default_value_t = 100_000, help_heading = HEADING)]
    max_topics: usize,

    #[command(flatten)]
    bus: bus::Flags,
}

/// What all clients share.
struct Settings {
    hub: Hub,
    policy: SlowPolicy,
    with_positions: Format,
    /// The same, for subjects with wildcards: the topic is behind the position.
    with_topics: Format,
}

/// The server.
struct PubSub {
    settings: Arc<Settings>,
    rights: Arc<Rights>,
    /// Everyone may publish, as all addresses are loopback.
    is_loopback_assumed: bool,
    message_bytes_max: usize,
    queue_bytes_max: usize,
    nodes: Arc<Nodes>,
    /// Counters at the last line of `--stats`.
    before: Mutex<HubStats>,
}

/// Serves until a signal comes. Returns the outcome, and the limit of the final flush of the standard
/// streams.
pub(crate) fn run(args: &Args) -> (Result<(), Fault>, Duration) {
    match PubSub::new(args) {
        Ok(service) => echo::run_server(&args.server, &service),
        Err(fault) => (Err(fault), stdio::FLUSH_TIMEOUT),
    }
}

impl PubSub {
    fn new(args: &Args) -> Result<Self, Fault> {
        let is_local = args.server.addresses().all(|address| is_local(address));
        let publish = args.publish.unwrap_or(if is_local { Publish::All } else { Publish::None });
        let rights = Rights::new(publish, args.publish_token_file.as_deref())?;
        let mut history = History::last(args.history);
        history.bytes = usize::try_from(args.history_bytes).unwrap_or(usize::MAX);
        history.age = args.history_age;
        let topics = TopicSettings::new().history(history);
        let topics = topics.linger(args.linger).batch_max(args.batch_max);
        let mut hub = Hub::builder().settings(topics).max_topics(args.max_topics);
        if let Some(window_bits) = args.server.deflate.shared_window() {
            hub = hub.deflate(window_bits);
        }
        let hub = hub.build()?;
        let nodes = Arc::new(args.bus.attach_to(&hub, history)?);
        let (with_positions, with_topics) = (wire::with_positions(), wire::with_topics());
        Ok(Self {
            before: Mutex::new(hub.stats()),
            settings: Arc::new(Settings { hub, policy: args.policy, with_positions, with_topics }),
            rights: Arc::new(rights),
            is_loopback_assumed: args.publish.is_none() && is_local,
            message_bytes_max: usize::try_from(args.server.max_frame_size).unwrap_or(usize::MAX),
            queue_bytes_max: usize::try_from(args.server.max_queue).unwrap_or(usize::MAX),
            nodes,
        })
    }
}

impl Service for PubSub {
    fn set_up(&self, builder: ServerBuilder) -> ServerBuilder {
        let nodes = Arc::clone(&self.nodes);
        // Before a server that this one takes over from has stopped.
        let builder = match self.is_loopback_assumed {
            true => builder.check_address(refuse_unless_loopback),
            false => builder,
        };
        builder
            .max_queue_size(self.queue_bytes_max, QueuePolicy::Close)
            .ready_when(move || nodes.fault().map_or(Ok(()), Err))
    }

    fn router(&self) -> impl Fn(&UpgradeRequest) -> Upgrade + Send + Sync + 'static {
        let (settings, rights) = (Arc::clone(&self.settings), Arc::clone(&self.rights));
        let message_bytes_max = self.message_bytes_max;
        move |request| {
            if !request.is_upgrade() {
                return not_found();
            }
            let wish = match Wish::read(request) {
                Ok(wish) => wish,
                Err(Refused::NotFound) => return not_found(),
                Err(Refused::Bad(text)) => {
                    return respond(400, &text);
                }
            };
            let right = rights.of(request, wish.token.as_deref());
            let has_positions = wish.has_positions;
            let client = Client::new(Arc::clone(&settings), wish, right);
            let upgrade =
                Upgrade::accept(Messages::new(client).max_message_size(message_bytes_max));
            if has_positions { upgrade.with_subprotocol(SUBPROTOCOL) } else { upgrade }
        }
    }

    fn started(&self) -> Option<String> {
        let why = if self.is_loopback_assumed { ", as all addresses are loopback" } else { "" };
        Some(format!("publish {}{why}", self.rights.describe()))
    }

    fn progress(&self, every: Duration) -> String {
        let now = self.settings.hub.stats();
        let mut before = self.before.lock().unwrap_or_else(PoisonError::into_inner);
        let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / every.as_secs_f64();
        let mut line = format!(
            ", topics {}, subscriptions {}, published/s {:.0}, delivered/s {:.0}",
            now.topics,
            now.subscriptions,
            rate(now.published, before.published),
            rate(now.delivered, before.delivered),
        );
        for (count, what) in [
            (now.dropped, "publications dropped"),
            (now.conflated, "publications conflated"),
            (now.closed, "closed as too slow"),
            (now.lost, "publications lost"),
            (now.bus_errors, "not sent to other nodes"),
        ] {
            if count > 0 {
                line += &format!(", {what} {count}");
            }
        }
        line += &self.nodes.progress();
        *before = now;
        line
    }

    fn add_counters(&self, json: &mut Value) {
        let stats = self.settings.hub.stats();
        json["topics"] = json!({
            "topics": stats.topics,
            "subscriptions": stats.subscriptions,
            "published": stats.published,
            "delivered": stats.delivered,
            "dropped": stats.dropped,
            "conflated": stats.conflated,
            "closed": stats.closed,
            "lost": stats.lost,
            "history_bytes": stats.history_bytes,
            "behind": stats.behind,
            "bus_errors": stats.bus_errors,
        });
        if let Some(nodes) = self.nodes.to_json() {
            json["nats"] = nodes;
        }
    }

    fn reload(&self) -> Option<Box<dyn Fn() + Send>> {
        self.rights.tokens()?;
        let rights = Arc::clone(&self.rights);
        Some(Box::new(move || rights.tokens().into_iter().for_each(Tokens::reload)))
    }

    fn stopped(&self) {
        self.nodes.close();
    }
}

fn not_found() -> Upgrade {
    respond(404, "subscribe at ws://HOST/topic/NAME")
}

/// Answers with a status, and a line of text.
fn respond(status: u16, text: &str) -> Upgrade {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
    Upgrade::respond(UpgradeResponse::text(status, format!("{text}\n")))
}

/// Whether an address of the command line is loopback for certain, or a Unix socket.
fn is_local(address: &str) -> bool {
    if address.starts_with("unix:") {
        return true;
    }
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|it| it.is_loopback())
}

fn is_loopback(address: &ListenAddress) -> bool {
    match address {
        ListenAddress::Tcp(address) | ListenAddress::Tls(address) => address.ip().is_loopback(),
        _ => true,
    }
}

fn refuse_unless_loopback(address: &ListenAddress) -> Result<(), String> {
    let fault =
        "it is not loopback, and who may publish is not given: write --publish none, all or token";
    if is_loopback(address) { Ok(()) } else { Err(fault.to_owned()) }
}

/// Parses a policy for slow subscribers.
fn policy(text: &str) -> Result<SlowPolicy, String> {
    match text {
        "close" => Ok(SlowPolicy::close()),
        "latest" => Ok(SlowPolicy::latest()),
        "drop-oldest" => Ok(SlowPolicy::drop_oldest(DROP_OLDEST)),
        _ => match text.strip_prefix("drop-oldest:").map(str::parse) {
            Some(Ok(count @ 1..)) => Ok(SlowPolicy::drop_oldest(count)),
            _ => Err("write close, drop-oldest, drop-oldest:N with N from 1, or latest".to_owned()),
        },
    }
}

/// Parses the most publications of a batch.
fn batch_max(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count @ 1..) => Ok(count),
        _ => Err("write a number of publications from 1".to_owned()),
    }
}

const HEADING: &str = "Topics";
/// Publications that `drop-oldest` keeps for a subscriber.
const DROP_OLDEST: usize = 64;
const EXAMPLES: &str = "\
Examples:
  picows pubsub --listen 127.0.0.1:9002 --workers 2 --history 100
      topics with the last 100 publications; every local client may publish
  picows connect ws://127.0.0.1:9002/topic/rooms.lobby
      a client that subscribes, and publishes each line that is typed
  picows pubsub --listen 0.0.0.0:9002 --publish token --publish-token-file tokens
      all may subscribe, clients with a token may publish
  picows pubsub --listen 0.0.0.0:9002 --nats nats://10.0.0.5:4222
      one of several nodes, with the topics of all";

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn parse(flags: &str) -> Result<PubSub, String> {
        let words = ["pubsub"].into_iter().chain(flags.split_whitespace());
        let cli = Cli::try_parse_from(words).map_err(|error| error.to_string())?;
        PubSub::new(&cli.args).map_err(|error| error.to_string())
    }

    #[test]
    fn clients_may_publish_by_default_where_no_other_machine_can_connect() {
        for (flags, is_all) in [
            ("", true),
            ("--listen 127.0.0.1:0", true),
            ("--listen [::1]:0 --listen unix:/tmp/a --listen localhost:0", true),
            ("--listen 0.0.0.0:0", false),
            ("--listen [::]:0", false),
            ("--listen 127.0.0.1:0 --listen 192.0.2.1:0", false),
            ("--listen example.com:0", false),
            ("--listen 0.0.0.0:0 --publish all", true),
            ("--listen 127.0.0.1:0 --publish none", false),
        ] {
            let service = parse(flags).unwrap();
            assert_eq!(matches!(*service.rights, Rights::All), is_all, "{flags}");
        }
    }

    #[test]
    fn wrong_flags_are_refused_by_name() {
        for (flags, word) in [
            ("--policy slow", "drop-oldest:N"),
            ("--policy drop-oldest:0", "drop-oldest:N"),
            ("--publish some", "--publish"),
            ("--publish token", "--publish-token-file FILE is missing"),
            ("--history-age 0s", "--history-age"),
            ("--linger soon", "--linger"),
            ("--batch-max 0", "from 1"),
            ("--history-bytes many", "--history-bytes"),
        ] {
            let error = parse(flags).map(drop).unwrap_err();
            assert!(error.contains(word), "{flags}: {error}");
        }
    }
}
