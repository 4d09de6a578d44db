//! Fuzzes [`fuzz::Target`]'s `datafile`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::run("datafile", bytes));
