//! Limits that bound connections and workers: descriptors, locked memory, ports, queues.

use super::files::Surroundings;
use super::report::{Item, Level};
use picows_uring::Driver;
use picows_uring::internal::preflight::{
    BACKLOG, DESCRIPTORS_PER_WORKER, LOCKED_KIB_PER_WORKER, Preflight,
};
use serde_json::{Value, json};

pub(super) fn items(surroundings: &Surroundings, tried: &Preflight) -> Vec<Item> {
    vec![
        descriptors(surroundings),
        locked_memory(surroundings, tried),
        ephemeral_ports(surroundings),
        backlog(surroundings),
    ]
}

/// A limit of a resource (getrlimit(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    Unlimited,
    At(u64),
}

impl Limit {
    pub(super) fn json(self) -> Value {
        match self {
            Self::Unlimited => json!("unlimited"),
            Self::At(value) => json!(value),
        }
    }

    pub(super) fn number(self) -> Option<u64> {
        match self {
            Self::Unlimited => None,
            Self::At(value) => Some(value),
        }
    }

    fn shown(self, unit: impl Fn(u64) -> String) -> String {
        match self {
            Self::Unlimited => "unlimited".to_owned(),
            Self::At(value) => unit(value),
        }
    }
}

/// The soft and the hard limit of `name` in `/proc/self/limits`.
pub(super) fn limits(text: &str, name: &str) -> Option<(Limit, Limit)> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    let mut columns = rest.split_whitespace().map(|column| match column {
        "unlimited" => Some(Limit::Unlimited),
        number => number.parse().ok().map(Limit::At),
    });
    Some((columns.next()??, columns.next()??))
}

/// The limit as JSON, `null` if it is unknown.
fn json_of(limit: Option<Limit>) -> Value {
    limit.map_or(Value::Null, Limit::json)
}

fn descriptors(surroundings: &Surroundings) -> Item {
    let found = limits(&surroundings.limits, "Max open files");
    let (soft, hard) = (found.map(|it| it.0), found.map(|it| it.1));
    // Each worker has a listening socket; the rest is for streams, the log, and names.
    let own = surroundings.workers as u64 * (DESCRIPTORS_PER_WORKER + 1) + DESCRIPTORS_OF_PROCESS;
    let connections = hard.and_then(Limit::number).map(|hard| hard.saturating_sub(own));
    let values = json!({
        "soft": json_of(soft), "hard": json_of(hard), "connections": connections,
    });
    let number = |limit: Limit| limit.shown(|value| value.to_string());
    let Some((soft, hard)) = found else {
        return Item::new("descriptors", "unknown, as /proc/self/limits cannot be read", values);
    };
    let room = connections.map_or("no limit".to_owned(), |count| format!("at most {count}"));
    // The command raises it; an application of the library has to do so itself.
    let raised = if soft == hard { "" } else { " (raised to the hard one by picows)" };
    let text = format!("soft {}{raised}, hard {}; connections: {room}", number(soft), number(hard));
    let item = Item::new("descriptors", text, values);
    if connections.is_some_and(|count| count < CONNECTIONS_USUAL) {
        let cure = "raise the hard limit of open files (ulimit -Hn, LimitNOFILE= in systemd, \
                    --ulimit nofile= of a container)";
        return item.with(Level::Note, cure);
    }
    item
}

fn locked_memory(surroundings: &Surroundings, tried: &Preflight) -> Item {
    let found = limits(&surroundings.limits, "Max locked memory");
    let capabilities = surroundings.files.status("CapEff");
    let capabilities = capabilities.and_then(|set| u64::from_str_radix(&set, 16).ok());
    let is_exempt = capabilities.map(|set| set & CAP_IPC_LOCK != 0);
    let soft = found.and_then(|(soft, _)| soft.number());
    let workers = soft.map(|bytes| bytes / 1024 / LOCKED_KIB_PER_WORKER);
    let values = json!({
        "soft": json_of(found.map(|it| it.0)),
        "hard": json_of(found.map(|it| it.1)),
        "is_exempt": is_exempt,
        "kib_per_worker": LOCKED_KIB_PER_WORKER,
        "workers": workers,
    });
    let kib = |limit: Limit| limit.shown(|bytes| format!("{} KiB", bytes / 1024));
    let limit = found.map_or("unknown".to_owned(), |(soft, _)| kib(soft));
    let item = |text: String| Item::new("locked_memory", text, values.clone());
    if tried.asked == Driver::Epoll {
        return item(format!("{limit}; epoll locks none"));
    }
    if is_exempt == Some(true) {
        return item(format!("{limit}, not counted for this process (CAP_IPC_LOCK)"));
    }
    if found.is_none() {
        return item("unknown, as /proc/self/limits cannot be read".to_owned());
    }
    let allowed = workers
        .map_or("for any number of workers".to_owned(), |count| format!("for {count} workers"));
    let text = format!(
        "{limit} for all processes of the user, {allowed} of io_uring ({LOCKED_KIB_PER_WORKER} KiB each, \
         where the kernel counts rings: before 5.12, and again in 6.18)"
    );
    let cure = "raise the limit of locked memory (ulimit -l, LimitMEMLOCK= in systemd, --ulimit \
                memlock= of a container), start fewer workers, or use --driver epoll";
    let is_short = tried.driver.is_ok() && tried.workers < surroundings.workers;
    match &tried.driver {
        Err(refusal) if refusal.cause == "memory" => item(text).with(Level::Problem, cure),
        Ok(_) if is_short => item(text).with(Level::Note, cure),
        _ => item(text),
    }
}

fn ephemeral_ports(surroundings: &Surroundings) -> Item {
    let text = surroundings.files.text("/proc/sys/net/ipv4/ip_local_port_range");
    let range = text.and_then(|text| {
        let mut numbers = text.split_whitespace().map(|it| it.parse::<u64>().ok());
        Some((numbers.next()??, numbers.next()??))
    });
    let count = range.map(|(low, high)| (high + 1).saturating_sub(low));
    let (low, high) = (range.map(|it| it.0), range.map(|it| it.1));
    let values = json!({ "low": low, "high": high, "count": count });
    let (Some((low, high)), Some(count)) = (range, count) else {
        return Item::new("ephemeral_ports", "unknown", values);
    };
    let text = format!("{low} to {high}: {count} connections of a client or proxy to one address");
    let item = Item::new("ephemeral_ports", text, values);
    if count < PORTS_USUAL {
        let cure = "widen the range where clients or a proxy run: sysctl -w \
                    net.ipv4.ip_local_port_range='1024 65535'";
        return item.with(Level::Note, cure);
    }
    item
}

fn backlog(surroundings: &Surroundings) -> Item {
    let somaxconn = surroundings.files.number("/proc/sys/net/core/somaxconn");
    let handshakes = surroundings.files.number("/proc/sys/net/ipv4/tcp_max_syn_backlog");
    let values = json!({ "somaxconn": somaxconn, "tcp_max_syn_backlog": handshakes });
    let shown = |value: Option<i64>| value.map_or("unknown".to_owned(), |it| it.to_string());
    let text = format!(
        "net.core.somaxconn {}, net.ipv4.tcp_max_syn_backlog {}; a server asks for {BACKLOG}",
        shown(somaxconn),
        shown(handshakes)
    );
    let item = Item::new("backlog", text, values);
    if somaxconn.is_some_and(|value| value < i64::from(BACKLOG)) {
        let cure = format!(
            "let as many connections wait as a server asks for: sysctl -w net.core.somaxconn={BACKLOG}"
        );
        return item.with(Level::Note, cure);
    }
    item
}

/// Standard streams, the log, looked-up names.
const DESCRIPTORS_OF_PROCESS: u64 = 16;
/// A server that can have fewer is unusual.
const CONNECTIONS_USUAL: u64 = 4096;
/// Linux has 28,232 by default.
const PORTS_USUAL: u64 = 10_000;
/// Bit 14 of a set of capabilities (capabilities(7)).
const CAP_IPC_LOCK: u64 = 1 << 14;
