use super::*;
use proptest::prelude::*;

fn exempt(list: &str, host: &str, port: u16) -> bool {
    ProxyExemptions::parse(list).contain(host, port)
}

#[test]
fn no_proxy_matches_servers_by_name_address_range_and_port() {
    for (host, port, matching, others) in NO_PROXY_CASES {
        for list in *matching {
            assert!(exempt(list, host, *port), "{list:?} is to match {host}:{port}");
        }
        for list in *others {
            assert!(!exempt(list, host, *port), "{list:?} is not to match {host}:{port}");
        }
    }
}

/// The variable that names the proxy to a server, of those that are set.
fn variable(is_secure: bool, set: &[(&str, &str)]) -> Option<&'static str> {
    let rules = ProxyRules::from_variables(|name| {
        set.iter().find(|(is, _)| *is == name).map(|(_, value)| (*value).to_owned())
    });
    rules.proxy_for(is_secure, "feed.example", 443).map(ProxyVariable::variable)
}

#[test]
fn the_most_particular_variable_counts_and_lower_case_before_upper() {
    for (is_secure, order) in [(false, WS_VARIABLES), (true, WSS_VARIABLES)] {
        for first in 0..order.len() {
            let set: Vec<_> = order[first..].iter().rev().map(|name| (*name, "gate")).collect();
            assert_eq!(variable(is_secure, &set), Some(order[first]));
        }
        let others: Vec<_> = [WS_VARIABLES, WSS_VARIABLES].concat();
        let others = others.into_iter().filter(|name| !order.contains(name));
        let others: Vec<_> = others.map(|name| (name, "gate")).collect();
        assert_eq!(variable(is_secure, &others), None);
    }
}

#[test]
fn an_empty_variable_is_unset() {
    assert_eq!(variable(true, &[]), None);
    assert_eq!(
        variable(true, &[("https_proxy", ""), ("HTTPS_PROXY", " "), ("ALL_PROXY", "g")]),
        Some("ALL_PROXY")
    );
    assert_eq!(variable(true, &[("https_proxy", "g"), ("no_proxy", " "), ("NO_PROXY", "*")]), None);
    assert_eq!(
        variable(true, &[("https_proxy", "g"), ("no_proxy", "a"), ("NO_PROXY", "*")]),
        Some("https_proxy")
    );
}

#[test]
fn a_header_of_a_cgi_client_chooses_no_proxy() {
    let upper = [("HTTP_PROXY", "evil")];
    assert_eq!(variable(false, &upper), Some("HTTP_PROXY"));
    let cgi = [("HTTP_PROXY", "evil"), ("REQUEST_METHOD", "GET")];
    assert_eq!(variable(false, &cgi), None);
    let lower = [("http_proxy", "gate"), ("REQUEST_METHOD", "GET")];
    assert_eq!(variable(false, &lower), Some("http_proxy"));
    // No header becomes this one.
    let https = [("HTTPS_PROXY", "gate"), ("REQUEST_METHOD", "GET")];
    assert_eq!(variable(true, &https), Some("HTTPS_PROXY"));
}

#[test]
fn debug_output_has_no_password() {
    let rules = ProxyRules::from_variables(|_| Some("http://user:SECRET@gate".to_owned()));
    let shown = format!("{rules:?} {:?}", rules.proxy_for(true, "a", 1));
    assert!(shown.contains("wss_proxy") && !shown.contains("SECRET@"), "{shown}");
}

proptest! {
    /// However it is written, an address is exempt by itself and by each range around it.
    #[test]
    fn an_address_is_in_every_range_around_it(bits in any::<u128>(), prefix in 0_u8..=128, port in any::<u16>()) {
        let address = std::net::Ipv6Addr::from_bits(bits);
        prop_assume!(address.to_ipv4_mapped().is_none());
        let list = format!("{address}/{prefix}, [{address}]:{port}");
        prop_assert!(exempt(&list, &address.to_string(), port));
        if prefix < 128 {
            let other = std::net::Ipv6Addr::from_bits(bits ^ (1 << 127 >> prefix));
            let is_around = exempt(&format!("{address}/{}", prefix + 1), &other.to_string(), port);
            prop_assert!(!is_around);
        }
    }

    #[test]
    fn any_text_is_a_list(list in any::<String>(), host in any::<String>(), port in any::<u16>()) {
        let _ = exempt(&list, &host, port);
        let all = format!("{list},*");
        prop_assert!(exempt(&all, &host, port));
    }
}

/// A server, lists that exempt it, and lists that do not.
type Case = (&'static str, u16, &'static [&'static str], &'static [&'static str]);

const NO_PROXY_CASES: &[Case] = &[
    (
        "::1",
        8080,
        &[
            "::1",
            "[::1]",
            "[::1]:8080",
            "0:0:0:0:0:0:0:1",
            "::/0",
            "::1/128",
            "[::/0]",
            "[::]/0",
            "[::/0]:8080",
            "[::]/0:8080",
            "*",
            "*:8080",
            "a,::1",
            "::1/127",
        ],
        &[
            "[::1]:81",
            "::2",
            "0.0.0.1",
            "0.0.0.0/0",
            "1",
            "::1/129",
            "::/",
            "::/-1",
            "::/+1",
            "*:81",
        ],
    ),
    (
        "10.5.5.5",
        80,
        &[
            "10.0.0.0/8",
            "10.0.0.0/7",
            "10.5.5.4/31",
            "10.5.5.5",
            "10.5.5.5:80",
            "::ffff:10.5.5.5",
            "[::ffff:10.5.5.5]:80",
            "::ffff:10.0.0.0/104",
            "0.0.0.0/0",
            "10.9.9.9/8",
            "10.0.0.0/8:80",
            "10.5.5.5.",
        ],
        &[
            "10.5.5.5:81",
            "10.0.0.0/33",
            "10.0.0.0/",
            "10.0.0.0/16",
            "10.5.5.6/31",
            "::/0",
            "5.5",
            ".5.5.5",
            "10.5.5",
            "010.5.5.5",
            "10.0.0.0/8:81",
            "::ffff:10.0.0.0/112",
        ],
    ),
    ("::ffff:10.5.5.5", 80, &["10.5.5.5", "10.0.0.0/8", "::ffff:10.5.5.5"], &["10.5.5.4", "::/0"]),
    ("127.0.0.1", 80, &["127.0.0.1", "127.0.0.0/8"], &["x127.0.0.1", "1.127.0.0.1", "localhost"]),
    ("x127.0.0.1", 80, &["x127.0.0.1"], &["127.0.0.1"]),
    ("1.127.0.0.1", 80, &[], &["127.0.0.1", "127.0.0.0/8"]),
    ("notexample.com", 80, &["notexample.com", "com"], &["example.com", ".example.com"]),
    (
        "feed.example.com",
        443,
        &[
            "example.com",
            ".example.com",
            "*.example.com",
            "EXAMPLE.com",
            "example.com.",
            ".example.com.",
            " , ,example.com, ",
            "a b,\texample.com\n",
            "example.com:443",
            "feed.example.com",
            "com",
        ],
        &[
            "example.com:80",
            "ample.com",
            "a.feed.example.com",
            "example",
            "feed",
            "",
            " ",
            ",",
            ".",
            "*.",
            "example.com:",
            "example.com:x",
            "example.com:65979",
            "http://example.com",
            "**",
            "e*.com",
            "example.com/8",
            "user@example.com",
            "[example.com]",
        ],
    ),
    ("EXAMPLE.com.", 80, &["example.com", ".example.com."], &["example.com.."]),
    ("localhost", 80, &["localhost"], &["", "127.0.0.1", "::1"]),
];
