//! Does any journal file break the start?
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| shunt_control::fuzzing::fuzz_journal(octets));
