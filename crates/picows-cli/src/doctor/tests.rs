//! Reports of machines that are folders of files.

use super::files::{Files, Surroundings};
use super::report::{Item, Level, Report};
use picows_uring::Driver;
use picows_uring::internal::preflight::{Preflight, Refusal};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

/// A root of these files, which is removed in the end.
struct Root(PathBuf);

impl Root {
    fn new(files: &[(&str, &str)]) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("picows-doctor-{}-{number}", std::process::id());
        let root = Self(std::env::temp_dir().join(name));
        std::fs::create_dir_all(&root.0).unwrap();
        for (path, text) in files {
            let path = root.0.join(path.trim_start_matches('/'));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        root
    }

    /// A machine of these files, with two workers by default.
    fn surroundings(&self) -> Surroundings {
        let files = Files::below(&self.0);
        Surroundings {
            limits: files.text("/proc/self/limits").unwrap_or_default(),
            files,
            asked_by: "default",
            workers: 2,
            is_static: false,
            roots: [None, None],
        }
    }

    fn report(&self, tried: &Preflight) -> Report {
        Report::new(&self.surroundings(), tried)
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn on(driver: Driver) -> Preflight {
    let features = ["incremental_buffers", "min_wait", "napi", "no_iowait", "restrictions"];
    let features = match driver {
        Driver::IoUring => features.map(|name| (name, Some(true))).to_vec(),
        _ => Vec::new(),
    };
    let is_restricted = (driver == Driver::IoUring).then_some(true);
    Preflight {
        asked: driver,
        driver: Ok(driver),
        fallback: None,
        is_restricted,
        features,
        workers: 2,
    }
}

fn refusal(cause: &'static str) -> Refusal {
    Refusal { cause, text: format!("the cure of {cause}") }
}

/// io_uring refused where `Auto` may take epoll.
fn fell_back(cause: &'static str) -> Preflight {
    let fallback = Some(refusal(cause));
    Preflight { asked: Driver::Auto, fallback, ..on(Driver::Epoll) }
}

/// No driver at all.
fn refused(cause: &'static str) -> Preflight {
    Preflight { driver: Err(refusal(cause)), workers: 0, ..fell_back(cause) }
}

impl Report {
    fn item(&self, name: &str) -> &Item {
        self.items.iter().find(|item| item.name == name).unwrap()
    }

    /// The names of items of this level.
    fn of(&self, level: Level) -> Vec<&str> {
        self.items.iter().filter(|item| item.level == level).map(|item| item.name).collect()
    }
}

/// What most machines have.
const USUAL: [(&str, &str); 12] = [
    ("/proc/sys/kernel/osrelease", "6.12.0\n"),
    ("/proc/sys/kernel/io_uring_disabled", "0\n"),
    ("/proc/sys/kernel/io_uring_group", "-1\n"),
    ("/proc/self/status", STATUS),
    ("/proc/self/limits", LIMITS),
    ("/proc/self/cgroup", "0::/\n"),
    ("/proc/meminfo", "MemTotal:        4194304 kB\n"),
    ("/proc/sys/net/ipv4/ip_local_port_range", "32768\t60999\n"),
    ("/proc/sys/net/core/somaxconn", "4096\n"),
    ("/proc/sys/net/ipv4/tcp_max_syn_backlog", "1024\n"),
    ("/sys/devices/system/cpu/online", "0-3\n"),
    ("/etc/ssl/certs/ca-certificates.crt", "-----BEGIN CERTIFICATE-----\n"),
];
const STATUS: &str = "Name:\tpicows\nCapEff:\t0000000000000000\nNoNewPrivs:\t0\nSeccomp:\t0\n\
                      Seccomp_filters:\t0\nCpus_allowed_list:\t0,2-3\n";
const LIMITS: &str = "\
Limit                     Soft Limit           Hard Limit           Units     
Max locked memory         8388608              8388608              bytes     
Max address space         unlimited            unlimited            bytes     
Max open files            1024                 524288               files     
";

/// The usual machine with other files in the place of some.
fn usual_but(files: &[(&str, &str)]) -> Root {
    let mut all = USUAL.to_vec();
    all.retain(|(path, _)| files.iter().all(|(other, _)| other != path));
    all.extend(files);
    Root::new(&all)
}

#[test]
fn a_usual_machine_is_fine() {
    let report = usual_but(&[]).report(&on(Driver::IoUring));
    assert_eq!(report.of(Level::Ok).len(), report.items.len(), "{}", report.to_text());
    assert!(report.items.iter().all(|item| item.cure.is_none()), "{}", report.to_text());
    let text = report.to_text();
    assert!(text.ends_with("A server would start: io-uring, workers: 2, notes: 0.\n"), "{text}");
    assert_eq!(report.item("cpu").values["allowed"], 3);
    assert_eq!(report.item("memory").values["memory_limit"], 2_u64 << 30);
    assert_eq!(report.item("descriptors").values["connections"], 524_288 - 2 * 7 - 16);
    assert_eq!(report.item("locked_memory").values["workers"], 37);
}

#[test]
fn a_ring_without_restrictions_is_a_note() {
    let tried = Preflight { is_restricted: Some(false), ..on(Driver::IoUring) };
    let report = usual_but(&[]).report(&tried);
    assert_eq!(report.of(Level::Note), ["driver"], "{}", report.to_text());
    assert!(report.item("driver").text.ends_with("used, unrestricted"));
    assert_eq!(report.item("driver").values["restricted"], false);
    assert_eq!(report.to_json()["would_start"], true);
    let tried = on(Driver::Epoll);
    assert_eq!(usual_but(&[]).report(&tried).item("driver").values["restricted"], Value::Null);
}

/// Names of items, and of their values.
const KEYS: [(&str, &[&str]); 15] = [
    ("backlog", &["somaxconn", "tcp_max_syn_backlog"]),
    ("container", &["hints", "kind"]),
    ("cpu", &["allowed", "online", "quota", "workers"]),
    ("descriptors", &["connections", "hard", "soft"]),
    (
        "driver",
        &["asked", "asked_by", "cause", "chosen", "restricted", "workers", "workers_wanted"],
    ),
    ("ephemeral_ports", &["count", "high", "low"]),
    ("features", &["incremental_buffers", "min_wait", "napi", "no_iowait", "restrictions"]),
    ("io_uring_switch", &["disabled", "group"]),
    ("kernel", &["architecture", "release"]),
    ("locked_memory", &["hard", "is_exempt", "kib_per_worker", "soft", "workers"]),
    ("memory", &["address_space", "cgroup", "machine", "memory_limit"]),
    ("names", &["hosts", "resolv_conf", "static"]),
    ("seccomp", &["filters", "mode", "no_new_privs"]),
    ("security_module", &["label", "modules"]),
    ("tls_roots", &["certificates", "directory", "file"]),
];

#[test]
fn json_has_the_same_keys_on_every_machine_and_the_guide_names_them() {
    let guide = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/guides/drivers.md");
    let guide = std::fs::read_to_string(guide).unwrap();
    let roots = [usual_but(&[]), Root::new(&[])];
    for tried in [on(Driver::IoUring), on(Driver::Epoll), fell_back("filter"), refused("memory")] {
        for root in &roots {
            let json = root.report(&tried).to_json();
            let keys =
                |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
            assert_eq!(keys(&json), ["driver", "items", "version", "workers", "would_start"]);
            assert_eq!(keys(&json["items"]), KEYS.map(|(name, _)| name));
            for (name, values) in KEYS {
                let item = &json["items"][name];
                assert_eq!(keys(item), ["cure", "level", "text", "values"], "{name}");
                assert_eq!(keys(&item["values"]), values, "{name}");
                for key in values.iter().chain([&name]) {
                    assert!(
                        guide.contains(&format!("`{key}`")),
                        "drivers.md names {key} of {name}"
                    );
                }
            }
        }
    }
}

#[test]
fn what_cannot_be_read_is_unknown_and_no_problem() {
    let report = Root::new(&[]).report(&on(Driver::Epoll));
    assert_eq!(report.problems(), 0);
    let nulls = ["kernel/release", "io_uring_switch/disabled", "seccomp/mode", "memory/cgroup"];
    for path in nulls.into_iter().chain(["descriptors/soft", "cpu/quota", "backlog/somaxconn"]) {
        let (name, key) = path.split_once('/').unwrap();
        assert_eq!(report.item(name).values[key], Value::Null, "{path}");
    }
    assert_eq!(report.of(Level::Note), ["memory", "tls_roots"], "{}", report.to_text());
}

#[test]
fn what_is_malformed_is_unknown() {
    let report = usual_but(&[
        ("/proc/sys/kernel/io_uring_disabled", "perhaps\n"),
        ("/proc/self/limits", "Max open files\nMax locked memory  much  more\n"),
        ("/proc/self/status", "CapEff:\tzz\nSeccomp:\t-1\nCpus_allowed_list:\t3-1,x\n"),
        ("/proc/self/cgroup", "rubbish\n0:\n::\n"),
        ("/proc/sys/net/ipv4/ip_local_port_range", "60999\n"),
        ("/sys/devices/system/cpu/online", "0-18446744073709551615\n"),
    ])
    .report(&on(Driver::IoUring));
    assert_eq!(report.problems(), 0, "{}", report.to_text());
    for (name, key) in [
        ("io_uring_switch", "disabled"),
        ("descriptors", "soft"),
        ("locked_memory", "soft"),
        ("locked_memory", "is_exempt"),
        ("seccomp", "mode"),
        ("cpu", "allowed"),
        ("cpu", "online"),
        ("ephemeral_ports", "count"),
    ] {
        assert_eq!(report.item(name).values[key], Value::Null, "{name} {key}");
    }
}

#[test]
fn what_forbids_io_uring_is_a_note_with_epoll_and_else_a_problem() {
    let files = [("/proc/sys/kernel/io_uring_disabled", "2\n")];
    for (cause, guilty) in
        [("switch", "io_uring_switch"), ("filter", "seccomp"), ("module", "security_module")]
    {
        let root = usual_but(&files);
        let report = root.report(&fell_back(cause));
        assert_eq!(report.of(Level::Note), ["driver", guilty], "{}", report.to_text());
        assert_eq!(report.problems(), 0);
        assert_eq!(report.item("driver").values["chosen"], "epoll");
        let report = root.report(&refused(cause));
        assert_eq!(report.of(Level::Problem), ["driver", guilty], "{}", report.to_text());
        let cure = format!("the cure of {cause}");
        assert_eq!(report.item(guilty).cure.as_deref(), Some(&*cure));
        assert_eq!(report.item("driver").cure.as_deref(), Some(&*cure));
        assert_eq!(report.to_json()["would_start"], false);
        assert!(report.to_text().contains("\nA server would not start: problems: 2, notes: 0.\n"));
        // Who asks for epoll is not concerned.
        let report = root.report(&on(Driver::Epoll));
        assert_eq!(report.of(Level::Ok).len(), report.items.len(), "{}", report.to_text());
    }
    let report = usual_but(&[]).report(&refused("absent"));
    assert_eq!(report.of(Level::Problem), ["driver"]);
}

#[test]
fn a_version_denies_nothing_that_was_tried() {
    let old = usual_but(&[("/proc/sys/kernel/osrelease", "5.14.0-503.el9.x86_64\n")]);
    let report = old.report(&on(Driver::IoUring));
    assert_eq!(report.of(Level::Ok).len(), report.items.len(), "{}", report.to_text());
    assert_eq!(report.item("kernel").values["release"], "5.14.0-503.el9.x86_64");
}

#[test]
fn a_feature_that_saves_memory_is_missed() {
    let mut tried = on(Driver::IoUring);
    tried.features[0].1 = Some(false);
    tried.features[2].1 = None;
    let report = usual_but(&[]).report(&tried);
    let item = report.item("features");
    assert_eq!(item.level, Level::Note);
    assert!(item.text.starts_with("incremental_buffers no, min_wait yes, napi unknown"));
    assert_eq!(item.values["napi"], Value::Null);
}

#[test]
fn a_container_of_cgroup_version_2_bounds_memory_and_processors() {
    for (path, group) in [("0::/\n", ""), ("0::/docker/abc\n", ""), ("0::/a/b\n", "/a")] {
        let (memory, cpu) =
            (format!("/sys/fs/cgroup{group}/memory.max"), format!("/sys/fs/cgroup{group}/cpu.max"));
        let root = usual_but(&[
            ("/proc/self/cgroup", path),
            (&memory, "536870912\n"),
            (&cpu, "150000 100000\n"),
            ("/.dockerenv", ""),
        ]);
        let report = root.report(&on(Driver::IoUring));
        let memory = &report.item("memory").values;
        assert_eq!(
            (&memory["cgroup"], &memory["memory_limit"]),
            (&json!(536_870_912), &json!(268_435_456))
        );
        assert_eq!(report.item("cpu").values["quota"], 1.5);
        assert_eq!(report.of(Level::Note), ["cpu"], "two workers on one and a half cores");
        assert_eq!(report.item("container").values["kind"], "docker");
    }
    let free = usual_but(&[("/sys/fs/cgroup/cpu.max", "max 100000\n")]);
    assert_eq!(free.report(&on(Driver::IoUring)).item("cpu").values["quota"], Value::Null);
}

#[test]
fn a_container_of_cgroup_version_1_does_so_as_well() {
    let groups = "12:cpu,cpuacct:/kubepods/pod1\n7:memory:/kubepods/pod1\n0::/kubepods/pod1\n";
    let root = usual_but(&[
        ("/proc/self/cgroup", groups),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "67108864\n"),
        ("/sys/fs/cgroup/cpu/kubepods/cpu.cfs_quota_us", "-1\n"),
        ("/sys/fs/cgroup/cpu/kubepods/cpu.cfs_period_us", "100000\n"),
        ("/sys/fs/cgroup/cpu/kubepods/pod1/cpu.cfs_quota_us", "50000\n"),
        ("/sys/fs/cgroup/cpu/kubepods/pod1/cpu.cfs_period_us", "100000\n"),
    ]);
    let report = root.report(&on(Driver::IoUring));
    assert_eq!(report.item("memory").values["memory_limit"], 33_554_432);
    assert_eq!(report.item("cpu").values["quota"], 0.5);
    assert_eq!(report.of(Level::Note), ["memory", "cpu"], "{}", report.to_text());
    assert_eq!(report.item("container").values["kind"], "kubernetes");
    // No limit, in the words of version 1.
    let free = usual_but(&[
        ("/proc/self/cgroup", "7:memory:/\n"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
    ]);
    let report = free.report(&on(Driver::IoUring));
    assert_eq!(report.item("memory").values["cgroup"], Value::Null);
    assert_eq!(report.of(Level::Note), Vec::<&str>::new());
}

#[test]
fn tiny_limits_are_noted_with_their_cure() {
    let limits = LIMITS.replace("524288 ", "1024   ").replace("8388608", "65536  ");
    let root = usual_but(&[
        ("/proc/self/limits", &limits),
        ("/proc/sys/net/core/somaxconn", "128\n"),
        ("/proc/sys/net/ipv4/ip_local_port_range", "50000 50999\n"),
    ]);
    let report = root.report(&on(Driver::Epoll));
    assert_eq!(report.of(Level::Note), ["descriptors", "ephemeral_ports", "backlog"]);
    assert_eq!(report.item("descriptors").values["connections"], 1024 - 30);
    assert!(report.item("descriptors").cure.as_ref().unwrap().contains("LimitNOFILE="));
    assert_eq!(report.item("ephemeral_ports").values["count"], 1000);
    assert!(report.item("backlog").cure.as_ref().unwrap().contains("somaxconn=4096"));

    let short = root.report(&refused("memory"));
    assert_eq!(short.of(Level::Problem), ["driver", "locked_memory"]);
    assert_eq!(short.item("locked_memory").values["workers"], 0);
    let fewer = root.report(&Preflight { workers: 1, ..on(Driver::IoUring) });
    assert_eq!(fewer.item("locked_memory").level, Level::Note);
    assert!(fewer.item("locked_memory").cure.as_ref().unwrap().contains("ulimit -l"));
    assert_eq!(fewer.item("driver").values["workers"], 1);

    let exempt = STATUS.replace("CapEff:\t0000000000000000", "CapEff:\t0000000000004000");
    let root = usual_but(&[("/proc/self/limits", &limits), ("/proc/self/status", &exempt)]);
    let report = root.report(&on(Driver::IoUring));
    assert!(report.item("locked_memory").text.contains("CAP_IPC_LOCK"));
    let endless = LIMITS.replace("8388608", "unlimited");
    let report = usual_but(&[("/proc/self/limits", &endless)]).report(&on(Driver::IoUring));
    assert_eq!(report.item("locked_memory").values["soft"], "unlimited");
    assert_eq!(report.item("locked_memory").values["workers"], Value::Null);
}

#[test]
fn a_limit_of_the_address_space_bounds_memory() {
    let limits =
        LIMITS.replace("address space         unlimited ", "address space         1073741824");
    let report = usual_but(&[("/proc/self/limits", &limits)]).report(&on(Driver::IoUring));
    assert_eq!(report.item("memory").values["address_space"], 1_u64 << 30);
    assert_eq!(report.item("memory").values["memory_limit"], 1_u64 << 29);
}

#[test]
fn certificates_are_looked_for_where_they_are_and_where_variables_say() {
    let own = "-----BEGIN CERTIFICATE-----\nx\n-----BEGIN CERTIFICATE-----\n";
    let root = usual_but(&[("/own/roots.pem", own), ("/own/folder/1.0", "x")]);
    let found = |file: Option<&str>, folder: Option<&str>| {
        let roots = [file.map(Into::into), folder.map(Into::into)];
        let surroundings = Surroundings { roots, ..root.surroundings() };
        let report = Report::new(&surroundings, &on(Driver::IoUring));
        let item = report.item("tls_roots");
        (item.level, item.values.clone(), item.cure.clone().unwrap_or_default())
    };
    let (level, values, _) = found(None, None);
    assert_eq!((level, &values["certificates"]), (Level::Ok, &json!(1)));
    assert_eq!(values["file"], "/etc/ssl/certs/ca-certificates.crt");
    let (level, values, _) = found(Some("/own/roots.pem"), Some("/own/folder"));
    assert_eq!((level, &values["certificates"]), (Level::Ok, &json!(2)));
    assert_eq!(
        (&values["file"], &values["directory"]),
        (&json!("/own/roots.pem"), &json!("/own/folder"))
    );
    for (file, folder, variable) in
        [(Some("/nowhere"), None, "SSL_CERT_FILE"), (None, Some("/nowhere"), "SSL_CERT_DIR")]
    {
        let (level, _, cure) = found(file, folder);
        assert_eq!(level, Level::Note, "{variable}");
        assert!(cure.contains(variable), "{cure}");
    }
    for other in ["/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"] {
        let root = Root::new(&[(other, own)]);
        assert_eq!(root.report(&on(Driver::Epoll)).item("tls_roots").values["file"], other);
    }
}

#[test]
fn a_static_binary_needs_two_files_to_resolve_names() {
    let (hosts, dns) = (("/etc/hosts", ""), ("/etc/resolv.conf", ""));
    for (files, is_enough) in
        [(&[hosts, dns][..], true), (&[hosts], false), (&[dns], false), (&[], false)]
    {
        let root = usual_but(files);
        let surroundings = Surroundings { is_static: true, ..root.surroundings() };
        let report = Report::new(&surroundings, &on(Driver::IoUring));
        assert_eq!(report.of(Level::Note).is_empty(), is_enough, "{}", report.to_text());
        assert_eq!(report.item("names").cure.is_none(), is_enough, "{files:?}");
        assert!(root.report(&on(Driver::IoUring)).of(Level::Note).is_empty());
    }
}

#[test]
fn each_item_is_a_line_whatever_files_hold() {
    let root = usual_but(&[
        ("/proc/self/attr/current", "evil\x1b[2J\nlabel\0\n"),
        ("/sys/kernel/security/lsm", "lockdown,selinux\n"),
    ]);
    let report = root.report(&fell_back("filter"));
    let text = report.to_text();
    let cures = report.items.iter().filter(|item| item.cure.is_some()).count();
    assert_eq!(text.lines().count(), report.items.len() + cures + 1, "{text}");
    assert!(!text.contains('\x1b') && text.contains("label"), "{text}");
    let item = text.lines().position(|line| line.contains("driver  ")).unwrap();
    let (line, cure) = (text.lines().nth(item).unwrap(), text.lines().nth(item + 1).unwrap());
    // In columns.
    assert_eq!(line.find("epoll, for"), cure.find("cure: "), "{line}\n{cure}");
}
