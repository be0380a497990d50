//! Does any descriptor or ring index from the kernel break the rings?
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| shunt_ffi::fuzzing::fuzz_descriptors(octets));
