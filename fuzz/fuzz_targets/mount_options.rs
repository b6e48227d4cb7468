//! Any words, separated by commas, as the options of a mount.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tandem::plan::options::Options;

fuzz_target!(|text: &str| {
    let words: Vec<String> = text.split(',').map(str::to_owned).collect();
    if let Err(error) = Options::parse(&words, "mounts[0].options") {
        assert!(error.to_string().contains("mounts[0].options"), "it names no property: {error}");
    }
});
