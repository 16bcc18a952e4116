//! Servers on Unix sockets, and clients with the URL that `echo` prints.

#![allow(clippy::unwrap_used, reason = "a test that fails is to stop there")]

mod common;

use common::{measure, run, run_with_input};
use picows_uring::{EchoListener, Server, Upgrade};

#[test]
fn every_client_accepts_the_url_of_a_unix_socket() {
    let folder = std::env::temp_dir().join(format!("picows-cli-unix-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("a socket");
    let builder = Server::builder().workers(1).listen(format!("unix:{}", path.display()));
    let server = builder.start(|_| Upgrade::accept(EchoListener)).unwrap();
    let url = server.addresses()[0].to_string();
    for url in [url.clone(), format!("{url}:/path?query")] {
        let done = run_with_input("connect", &url, b"hi\n");
        assert_eq!((done.code, &*done.stdout), (0, "hi\n"), "{}", done.stderr);
        for client in ["load -c 2", "rtt", "rtt --dedicated"] {
            let (done, json) = measure(&format!("{client} -d 200ms -w 0 --json -"), &url);
            assert_eq!((done.code, &json["errors"]), (0, &0.into()), "{client}: {}", done.stderr);
        }
    }
    server.stop().unwrap();
    let done = run("connect", &url);
    assert_eq!(done.code, 1);
    assert!(done.stderr.contains("check the path"), "{}", done.stderr);
    std::fs::remove_dir_all(&folder).unwrap();
}
