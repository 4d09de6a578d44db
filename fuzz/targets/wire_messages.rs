//! Fuzzes [`fuzz::Target`]'s `wire_messages`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::run("wire_messages", bytes));
