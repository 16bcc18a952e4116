//! Figures of a server as text in the format OpenMetrics 1.0.
//!
//! Its names are promised: `docs/guides/metrics.md` lists them, and a test compares the two.

use super::monitor::Monitor;
use crate::driver::Driver;
use crate::health::{HistogramReading, Stats, WorkerState};
use std::fmt::{Display, Write};
use std::time::Duration;

/// A family of one counter or gauge, or of several that differ by labels.
struct Family {
    /// `counter` or `gauge`.
    kind: &'static str,
    name: &'static str,
    unit: &'static str,
    help: &'static str,
    /// Labels, without braces, and where the number is.
    samples: &'static [Sample],
}

/// Labels, and where the number is.
type Sample = (&'static str, fn(&Stats) -> u64);

/// All families as text.
pub(super) fn render(monitor: &Monitor) -> String {
    let (stats, mut out) = (monitor.stats(), Text(String::with_capacity(TEXT_BYTES_USUAL)));
    for family in FAMILIES {
        out.family(family, &stats);
    }
    if let Some(limit) = monitor.memory_limit() {
        let help = "Limit of the memory that connections hold together.";
        out.head("picows_memory_limit_bytes", "gauge", "bytes", help);
        out.sample("picows_memory_limit_bytes", "", limit);
    }
    out.workers(monitor);
    out.endings(monitor);
    out.histograms(monitor);
    out.0.push_str("# EOF\n");
    out.0
}

/// The text so far.
struct Text(String);

impl Text {
    fn head(&mut self, name: &str, kind: &str, unit: &str, help: &str) {
        self.line(format_args!("# TYPE {name} {kind}"));
        if !unit.is_empty() {
            self.line(format_args!("# UNIT {name} {unit}"));
        }
        self.line(format_args!("# HELP {name} {help}"));
    }

    fn sample(&mut self, name: &str, labels: &str, value: impl Display) {
        if labels.is_empty() {
            self.line(format_args!("{name} {value}"));
        } else {
            self.line(format_args!("{name}{{{labels}}} {value}"));
        }
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // A string takes everything.
        let _ = writeln!(self.0, "{line}");
    }

    fn family(&mut self, family: &Family, stats: &Stats) {
        let Family { kind, name, unit, help, samples } = family;
        let suffix = if *kind == "counter" { "_total" } else { "" };
        self.head(name, kind, unit, help);
        for (labels, value) in *samples {
            self.sample(&format!("{name}{suffix}"), labels, value(stats));
        }
    }

    /// Families with a sample for each driver or state of workers.
    fn workers(&mut self, monitor: &Monitor) {
        let (mut drivers, mut states) = ([0; 2], [0; 3]);
        for worker in monitor.workers() {
            drivers[usize::from(worker.driver == Driver::Epoll)] += 1;
            states[match worker.state {
                WorkerState::Running => 0,
                WorkerState::Ended => 1,
                WorkerState::Failed(_) => 2,
            }] += 1;
        }
        self.head("picows_driver", "gauge", "", "Workers on each driver.");
        for (driver, count) in [Driver::IoUring, Driver::Epoll].iter().zip(drivers) {
            let label = format!("driver=\"{}\"", driver.name());
            self.sample("picows_driver", &label, count);
        }
        self.head("picows_workers", "gauge", "", "Workers by their state.");
        for (state, count) in ["running", "ended", "failed"].iter().zip(states) {
            self.sample("picows_workers", &format!("state=\"{state}\""), count);
        }
        let longest = Duration::from_micros(monitor.stats().longest_turn_micros).as_secs_f64();
        let help = "Longest turn of any worker since its start.";
        self.head("picows_longest_turn_seconds", "gauge", "seconds", help);
        self.sample("picows_longest_turn_seconds", "", longest);
        let help = "Whether more clients should come, as /readyz answers: 1 or 0.";
        self.head("picows_ready", "gauge", "", help);
        self.sample("picows_ready", "", u8::from(monitor.not_ready().is_none()));
        self.head("picows_build", "info", "", "Version of picows-uring.");
        let version = format!("version=\"{}\"", env!("CARGO_PKG_VERSION"));
        self.sample("picows_build_info", &version, 1);
    }

    fn endings(&mut self, monitor: &Monitor) {
        let name = "picows_connections_closed";
        self.head(name, "counter", "", "Connections that have ended, by cause and close code.");
        let mut sums: Vec<(&str, &str, u64)> = Vec::new();
        for worker in monitor.counters() {
            for (place, (cause, code, count)) in worker.endings.read().enumerate() {
                match sums.get_mut(place) {
                    None => sums.push((cause, code, count)),
                    Some((.., sum)) => *sum += count,
                }
            }
        }
        for (cause, code, count) in sums.into_iter().filter(|(.., count)| *count > 0) {
            let labels = format!("cause=\"{cause}\",code=\"{code}\"");
            self.sample("picows_connections_closed_total", &labels, count);
        }
    }

    fn histograms(&mut self, monitor: &Monitor) {
        let (mut handshakes, mut turns, mut pings) = <[HistogramReading; 3]>::default().into();
        for worker in monitor.counters() {
            handshakes += worker.handshake_times.read();
            turns += worker.turn_times.read();
            pings += worker.roundtrips.read();
        }
        let help = "Time from an accepted connection to its upgrade.";
        self.histogram("picows_handshake_seconds", help, &handshakes);
        let help = "Time of a worker's turns, unless slow_callback is 0.";
        self.histogram("picows_turn_seconds", help, &turns);
        let help = "Time from a ping to its answer.";
        self.histogram("picows_ping_roundtrip_seconds", help, &pings);
    }

    fn histogram(&mut self, name: &str, help: &str, reading: &HistogramReading) {
        self.head(name, "histogram", "seconds", help);
        let mut all = 0;
        for (bound, count) in reading.cumulative() {
            let bound = if bound.is_finite() { bound.to_string() } else { "+Inf".to_owned() };
            self.sample(&format!("{name}_bucket"), &format!("le=\"{bound}\""), count);
            all = count;
        }
        self.sample(&format!("{name}_sum"), "", reading.sum().as_secs_f64());
        self.sample(&format!("{name}_count"), "", all);
    }
}

macro_rules! families {
    ($($kind:ident $name:literal $unit:literal $help:literal {
        $($labels:literal: |$stats:ident| $value:expr,)+
    })+) => {
        &[$(Family {
            kind: stringify!($kind),
            name: $name,
            unit: $unit,
            help: $help,
            samples: &[$(($labels, |$stats| $value)),+],
        }),+]
    };
}

const FAMILIES: &[Family] = families! {
    gauge "picows_connections" "" "Connections that are open now, handshakes included." {
        "": |it| it.connections,
    }
    gauge "picows_queue_bytes" "bytes" "Memory of what waits to be sent or is being sent." {
        "": |it| it.queue_bytes,
    }
    gauge "picows_memory_bytes" "bytes" "Memory of connections, by what it is for." {
        "use=\"connections\"": |it| it.connection_bytes,
        "use=\"queues\"": |it| it.queue_bytes,
        "use=\"incomplete\"": |it| it.stash_bytes,
        "use=\"history\"": |it| it.history_bytes,
        "use=\"messages\"": |it| it.message_bytes,
        "use=\"kept\"": |it| it.pool_bytes,
    }
    gauge "picows_receive_buffers" "" "Receive buffers that are shared with the kernel." {
        "": |it| it.receive_buffers,
    }
    gauge "picows_accept_paused" "" "Workers that pause accepting for lack of descriptors or memory." {
        "": |it| it.accept_paused,
    }
    counter "picows_connections_opened" "" "Connections that were made, refused ones included." {
        "": |it| it.connections.wrapping_add(it.disconnected),
    }
    counter "picows_connections_upgraded" "" "Handshakes that were completed." {
        "": |it| it.upgraded,
    }
    counter "picows_connections_refused" "" "Connections for which a limit left no room." {
        "cause=\"max_connections\"": |it| it.refused_by_connections,
        "cause=\"max_per_address\"": |it| it.refused_by_address,
        "cause=\"max_handshakes\"": |it| it.refused_by_handshakes,
        "cause=\"memory_limit\"": |it| it.refused_by_memory,
    }
    counter "picows_tls_handshakes" "" "Handshakes of TLS by their result." {
        "result=\"full\"": |it| it.tls_handshakes.saturating_sub(it.tls_resumed),
        "result=\"resumed\"": |it| it.tls_resumed,
        "result=\"failed\"": |it| it.tls_failed,
    }
    counter "picows_frames" "" "Frames that arrived, and that were queued to be sent." {
        "direction=\"in\",opcode=\"continuation\"": |it| it.frames_received_continuation,
        "direction=\"in\",opcode=\"text\"": |it| it.frames_received_text,
        "direction=\"in\",opcode=\"binary\"": |it| it.frames_received_binary,
        "direction=\"in\",opcode=\"close\"": |it| it.frames_received_close,
        "direction=\"in\",opcode=\"ping\"": |it| it.frames_received_ping,
        "direction=\"in\",opcode=\"pong\"": |it| it.frames_received_pong,
        "direction=\"out\",opcode=\"continuation\"": |it| it.frames_sent_continuation,
        "direction=\"out\",opcode=\"text\"": |it| it.frames_sent_text,
        "direction=\"out\",opcode=\"binary\"": |it| it.frames_sent_binary,
        "direction=\"out\",opcode=\"close\"": |it| it.frames_sent_close,
        "direction=\"out\",opcode=\"ping\"": |it| it.frames_sent_ping,
        "direction=\"out\",opcode=\"pong\"": |it| it.frames_sent_pong,
    }
    counter "picows_payload_bytes" "bytes" "Payload of these frames, as applications see it." {
        "direction=\"in\"": |it| it.payload_received,
        "direction=\"out\"": |it| it.payload_sent,
    }
    counter "picows_wire_bytes" "bytes" "Bytes that arrived, and that the kernel took." {
        "direction=\"in\"": |it| it.bytes_received,
        "direction=\"out\"": |it| it.bytes_sent,
    }
    counter "picows_deflate_bytes" "bytes" "Bytes of compressed frames, in both forms." {
        "direction=\"in\",form=\"compressed\"": |it| it.bytes_before_expansion,
        "direction=\"in\",form=\"plain\"": |it| it.bytes_after_expansion,
        "direction=\"out\",form=\"compressed\"": |it| it.bytes_after_compression,
        "direction=\"out\",form=\"plain\"": |it| it.bytes_before_compression,
    }
    counter "picows_dropped_messages" "" "Data frames that were dropped or replaced in full queues." {
        "policy=\"drop_newest\"": |it| it.frames_dropped.saturating_sub(it.frames_dropped_oldest),
        "policy=\"drop_oldest\"": |it| it.frames_dropped_oldest,
        "policy=\"latest\"": |it| it.frames_conflated,
    }
    counter "picows_memory_evictions" "" "Connections that were ended by the memory limit." {
        "": |it| it.memory_evictions,
    }
    counter "picows_allocation_failures" "" "Connections that were ended as there was no memory at all." {
        "": |it| it.allocation_failures,
    }
    counter "picows_protocol_errors" "" "Connections whose peer broke the protocol." {
        "": |it| it.protocol_errors,
    }
    counter "picows_listener_errors" "" "Errors and panics of listeners." {
        "": |it| it.listener_errors,
    }
    counter "picows_stray_panics" "" "Panics of tasks, and of code outside of callbacks." {
        "": |it| it.task_panics + it.stray_panics,
    }
    counter "picows_slow_turns" "" "Turns as long as slow_callback or longer." {
        "": |it| it.slow_turns,
    }
    counter "picows_slow_callbacks" "" "Those of them with slow callbacks of one connection." {
        "": |it| it.slow_callbacks,
    }
    counter "picows_buffer_shortages" "" "Receives that found no buffer." {
        "": |it| it.buffer_shortages,
    }
    counter "picows_accept_pauses" "" "Pauses of accepting for lack of descriptors or memory." {
        "": |it| it.accept_pauses,
    }
    counter "picows_turns" "" "Turns of workers." {
        "": |it| it.turns,
    }
    counter "picows_ring_enters" "" "System calls into the ring." {
        "": |it| it.ring_enters,
    }
    counter "picows_sleeps" "" "Sleeps of workers." {
        "": |it| it.sleeps,
    }
    counter "picows_spins" "" "Looks at the ring while spinning." {
        "": |it| it.spins,
    }
};

/// A little more than an idle server has.
const TEXT_BYTES_USUAL: usize = 16 * 1024;
