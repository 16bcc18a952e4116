#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| picows_uring_proto::testing::fuzzing::proxy_header(data));
