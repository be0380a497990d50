//! Would the rig notice a fault? This target has one, and must be caught.
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| shunt_control::fuzzing::fuzz_canary(octets));
