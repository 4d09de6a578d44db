//! Fuzzes [`fuzz::Target`]'s `statement`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::run("statement", bytes));
