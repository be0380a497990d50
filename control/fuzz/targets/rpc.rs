//! Does any byte stream from a client break the protocol server?
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| shunt_control::fuzzing::fuzz_rpc(octets));
