//! Does any frame, on any port, panic the switch or get lost uncounted?
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| shunt_switch::fuzzing::fuzz_frame(octets));
