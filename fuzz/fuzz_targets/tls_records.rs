#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| picows_uring_tls::testing::fuzzing::records(data));
