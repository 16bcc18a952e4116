#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| picows_uring::testing::fuzzing::url(data));
