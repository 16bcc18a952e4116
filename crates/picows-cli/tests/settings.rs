//! Wrong values of flags, which are reported by the flag's name before any work.

#![allow(clippy::unwrap_used, reason = "a test that fails is to stop there")]

mod common;

use common::{Done, output_of, picows, run, unheard};

#[test]
fn flags_of_the_server_are_reported_with_cause_and_cure() {
    for (flags, text) in [
        ("--max-queue 0", "error: --max-queue: 0 lets nothing be sent: use 1 or more\n"),
        ("--workers 2000", "error: --workers: 2000 are more than 1024: use fewer\n"),
        (
            "--drain-timeout 1s --drain-spread 600ms",
            "error: --drain-spread: 600ms is more than half of the drain timeout of 1s: the last \
             would have no time to answer; use 500ms or less\n",
        ),
    ] {
        let line = format!("echo --listen 127.0.0.1:0 {flags}");
        let done = Done::from(output_of(&mut picows(line.split_whitespace()), b""));
        assert_eq!((done.code, done.stderr.as_str()), (2, text), "{flags}");
        assert_eq!(done.stdout, "", "{flags}: it does not listen");
    }
}

#[test]
fn pages_and_completions_are_of_the_flags_that_there_are() {
    let folder = std::env::temp_dir().join(format!("picows-pages-{}", std::process::id()));
    let run = |folder: &str| Done::from(output_of(&mut picows(["pages", folder]), b""));
    let done = run(folder.to_str().unwrap());
    assert_eq!((done.code, &*done.stdout, &*done.stderr), (0, "", ""));
    for (file, text) in [
        ("man/picows.1", "picows\\-echo(1)"),
        ("man/picows-echo.1", "max\\-connections"),
        ("man/picows-connect.1", "Exit status"),
        ("completions/picows.bash", "--max-connections"),
        ("completions/_picows", "--max-connections"),
        ("completions/picows.fish", "max-connections"),
    ] {
        let path = folder.join(file);
        let found = std::fs::read_to_string(&path).unwrap();
        assert!(found.contains(text), "{file}: no {text}");
    }
    let pages = std::fs::read_dir(folder.join("man")).unwrap();
    let names: Vec<_> = pages.map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
    assert!(!names.iter().any(|name| name.starts_with("picows-help-")), "{names:?}");
    let done = run(folder.join("man/picows.1").to_str().unwrap());
    assert!(done.code == 1 && done.stderr.contains("cannot write into"), "{}", done.stderr);
    std::fs::remove_dir_all(folder).unwrap();
}

const COMMANDS: [&str; 4] =
    ["echo --listen 127.0.0.1:0", "connect ws://h/", "load ws://h/", "rtt ws://h/"];

#[test]
fn a_driver_that_is_none_is_named_with_the_flag_or_the_variable() {
    let names = r#""kqueue" is no driver: use auto, io-uring or epoll"#;
    for command in COMMANDS {
        let words = command.split_whitespace();
        let with_flag = &mut picows(words.clone().chain(["--driver", "kqueue"]));
        let done = Done::from(output_of(with_flag, b""));
        assert!(done.stderr.contains("--driver") && done.stderr.contains(names), "{}", done.stderr);
        assert_eq!((done.code, done.stdout.as_str()), (2, ""), "{command}");

        let done = Done::from(output_of(picows(words).env("PICOWS_DRIVER", "kqueue"), b""));
        assert_eq!(done.stderr, format!("error: PICOWS_DRIVER={names}\n"), "{command}");
        assert_eq!((done.code, done.stdout.as_str()), (2, ""), "{command}");
    }
}

#[test]
fn the_flag_of_the_driver_comes_before_the_variable() {
    let (_socket, address) = unheard();
    for client in ["connect", "load -c 1", "rtt"] {
        let words = format!("{client} --driver epoll ws://{address}/");
        let mut command = picows(words.split_whitespace());
        let done = Done::from(output_of(command.env("PICOWS_DRIVER", "kqueue"), b""));
        assert!(done.code == 1 && !done.stderr.contains("PICOWS_DRIVER"), "{}", done.stderr);
    }
}

#[test]
fn a_short_queue_gets_watermarks_that_fit() {
    for bytes in [1, 3, 1000, 65_535, 65_536] {
        common::Echo::with(&format!("--max-queue {bytes}"));
    }
}

#[test]
fn limits_can_be_switched_off() {
    for flags in [
        "--memory-limit 0 --max-handshakes 0",
        "--memory-limit 512MiB",
        "--message-timeout 0 --write-stall-timeout 0",
    ] {
        common::Echo::with(flags);
    }
}

#[test]
fn flags_of_the_clients_are_reported_with_cause_and_cure() {
    for command in ["load", "connect"] {
        for (flags, words) in [
            ("--auto-ping 1s,2s", ["--auto-ping", "longer than the idle timeout 1s", "at most"]),
            ("--auto-ping 1s,0s", ["--auto-ping", "1s,0s", "more than zero"]),
        ] {
            let done = run(&format!("{command} {flags}"), "ws://127.0.0.1:1/");
            assert_eq!(done.code, 2, "{command} {flags}: {}", done.stderr);
            for word in words {
                assert!(done.stderr.contains(word), "{command} {flags}: {}", done.stderr);
            }
        }
    }
    for (line, flag) in [
        ("connect --close-timeout 0", "--close-timeout"),
        ("connect --max-frame-size much", "--max-frame-size"),
        ("load --busy-poll never", "--busy-poll"),
        ("load --busy-poll 50", "write 50us, 50ms, or always"),
        ("rtt --size much", "--size"),
    ] {
        let done = run(line, "ws://127.0.0.1:1/");
        assert_eq!(done.code, 2, "{line}: {}", done.stderr);
        assert!(done.stderr.contains(flag), "{line}: {}", done.stderr);
    }
}

#[test]
fn a_request_that_no_server_accepts_is_status_2() {
    let header = format!("X-Long: {}", "x".repeat(70_000));
    let mut command = picows(["connect", "-H", &header, "ws://127.0.0.1:1/"]);
    let done = Done::from(output_of(&mut command, b""));
    assert_eq!(done.code, 2, "{}", done.stderr);
    assert!(done.stderr.contains("give fewer or shorter headers"), "{}", done.stderr);
}

#[test]
fn a_log_in_a_file_has_no_colours() {
    let (_socket, address) = unheard();
    let url = format!("ws://{address}/");
    let mut command = picows(["load", "--connections", "1", &url]);
    let output = output_of(command.env("RUST_LOG", "info").env_remove("NO_COLOR"), b"");
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(log.contains("INFO") && !log.contains('\u{1b}'), "{log:?}");
}
