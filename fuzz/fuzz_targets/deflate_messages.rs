#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| picows_uring_proto::testing::fuzzing::deflate_messages(data));
