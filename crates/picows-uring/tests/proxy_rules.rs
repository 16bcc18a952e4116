//! The rules that choose a proxy, beside those of hyper-util: both have to choose the same.
//!
//! Where the two differ on purpose is left out: ports in lists, final dots, the IPv6 addresses of IPv4,
//! `*.` in front of a name, and `*` for addresses.

#![allow(clippy::unwrap_used, reason = "a test that fails is to stop there")]

use hyper_util::client::proxy::matcher::Matcher;
use picows_uring_proto::ProxyRules;

/// The host of the proxy that each of the two chooses for a URL, or none.
fn chosen(http: &str, https: &str, all: &str, no: &str, host: &str) -> [[Option<String>; 2]; 2] {
    let matcher = Matcher::builder().http(http).https(https).all(all).no(no).build();
    let rules = ProxyRules::from_variables(|name| {
        let value = match name {
            "http_proxy" => http,
            "https_proxy" => https,
            "all_proxy" => all,
            "no_proxy" => no,
            _ => return None,
        };
        Some(value.to_owned())
    });
    let in_url = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    [("http", false), ("https", true)].map(|(scheme, is_secure)| {
        let theirs = matcher.intercept(&format!("{scheme}://{in_url}/").parse().unwrap());
        let ours = rules.proxy_for(is_secure, host, 443);
        let theirs = theirs.map(|it| it.uri().authority().unwrap().to_string());
        [theirs, ours.map(|it| it.url().to_owned())]
    })
}

#[track_caller]
fn same(http: &str, https: &str, all: &str, no: &str, host: &str) {
    for [theirs, ours] in chosen(http, https, all, no, host) {
        assert_eq!(
            ours, theirs,
            "http {http:?} https {https:?} all {all:?} no {no:?} host {host:?}"
        );
    }
}

const HOSTS: [&str; 16] = [
    "example.com",
    "EXAMPLE.com",
    "feed.example.com",
    "a.feed.example.com",
    "notexample.com",
    "com",
    "localhost",
    "x127.0.0.1",
    "127.0.0.1",
    "127.0.0.2",
    "10.5.5.5",
    "11.0.0.1",
    "::1",
    "::2",
    "fd00::1",
    "fe80::1",
];

const ENTRIES: [&str; 24] = [
    "",
    "example.com",
    ".example.com",
    "Example.COM",
    "com",
    "feed.example.com",
    ".com",
    "ample.com",
    "localhost",
    "127.0.0.1",
    "127.0.0.0/8",
    "10.0.0.0/8",
    "10.0.0.0/7",
    "10.5.5.4/31",
    "10.5.5.6/31",
    "0.0.0.0/0",
    "10.0.0.0/33",
    "::1",
    "0:0:0:0:0:0:0:1",
    "::/0",
    "fd00::/8",
    "fe80::/10",
    "::/129",
    "10.0.0",
];

#[test]
fn lists_exempt_the_same_servers() {
    for host in HOSTS {
        for first in ENTRIES {
            for second in ENTRIES {
                for list in [format!("{first},{second}"), format!(" {first} ,, {second} ,")] {
                    same("gate:1", "gate:2", "", &list, host);
                }
            }
        }
    }
    for name in &HOSTS[..8] {
        for list in ["*", " * ", "a,*", "*,a"] {
            same("gate:1", "gate:2", "", list, name);
        }
    }
}

#[test]
fn variables_choose_the_same_proxy() {
    let values = |name: &str| [String::new(), format!("{name}:1"), format!("{name}:2")];
    for http in values("http") {
        for https in values("https") {
            for all in values("all") {
                for list in ["", "example.com", "10.0.0.0/8"] {
                    for host in ["example.com", "10.5.5.5", "a"] {
                        same(&http, &https, &all, list, host);
                    }
                }
            }
        }
    }
}
