#![no_main]

#[path = "../../tests/hostile_bytes/checks.rs"]
#[allow(dead_code, reason = "each target runs one of the checks")]
mod checks;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checks::entry(bytes));
