use super::*;

#[test]
fn dates_are_those_of_the_calendar() {
    for (seconds, expected) in [
        (0, "1970-01-01 00:00:00 UTC"),
        (951_782_399, "2000-02-28 23:59:59 UTC"),
        (951_782_400, "2000-02-29 00:00:00 UTC"),
        (951_868_800, "2000-03-01 00:00:00 UTC"),
        (1_709_251_199, "2024-02-29 23:59:59 UTC"),
        (1_798_761_599, "2026-12-31 23:59:59 UTC"),
        (4_107_542_400, "2100-03-01 00:00:00 UTC"),
    ] {
        assert_eq!(date(seconds), expected);
    }
}

#[test]
fn spans_have_their_largest_unit() {
    for (seconds, expected) in [
        (0, "0 seconds"),
        (1, "1 second"),
        (119, "119 seconds"),
        (120, "2 minutes"),
        (7_200, "2 hours"),
        (172_800, "2 days"),
        (86_400 * 400, "400 days"),
    ] {
        assert_eq!(span(seconds), expected);
    }
}

#[test]
fn names_of_rubbish_are_unknown() {
    let certificate = rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap().cert;
    let der: &[u8] = certificate.der();
    assert!(Names::of(der).is_self_issued);
    assert_eq!(Names::of(der).subject, "CN=rcgen self signed cert");
    for cut in 0..der.len() {
        // No panic, and nothing invented.
        let names = Names::of(&der[..cut]);
        assert_eq!(names.subject, "unknown", "cut={cut}");
    }
}

#[test]
fn bytes_of_a_peer_cannot_forge_a_line() {
    assert_eq!(shown(b"a\r\nb\x1b"), r"a\r\nb\u{1b}");
    assert_eq!(shown(&[b'x'; 100]), format!("{}…", "x".repeat(64)));
}
