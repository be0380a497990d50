//! Does any sequence of frames and reconfigurations break the switch?
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| shunt_switch::fuzzing::fuzz_operations(octets));
