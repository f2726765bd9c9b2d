//! Any text is a config or a list of problems, which can be printed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tapedeck::config;

fuzz_target!(|text: &str| {
    if let Err(problems) = config::parse_text(text) {
        assert!(!problems.to_string().is_empty());
    }
});
