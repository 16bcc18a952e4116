//! The report: items in their order, as text and as JSON.

use super::files::Surroundings;
use super::{kernel, limits, machine, roots};
use crate::stdio::one_line;
use picows_uring::internal::preflight::Preflight;
use serde_json::{Map, Value, json};
use std::fmt::Write;

/// What an item means for a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// As it should be.
    Ok,
    /// A server starts, and may have less than it could.
    Note,
    /// No server starts.
    Problem,
}

impl Level {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Problem => "problem",
        }
    }
}

/// One thing that was examined. Names and keys of `values` are an interface: docs/guides/drivers.md.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) name: &'static str,
    pub(super) level: Level,
    pub(super) text: String,
    pub(super) cure: Option<String>,
    /// An object, with `null` for what is unknown.
    pub(super) values: Value,
}

impl Item {
    pub(super) fn new(name: &'static str, text: impl Into<String>, values: Value) -> Self {
        Self { name, level: Level::Ok, text: text.into(), cure: None, values }
    }

    /// The same with another level, for the reason that `cure` removes.
    pub(super) fn with(self, level: Level, cure: impl Into<String>) -> Self {
        Self { level, cure: Some(cure.into()), ..self }
    }
}

/// All items.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) items: Vec<Item>,
    driver: Option<&'static str>,
    workers: usize,
}

impl Report {
    pub(super) fn new(surroundings: &Surroundings, tried: &Preflight) -> Self {
        let mut items = kernel::items(surroundings, tried);
        items.extend(limits::items(surroundings, tried));
        items.extend(machine::items(surroundings));
        items.extend(roots::items(surroundings));
        let driver = tried.driver.as_ref().ok().map(|driver| driver.name());
        Self { items, driver, workers: tried.workers }
    }

    /// How many items keep a server from starting.
    pub(super) fn problems(&self) -> usize {
        self.items.iter().filter(|item| item.level == Level::Problem).count()
    }

    /// A line for each item, its cure below it, and a line for all of them.
    pub(super) fn to_text(&self) -> String {
        let mut text = String::new();
        let width = self.items.iter().map(|item| item.name.len()).max().unwrap_or(0);
        for item in &self.items {
            let Item { name, level, text: what, cure, .. } = item;
            let _ = writeln!(text, "{:<7}  {name:<width$}  {}", level.name(), one_line(what));
            if let Some(cure) = cure {
                let _ = writeln!(text, "{:<7}  {:<width$}  cure: {}", "", "", one_line(cure));
            }
        }
        let notes = self.items.iter().filter(|item| item.level == Level::Note).count();
        let _ = match (self.problems(), self.driver) {
            (0, Some(driver)) => {
                let workers = self.workers;
                writeln!(
                    text,
                    "A server would start: {driver}, workers: {workers}, notes: {notes}."
                )
            }
            (problems, _) => {
                writeln!(text, "A server would not start: problems: {problems}, notes: {notes}.")
            }
        };
        text
    }

    pub(super) fn to_json(&self) -> Value {
        let items = self.items.iter().map(|item| {
            let Item { name, level, text, cure, values } = item;
            let object =
                json!({ "level": level.name(), "text": text, "cure": cure, "values": values });
            ((*name).to_owned(), object)
        });
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "would_start": self.problems() == 0,
            "driver": self.driver,
            "workers": self.workers,
            "items": items.collect::<Map<_, _>>(),
        })
    }
}
