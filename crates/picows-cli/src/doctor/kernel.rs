//! The kernel: its driver for us, what may forbid io_uring, and what its io_uring can do.

use super::files::{Files, Surroundings};
use super::report::{Item, Level};
use picows_uring::Driver;
use picows_uring::internal::preflight::Preflight;
use serde_json::{Map, Value, json};

pub(super) fn items(surroundings: &Surroundings, tried: &Preflight) -> Vec<Item> {
    let files = &surroundings.files;
    let items = [
        kernel(files),
        driver(surroundings, tried),
        switch(files),
        seccomp(files),
        security_module(files),
        features(tried),
    ];
    items.into_iter().map(|item| judge(item, tried)).collect()
}

/// Whether a seccomp filter watches the calls of this process.
pub(super) fn has_filter(files: &Files) -> bool {
    files.status("Seccomp").as_deref() == Some("2")
}

/// What keeps io_uring away is a note where epoll does instead, and else a problem.
fn judge(item: Item, tried: &Preflight) -> Item {
    let refusal = tried.driver.as_ref().err().or(tried.fallback.as_ref());
    let Some(refusal) = refusal else { return item };
    let guilty = match refusal.cause {
        "switch" => "io_uring_switch",
        "filter" | "kill" => "seccomp",
        "module" => "security_module",
        _ => return item,
    };
    let level = if tried.driver.is_err() { Level::Problem } else { Level::Note };
    if item.name == guilty { item.with(level, &refusal.text) } else { item }
}

fn kernel(files: &Files) -> Item {
    let release = files.text("/proc/sys/kernel/osrelease").map(|text| text.trim().to_owned());
    let architecture = std::env::consts::ARCH;
    let text = format!("Linux {}, {architecture}", release.as_deref().unwrap_or("(unknown)"));
    Item::new("kernel", text, json!({ "release": release, "architecture": architecture }))
}

fn driver(surroundings: &Surroundings, tried: &Preflight) -> Item {
    let wanted = match surroundings.asked_by {
        "flag" => format!("--driver {}", tried.asked),
        "environment" => format!("PICOWS_DRIVER={}", tried.asked),
        _ => format!("{} (no driver was asked for)", tried.asked),
    };
    let refusal = tried.driver.as_ref().err().or(tried.fallback.as_ref());
    let values = json!({
        "asked": tried.asked.name(),
        "asked_by": surroundings.asked_by,
        "chosen": tried.driver.as_ref().ok().map(|driver| driver.name()),
        "cause": refusal.map(|refusal| refusal.cause),
        "restricted": tried.is_restricted,
        "workers": tried.workers,
        "workers_wanted": surroundings.workers,
    });
    let item = |text: String| Item::new("driver", text, values.clone());
    match (&tried.driver, &tried.fallback) {
        (Err(refusal), _) => {
            item(format!("none, for {wanted}")).with(Level::Problem, &refusal.text)
        }
        (Ok(driver), Some(refusal)) => {
            let cure = format!("{}; --driver epoll asks for epoll without a warning", refusal.text);
            item(format!("{driver}, for {wanted}: io_uring cannot be used")).with(Level::Note, cure)
        }
        (Ok(Driver::Epoll), None) => {
            item(format!("epoll, for {wanted}: no call of io_uring was made"))
        }
        (Ok(driver), None) if tried.is_restricted == Some(false) => {
            item(format!("{driver}, for {wanted}: a ring was set up and used, unrestricted"))
                .with(Level::Note, UNRESTRICTED)
        }
        (Ok(driver), None) => item(format!("{driver}, for {wanted}: a ring was set up and used")),
    }
}

fn switch(files: &Files) -> Item {
    let disabled = files.number("/proc/sys/kernel/io_uring_disabled");
    let group = files.number("/proc/sys/kernel/io_uring_group");
    let text = match (disabled, group) {
        (None, _) => "kernel.io_uring_disabled cannot be read: added in Linux 6.6".to_owned(),
        (Some(0), _) => "kernel.io_uring_disabled is 0: open to all processes".to_owned(),
        (Some(1), Some(group)) if group >= 0 => {
            format!("kernel.io_uring_disabled is 1: only CAP_SYS_ADMIN and the group {group}")
        }
        (Some(1), _) => "kernel.io_uring_disabled is 1: only CAP_SYS_ADMIN".to_owned(),
        (Some(value), _) => format!("kernel.io_uring_disabled is {value}: closed to all processes"),
    };
    Item::new("io_uring_switch", text, json!({ "disabled": disabled, "group": group }))
}

fn seccomp(files: &Files) -> Item {
    let number = |name| files.status(name).and_then(|value| value.parse::<u32>().ok());
    let (mode, filters) = (number("Seccomp"), number("Seccomp_filters"));
    let no_new_privs = number("NoNewPrivs").map(|value| value == 1);
    let what = match mode {
        Some(0) => "no filter".to_owned(),
        Some(1) => "strict mode".to_owned(),
        Some(2) => filters.map_or("filtered".to_owned(), |count| format!("filters: {count}")),
        _ => "unknown, as /proc/self/status cannot be read".to_owned(),
    };
    let privileges = match no_new_privs {
        Some(true) => ", no_new_privs is set",
        Some(false) => ", no_new_privs is not set",
        None => "",
    };
    let values = json!({ "mode": mode, "filters": filters, "no_new_privs": no_new_privs });
    Item::new("seccomp", format!("{what}{privileges}"), values)
}

fn security_module(files: &Files) -> Item {
    let modules: Option<Vec<String>> = files
        .text("/sys/kernel/security/lsm")
        .map(|text| text.trim().split(',').map(str::to_owned).collect());
    // SELinux ends its label with a zero byte.
    let label = files.text("/proc/self/attr/current");
    let label = label.map(|text| text.trim_matches(['\0', '\n', ' ']).to_owned());
    let label = label.filter(|text| !text.is_empty());
    let active = modules.as_deref().map_or("unknown".to_owned(), |names| names.join(","));
    let of = label.as_deref().map_or(String::new(), |label| format!(", label {label}"));
    let values = json!({ "modules": modules, "label": label });
    Item::new("security_module", format!("{active}{of}"), values)
}

fn features(tried: &Preflight) -> Item {
    let answers: Map<String, Value> = FEATURES
        .iter()
        .map(|name| {
            let found = tried.features.iter().find(|(known, _)| known == name);
            ((*name).to_owned(), json!(found.and_then(|(_, answer)| *answer)))
        })
        .collect();
    let has_whole_buffers = answers["incremental_buffers"] == false;
    let words = FEATURES.iter().map(|name| {
        let answer = match &answers[*name] {
            Value::Bool(true) => "yes",
            Value::Bool(false) => "no",
            _ => "unknown",
        };
        format!("{name} {answer}")
    });
    let text = if tried.features.is_empty() {
        "of io_uring: not tried, as there is no ring".to_owned()
    } else {
        words.collect::<Vec<_>>().join(", ")
    };
    let item = Item::new("features", text, Value::Object(answers));
    if has_whole_buffers {
        let cure = "Linux 6.12 or later receives with less memory";
        return item.with(Level::Note, cure);
    }
    item
}

/// Of a ring without restrictions.
const UNRESTRICTED: &str = "this kernel refuses IORING_REGISTER_RESTRICTIONS (Linux 5.10): the rings can do \
     whatever io_uring can, not only what workers do with sockets";
/// As the library names them.
const FEATURES: [&str; 5] =
    ["incremental_buffers", "min_wait", "napi", "no_iowait", "restrictions"];
