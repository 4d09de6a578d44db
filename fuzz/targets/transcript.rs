//! Fuzzes [`fuzz::Target`]'s `transcript`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::run("transcript", bytes));
