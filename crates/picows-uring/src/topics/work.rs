//! Work of a worker: runs of publications, and what else happened in topics, in order.

use super::backlog::Misses;
use super::inbox::Delivery;
use super::options::Format;
use super::post::Publication;
use crate::foreign::{self, StateCell};
use crate::prepared::Prepared;
use crate::ring::Token;
use crate::session::RunCounts;
use bytes::{Bytes, BytesMut};
use picows_uring_proto::MsgType;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

/// Something that the subscriptions to some subjects are to get, one after the other.
#[derive(Debug)]
pub(super) struct Work {
    /// The number of its first entry in the inbox.
    pub(super) first: u64,
    pub(super) channels: Arc<[u64]>,
    pub(super) kind: Kind,
}

#[derive(Debug)]
pub(super) enum Kind {
    Run(Run),
    /// Of the topic with this number.
    Gap(u64, Misses),
    /// The past is here.
    Ready,
}

/// Publications of one topic, which leave together.
#[derive(Debug, Default)]
pub(super) struct Run {
    topic_id: u64,
    /// Publications that it takes.
    max: usize,
    items: StateCell<Vec<Item>>,
    bytes: Cell<usize>,
    has_except: Cell<bool>,
    formats: StateCell<Vec<Formatted>>,
}

/// A publication of a run.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) number: u64,
    pub(super) publication: Publication,
    /// The connection that does not get it.
    pub(super) except: Option<Token>,
}

/// What is sent for the publications of a run in one format.
#[derive(Debug, Default)]
struct Formatted {
    format: usize,
    messages: Vec<Option<Prepared>>,
    joined: Option<Joined>,
}

/// The frames of a run, one behind the other.
#[derive(Clone, Debug)]
pub(super) struct Joined {
    pub(super) bytes: Bytes,
    pub(super) counts: RunCounts,
}

impl Work {
    pub(super) fn run(number: u64, delivery: Delivery) -> Rc<Self> {
        let channels = Arc::clone(&delivery.channels);
        let run = Run {
            topic_id: delivery.publication.topic_id(),
            max: delivery.batching.max,
            ..Run::default()
        };
        run.push(number, delivery);
        Rc::new(Self { first: number, channels, kind: Kind::Run(run) })
    }

    /// Adds a publication to a run that no subscription has got as a whole, if it goes to the same ones
    /// and there is room.
    pub(super) fn join(&self, number: u64, delivery: Delivery) -> Result<(), Delivery> {
        match &self.kind {
            Kind::Run(run)
                if Arc::ptr_eq(&self.channels, &delivery.channels)
                    && run.has_room(&delivery.publication) =>
            {
                run.push(number, delivery);
                Ok(())
            }
            _ => Err(delivery),
        }
    }

    /// Publications in it.
    pub(super) fn len(&self) -> usize {
        match &self.kind {
            Kind::Run(run) => run.len(),
            Kind::Gap(..) | Kind::Ready => 0,
        }
    }

    /// Whether nothing can be added.
    pub(super) fn is_full(&self) -> bool {
        !matches!(&self.kind, Kind::Run(run) if !run.is_full())
    }
}

impl Run {
    pub(super) const fn topic_id(&self) -> u64 {
        self.topic_id
    }

    /// Whether nothing more fits.
    pub(super) fn is_full(&self) -> bool {
        self.len() >= self.max || self.bytes.get() >= RUN_BYTES_MAX
    }

    fn push(&self, number: u64, delivery: Delivery) {
        let Delivery { publication, except, .. } = delivery;
        self.bytes.set(self.bytes.get() + publication.message().frame().len());
        self.has_except.set(self.has_except.get() || except.is_some());
        self.items.borrow_mut().push(Item { number, publication, except });
        for formatted in self.formats.borrow_mut().iter_mut() {
            formatted.joined = None;
        }
    }

    fn has_room(&self, publication: &Publication) -> bool {
        self.len() < self.max
            && self.bytes.get() + publication.message().frame().len() <= RUN_BYTES_MAX
    }

    pub(super) fn len(&self) -> usize {
        self.items.borrow().len()
    }

    pub(super) fn item(&self, index: usize) -> Option<Item> {
        self.items.borrow().get(index).cloned()
    }

    /// Whether some connection does not get all of it.
    pub(super) fn has_except(&self) -> bool {
        self.has_except.get()
    }

    /// What is sent for a publication in a format other than its own.
    pub(super) fn message(&self, index: usize, format: &Format) -> Option<Prepared> {
        let made = {
            let formats = self.formats.borrow();
            let formatted = formats.iter().find(|it| it.format == format.id());
            formatted.and_then(|it| it.messages.get(index).cloned())
        };
        made.unwrap_or_else(|| self.make(index, format))
    }

    /// Formats all publications up to `index`, with nothing borrowed meanwhile.
    fn make(&self, index: usize, format: &Format) -> Option<Prepared> {
        loop {
            let next = {
                let mut formats = self.formats.borrow_mut();
                let at = formats.iter().position(|it| it.format == format.id());
                let at = at.unwrap_or_else(|| {
                    formats.push(Formatted { format: format.id(), ..Formatted::default() });
                    formats.len() - 1
                });
                formats[at].messages.len()
            };
            if next > index {
                return self.formats.borrow().iter().find(|it| it.format == format.id())?.messages
                    [index]
                    .clone();
            }
            let message = formatted(format, &self.item(next)?.publication);
            let mut formats = self.formats.borrow_mut();
            if let Some(it) = formats.iter_mut().find(|it| it.format == format.id())
                && it.messages.len() == next
            {
                it.messages.push(message);
            }
        }
    }

    /// All of it in one run of bytes, which is made once for all that take it.
    pub(super) fn joined(&self, format: Option<&Format>) -> Joined {
        let id = format.map_or(0, Format::id);
        let made = {
            let formats = self.formats.borrow();
            formats.iter().find(|it| it.format == id).and_then(|it| it.joined.clone())
        };
        if let Some(joined) = made {
            return joined;
        }
        let messages: Vec<_> = (0..self.len())
            .filter_map(|index| match format {
                None => Some(self.item(index)?.publication.message().clone()),
                Some(format) => self.message(index, format),
            })
            .collect();
        let joined = join(&messages);
        let mut formats = self.formats.borrow_mut();
        match formats.iter_mut().find(|it| it.format == id) {
            Some(it) => it.joined = Some(joined.clone()),
            None => formats.push(Formatted {
                format: id,
                joined: Some(joined.clone()),
                ..Formatted::default()
            }),
        }
        joined
    }
}

fn join(messages: &[Prepared]) -> Joined {
    let texts = messages.iter().filter(|it| it.head().msg_type == MsgType::Text).count();
    let payload_bytes = messages.iter().map(|it| it.text().len()).sum();
    let counts = RunCounts { frames: messages.len(), texts, payload_bytes };
    if let [message] = messages {
        return Joined { bytes: message.frame().clone(), counts };
    }
    let mut bytes = BytesMut::with_capacity(messages.iter().map(|it| it.frame().len()).sum());
    messages.iter().for_each(|it| bytes.extend_from_slice(it.frame()));
    Joined { bytes: bytes.freeze(), counts }
}

/// What is sent for a publication in a format; `None` if that fails.
pub(super) fn formatted(format: &Format, publication: &Publication) -> Option<Prepared> {
    let mut message = None;
    foreign::run("format", publication.topic(), || message = format.apply(publication).ok());
    message
}

/// As much as a socket takes at once, so that what it refuses is little.
const RUN_BYTES_MAX: usize = 64 * 1024;
