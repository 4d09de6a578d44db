//! Fuzzes [`fuzz::Target`]'s `scopes`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::run("scopes", bytes));
