//! Connection of a bus to NATS, made and watched, and the commands of the handles.
//!
//! Runs on any loop of tokio; which one is in `home.rs`.

use crate::home::Plan;
use crate::message::headers;
use crate::relay::Relay;
use crate::shared::{Command, Shared, cost};
use crate::stream::Log;
use async_nats::connection::State;
use async_nats::{Client, ClientError, ConnectOptions, Event, ServerAddr, ServerError};
use picows_uring::topics::{BusMessage, History, Inlet};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

/// Serves a bus until it is closed or all its handles are dropped.
pub(crate) async fn run(plan: &mut Plan, inlet: &Inlet) {
    let shared = Arc::clone(&plan.shared);
    let (sender, events) = unbounded_channel();
    // What is published here comes back to no subscription of this connection.
    let options = plan.options.clone().no_echo().event_callback(move |event| {
        let sender = sender.clone();
        // Its receiver is dropped when the bus has ended.
        async move { drop(sender.send(event)) }
    });
    let client =
        connect(&options, &plan.servers, &shared, &mut plan.commands, &mut plan.wanted).await;
    if let Some(client) = client {
        let context = (client.clone(), plan.subjects.clone(), inlet.clone(), Arc::clone(&shared));
        let carrier = match plan.jet_stream.clone() {
            None => Carrier::Relay(Relay::new(context)),
            Some(stream) => Carrier::Log(Log::new(stream, context)),
        };
        for (subject, history) in &plan.wanted {
            carrier.subscribe(subject.clone(), *history).await;
        }
        if std::mem::replace(&mut plan.was_connected, true) {
            shared.count_reconnects(1);
            plan.wanted.keys().for_each(|subject| carrier.on_moved(subject));
        }
        let mut monitor = Monitor { client: &client, carrier: &carrier, shared: &shared, seen: 0 };
        let commands = (&mut plan.commands, &mut plan.wanted);
        tokio::select! {
            () = obey(&client, &carrier, &shared, commands) => {}
            () = monitor.watch(events) => {}
            () = keep_presence(&client, plan.subjects.presence(), inlet, &shared) => {}
        }
    }
    shared.closed();
}

/// Exchanges presence, which a server may refuse: then the counts are of this process alone.
async fn keep_presence(client: &Client, subject: String, inlet: &Inlet, shared: &Shared) {
    crate::presence::run(client, subject, inlet, &shared.presence).await;
    tracing::warn!("NATS refuses to exchange presence");
    std::future::pending::<()>().await;
}

/// Connects, as often as it takes, and notes meanwhile which subjects are wanted. Returns `None` if the bus
/// is closed before.
async fn connect(
    options: &ConnectOptions,
    servers: &[ServerAddr],
    shared: &Shared,
    commands: &mut Commands,
    wanted: &mut Wanted,
) -> Option<Client> {
    let mut next_delay = CONNECT_DELAY_MIN;
    loop {
        let delay = next_delay;
        let attempt = async {
            match options.clone().connect(servers).await {
                Ok(client) => Some(client),
                Err(error) => {
                    shared.connecting(chain(&error));
                    sleep(delay).await;
                    None
                }
            }
        };
        tokio::pin!(attempt);
        let client = loop {
            tokio::select! {
                client = &mut attempt => break client,
                command = commands.next() => match command? {
                    Command::Subscribe(subject, history) => drop(wanted.insert(subject, history)),
                    Command::Unsubscribe(subject) => drop(wanted.remove(&subject)),
                    Command::Publish(_) => shared.count_unsent(),
                    Command::Close(done) => {
                        let _ = done.try_send(());
                        return None;
                    }
                },
            }
        };
        if client.is_some() {
            return client;
        }
        next_delay = (delay * 2).min(CONNECT_DELAY_MAX);
    }
}

/// The subjects that the hub has subscribers for, by the commands so far.
pub(crate) type Wanted = HashMap<String, History>;

/// Commands of the handles, in their order.
pub(crate) struct Commands {
    receiver: UnboundedReceiver<Command>,
    /// Of the messages among them.
    waiting_bytes: Arc<AtomicUsize>,
}

impl Commands {
    pub(crate) fn new(
        receiver: UnboundedReceiver<Command>,
        waiting_bytes: Arc<AtomicUsize>,
    ) -> Self {
        Self { receiver, waiting_bytes }
    }

    /// Whether there may be more of them: not all handles are dropped.
    pub(crate) fn are_open(&self) -> bool {
        !self.receiver.is_closed() || !self.receiver.is_empty()
    }

    /// Returns `None` once all handles are dropped.
    async fn next(&mut self) -> Option<Command> {
        let command = self.receiver.recv().await?;
        if let Command::Publish(message) = &command {
            self.waiting_bytes.fetch_sub(cost(message), Ordering::Relaxed);
        }
        Some(command)
    }
}

/// Obeys commands until the bus is closed.
async fn obey(
    client: &Client,
    carrier: &Carrier,
    shared: &Shared,
    (commands, wanted): (&mut Commands, &mut Wanted),
) {
    while let Some(command) = commands.next().await {
        match command {
            Command::Subscribe(subject, history) => {
                wanted.insert(subject.clone(), history);
                carrier.subscribe(subject, history).await;
            }
            Command::Unsubscribe(subject) => {
                wanted.remove(&subject);
                carrier.unsubscribe(&subject);
            }
            Command::Publish(message) => publish(client, carrier, shared, message).await,
            Command::Close(done) => {
                let _ = client.flush().await;
                let _ = done.try_send(());
                return;
            }
        }
    }
    let _ = timeout(FLUSH_TIMEOUT, client.flush()).await;
}

async fn publish(client: &Client, carrier: &Carrier, shared: &Shared, message: BusMessage) {
    let Some(headers) = headers(&message) else {
        shared.count_unsent();
        tracing::warn!(topic = message.topic, "not sent to NATS: it cannot carry such a header");
        return;
    };
    match carrier {
        Carrier::Relay(relay) => {
            let subject = relay.subjects.subject(&message.topic);
            match client.publish_with_headers(subject, headers, message.payload).await {
                Ok(()) => shared.count_sent(),
                Err(error) => {
                    shared.count_unsent();
                    let topic = message.topic;
                    tracing::warn!(topic, "not sent to NATS: {}", chain(&error));
                }
            }
        }
        Carrier::Log(log) => log.publish(message, headers).await,
    }
}

/// How publications travel.
enum Carrier {
    Relay(Relay),
    Log(Log),
}

impl Carrier {
    async fn subscribe(&self, subject: String, history: History) {
        match self {
            Self::Relay(relay) => relay.subscribe(subject).await,
            Self::Log(log) => log.subscribe(subject, history),
        }
    }

    fn unsubscribe(&self, subject: &str) {
        match self {
            Self::Relay(relay) => relay.unsubscribe(subject),
            Self::Log(log) => log.unsubscribe(subject),
        }
    }

    /// Another connection served a subject before.
    fn on_moved(&self, subject: &str) {
        match self {
            // Its first connection is a gap of all subjects, by itself.
            Self::Relay(_) => {}
            // How far the followers of that connection had got is not known.
            Self::Log(log) => log.gap(subject),
        }
    }
}

/// Watches the connection: its loss is a gap, as is what a subscription had no room for.
struct Monitor<'a> {
    client: &'a Client,
    carrier: &'a Carrier,
    shared: &'a Shared,
    /// Connections of the client that were accounted for.
    seen: u64,
}

impl Monitor<'_> {
    async fn watch(&mut self, mut events: UnboundedReceiver<Event>) {
        // Events may be lost, as async-nats bounds them: the state is looked at as well.
        let mut ticks = interval(CHECK_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let event = tokio::select! {
                event = events.recv() => event,
                _ = ticks.tick() => None,
            };
            match event {
                Some(Event::Disconnected) => self.shared.disconnected(None),
                Some(Event::ClientError(ClientError::Other(error)))
                    if self.client.connection_state() != State::Connected =>
                {
                    self.shared.disconnected(Some(error));
                }
                Some(Event::SlowConsumer(id)) => {
                    if let Carrier::Relay(relay) = self.carrier {
                        relay.gap_of(id);
                    }
                }
                Some(Event::ServerError(ServerError::Other(error))) => {
                    tracing::warn!("NATS refuses something: {error}");
                }
                _ => {}
            }
            self.check().await;
        }
    }

    async fn check(&mut self) {
        if self.client.connection_state() != State::Connected {
            if self.shared.is_connected() {
                self.shared.disconnected(None);
            }
            return;
        }
        let connects = self.client.statistics().connects.load(Ordering::Relaxed);
        let is_new = connects != self.seen;
        if is_new {
            self.shared.count_reconnects((connects - self.seen.max(1)).min(connects));
            self.seen = connects;
            // Behind the subscriptions, which are made anew: from its answer on nothing is missed.
            round_trip(self.client).await;
        }
        match self.carrier {
            Carrier::Relay(relay) if is_new => {
                relay.gap_of_all();
                self.shared.connected();
            }
            Carrier::Relay(_) => self.shared.connected(),
            Carrier::Log(log) => log.check(is_new).await,
        }
    }
}

/// Waits until the server has read all that was sent before: it answers that there is no responder.
async fn round_trip(client: &Client) {
    let subject = client.new_inbox();
    // An account that may not publish there has to wait.
    let _ = timeout(ROUND_TRIP_TIMEOUT, client.request(subject, "".into())).await;
}

/// An error and its causes, as one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let part = error.to_string();
        if !text.contains(&part) {
            text += &format!(": {part}");
        }
        cause = error.source();
    }
    text
}

const CONNECT_DELAY_MIN: Duration = Duration::from_millis(100);
const CONNECT_DELAY_MAX: Duration = Duration::from_secs(4);
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
const ROUND_TRIP_TIMEOUT: Duration = Duration::from_secs(2);
/// Limit of the last flush, when the handles are dropped.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);
