//! The bus to other nodes, `--nats`.
//!
//! A build without the feature `nats` has the types, and none of the flags.

use crate::fault::Fault;
use picows_uring::topics::{History, Hub};
use serde_json::Value;

#[cfg(feature = "nats")]
pub(super) use present::{Flags, Nodes};

#[cfg(not(feature = "nats"))]
pub(super) use absent::{Flags, Nodes};

#[cfg(feature = "nats")]
mod present {
    use super::{Fault, History, Hub, Value};
    use crate::fault::Usage;
    use crate::stdio::note;
    use picows_uring_nats::async_nats::ConnectOptions;
    use picows_uring_nats::{JetStream, NatsBus, NatsStatus};
    use serde_json::json;
    use std::path::PathBuf;
    use std::sync::Arc;
    use std::time::Duration;

    /// Flags of the bus.
    #[derive(Clone, Debug, Default, clap::Args)]
    pub(crate) struct Flags {
        /// Share the topics with all nodes on this NATS server, such as nats://10.0.0.5:4222 or tls://…;
        /// several of a cluster are divided by commas. While it cannot be reached topics go on in this
        /// process, and /readyz answers 503
        #[arg(long, value_name = "URL", help_heading = HEADING)]
        nats: Option<String>,

        /// User and password, or a token, for the NATS server: USER:PASSWORD, or TOKEN, in this file
        #[arg(long, value_name = "FILE", requires = "nats", help_heading = HEADING)]
        nats_auth_file: Option<PathBuf>,

        /// What subjects begin with: topic a.b is subject PREFIX.a.b [default: picows]
        #[arg(long, value_name = "PREFIX", requires = "nats", help_heading = HEADING)]
        nats_prefix: Option<String>,

        /// Keep the history in this stream of JetStream, for all nodes; it is made with the limits of
        /// --history if it is not there
        #[arg(long, value_name = "STREAM", requires = "nats", help_heading = HEADING)]
        nats_stream: Option<String>,

        /// Servers of a NATS cluster that have a copy of the stream, if it is made: of 3, one may be lost
        #[arg(long, value_name = "N", requires = "nats_stream", default_value_t = 1,
              value_parser = clap::value_parser!(u8).range(1..=5), help_heading = HEADING)]
        nats_replicas: u8,
    }

    /// The other nodes, as this one sees them.
    pub(crate) struct Nodes(Option<Arc<NatsBus>>);

    impl Flags {
        /// Attaches a hub to the bus, if there is one, and waits a moment for its connection.
        pub(crate) fn attach_to(&self, hub: &Hub, history: History) -> Result<Nodes, Fault> {
            let Some(url) = &self.nats else { return Ok(Nodes(None)) };
            let mut builder = NatsBus::builder(url).on_status(report);
            if let Some(prefix) = &self.nats_prefix {
                builder = builder.prefix(prefix);
            }
            if let Some(file) = &self.nats_auth_file {
                let text = std::fs::read_to_string(file);
                let text = text.map_err(|error| {
                    Usage(format!("--nats-auth-file {}: {error}", file.display()))
                })?;
                builder = builder.options(credentials(text.trim()));
            }
            if let Some(name) = &self.nats_stream {
                builder =
                    builder.jet_stream(stream(name, history).replicas(self.nats_replicas.into()));
            }
            let bus = builder.build().map_err(|error| Usage(format!("--nats: {error}")))?;
            hub.attach(Arc::clone(&bus) as Arc<_>)?;
            bus.wait_connected(CONNECT_WAIT);
            Ok(Nodes(Some(bus)))
        }
    }

    impl Nodes {
        /// Why other nodes cannot be reached now.
        pub(crate) fn fault(&self) -> Option<String> {
            let status = self.0.as_ref()?.status();
            let is_there = matches!(status, NatsStatus::Connected { .. });
            (!is_there).then(|| status.to_string())
        }

        pub(crate) fn progress(&self) -> String {
            let Some(bus) = &self.0 else { return String::new() };
            let stats = bus.stats();
            let state = if self.fault().is_none() { "connected" } else { "not connected" };
            format!(
                ", NATS {state}, sent {}, received {}, gaps {}",
                stats.sent, stats.received, stats.gaps
            )
        }

        pub(crate) fn to_json(&self) -> Option<Value> {
            let bus = self.0.as_ref()?;
            let stats = bus.stats();
            Some(json!({
                "connected": self.fault().is_none(),
                "status": bus.status().to_string(),
                "sent": stats.sent,
                "unsent": stats.unsent,
                "received": stats.received,
                "malformed": stats.malformed,
                "gaps": stats.gaps,
                "reconnects": stats.reconnects,
            }))
        }

        /// Hands what is queued to the server.
        pub(crate) fn close(&self) {
            if let Some(bus) = &self.0 {
                bus.close(CLOSE_WAIT);
            }
        }
    }

    /// The options of a connection with `USER:PASSWORD`, or with a token.
    fn credentials(text: &str) -> ConnectOptions {
        let options = NatsBus::connect_options();
        match text.split_once(':') {
            Some((user, password)) => {
                options.user_and_password(user.to_owned(), password.to_owned())
            }
            None => options.token(text.to_owned()),
        }
    }

    /// The stream, with the limits of a topic's history if it has to be made.
    fn stream(name: &str, history: History) -> JetStream {
        let mut stream = JetStream::new(name);
        if history.count > 0 {
            stream = stream.per_topic(u32::try_from(history.count).unwrap_or(u32::MAX));
        }
        match history.age {
            Some(age) => stream.age(age),
            None => stream,
        }
    }

    /// Reports each change of the connection.
    fn report(status: &NatsStatus) {
        note(format_args!("{status}"));
    }

    const HEADING: &str = "Nodes";
    /// Wait for the first connection before the server listens.
    const CONNECT_WAIT: Duration = Duration::from_secs(2);
    const CLOSE_WAIT: Duration = Duration::from_secs(1);
}

#[cfg(not(feature = "nats"))]
mod absent {
    use super::{Fault, History, Hub, Value};

    /// Flags of the bus: none.
    #[derive(Clone, Debug, Default, clap::Args)]
    pub(crate) struct Flags {}

    /// The other nodes: none.
    pub(crate) struct Nodes;

    impl Flags {
        pub(crate) fn attach_to(&self, _: &Hub, _: History) -> Result<Nodes, Fault> {
            Ok(Nodes)
        }
    }

    impl Nodes {
        pub(crate) fn fault(&self) -> Option<String> {
            None
        }

        pub(crate) fn progress(&self) -> String {
            String::new()
        }

        pub(crate) fn to_json(&self) -> Option<Value> {
            None
        }

        pub(crate) fn close(&self) {}
    }
}
