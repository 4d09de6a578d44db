//! Fuzzes [`fuzz::Target`]'s `wire_statement`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::run("wire_statement", bytes));
