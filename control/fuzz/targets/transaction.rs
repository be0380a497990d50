//! Does any transaction break the integrity of the database?
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| shunt_control::fuzzing::fuzz_transaction(octets));
