//! Fuzzes [`fuzz::Target`]'s `condition`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::run("condition", bytes));
