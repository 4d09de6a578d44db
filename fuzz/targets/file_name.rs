//! Fuzzes [`fuzz::Target`]'s `file_name`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::run("file_name", bytes));
