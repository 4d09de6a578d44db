//! Fuzzes [`fuzz::Target`]'s `template`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::run("template", bytes));
