//! A listener that subscribes and publishes as its peer says, one command in each text frame.

use crate::common::Client;
use picows_uring::topics::{
    Format, Hub, Post, Recovery, SlowPolicy, Start, SubscribeOptions, Subscription,
};
use picows_uring::{Frame, Listener, ListenerResult, MsgType, Prepared, ServerBuilder, Transport};
use picows_uring::{ServerHandle, Upgrade};

/// A connection whose peer says what it does.
pub(crate) struct Member {
    hub: Hub,
    subscriptions: Vec<Subscription>,
}

/// Serves such connections.
pub(crate) fn serve(builder: ServerBuilder, hub: &Hub) -> ServerHandle {
    let hub = hub.clone();
    builder.start(move |_: &_| Upgrade::accept(member(&hub))).expect("the server starts")
}

pub(crate) fn member(hub: &Hub) -> Member {
    Member { hub: hub.clone(), subscriptions: Vec::new() }
}

impl Listener for Member {
    fn on_frame(&mut self, transport: &Transport, frame: &Frame<'_>) -> ListenerResult {
        let text = String::from_utf8_lossy(frame.payload()).into_owned();
        let mut words = text.splitn(3, ' ');
        let mut word = || words.next().unwrap_or_default();
        match (word(), word(), word()) {
            ("sub", subject, options) => self.subscribe(transport, subject, options)?,
            ("unsub", subject, _) => self.subscriptions.retain(|it| it.subject() != subject),
            ("pub", topic, payload) => {
                let post = Post::text(payload.to_owned()).header("length", payload);
                self.hub.publish(topic, post)?;
            }
            ("others", topic, payload) => {
                self.hub.publish_except(transport, topic, Post::text(payload.to_owned()))?;
            }
            ("between", topic, large) => {
                let large = vec![b'1'; large.parse().unwrap_or(1)];
                transport.send(MsgType::Binary, large);
                self.hub.publish(topic, Post::text("2"))?;
                transport.send_text("3");
            }
            // By another thread, which is waited for.
            ("remote", subject, _) => {
                let mut subscriptions = self.subscriptions.iter();
                let found = subscriptions.find(|it| it.subject() == subject).ok_or("no such")?;
                let remote = found.remote();
                let other = std::thread::spawn(move || {
                    remote.unsubscribe();
                    remote.clone().unsubscribe();
                });
                other.join().expect("it does not panic");
            }
            ("active", ..) => {
                let active = self.subscriptions.iter().filter(|it| it.is_active()).count();
                transport.send_text(format!("active {active}"));
            }
            ("say", text, _) => drop(transport.send_text(text)),
            ("counts", ..) => {
                let count = |count: fn(&Subscription) -> u64| {
                    self.subscriptions.iter().map(count).sum::<u64>()
                };
                let (dropped, conflated) =
                    (count(Subscription::dropped), count(Subscription::conflated));
                transport.send_text(format!("dropped {dropped} conflated {conflated}"));
            }
            other => panic!("{other:?} is no command"),
        }
        Ok(())
    }
}

impl Member {
    /// Subscribes, and answers with what came of it.
    fn subscribe(&mut self, transport: &Transport, subject: &str, wanted: &str) -> ListenerResult {
        let mut options = SubscribeOptions::new();
        for option in wanted.split(' ').filter(|it| !it.is_empty()) {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            let number = || value.parse().unwrap_or(0);
            options = match name {
                "from" => options.start(Start::From(value.parse()?)),
                "last" => options.start(Start::Last(number())),
                "history" => options.start(Start::History),
                "close" => options.policy(SlowPolicy::Close { bytes: Some(number()) }),
                "oldest" => options.policy(SlowPolicy::drop_oldest(number())),
                "latest" => options.policy(SlowPolicy::latest()),
                "latest_by_key" => options.policy(SlowPolicy::latest_by_key()),
                "contains" => {
                    let value = value.to_owned();
                    options
                        .filter(move |it| it.header("length").is_some_and(|it| it.contains(&value)))
                }
                "missed" => options.on_missed(|transport, missed| {
                    let text = format!("missed {:?} of {}", missed.count(), missed.topic());
                    transport.send_text(&text);
                }),
                "positions" => options.format(positions()),
                _ => panic!("{name} is no option"),
            };
        }
        let options = options.on_start(|transport, recovery| {
            transport.send_text(match recovery {
                Recovery::New { position } => format!("new {position}"),
                Recovery::Recovered { count, position } => format!("recovered {count} {position}"),
                Recovery::Lost { position } => format!("lost {position}"),
                other => format!("{other:?}"),
            });
        });
        self.subscriptions.push(self.hub.subscribe(transport, subject, options)?);
        Ok(())
    }
}

/// The position in front of each message; one format for all.
fn positions() -> Format {
    static FORMAT: std::sync::OnceLock<Format> = std::sync::OnceLock::new();
    let format = FORMAT.get_or_init(|| {
        Format::new(|publication| {
            let position = publication.position().to_string();
            Prepared::new(
                MsgType::Text,
                [position.as_bytes(), b" ", publication.payload()].concat(),
            )
        })
    });
    format.clone()
}

/// The client's side.
impl Client {
    /// Subscribes, and returns what came of it.
    #[track_caller]
    pub(crate) fn subscribe(&mut self, subject: &str, options: &str) -> String {
        self.send_text(&format!("sub {subject} {options}"));
        self.text()
    }

    /// The next frame is text.
    #[track_caller]
    pub(crate) fn text(&mut self) -> String {
        let got = self.receive();
        assert_eq!(got.head.msg_type, MsgType::Text, "{got:?}");
        String::from_utf8(got.payload).expect("text")
    }

    /// So many texts.
    #[track_caller]
    pub(crate) fn texts(&mut self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.text()).collect()
    }
}
