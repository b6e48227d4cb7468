//! docs/spec.md names a test for each property of the specification: each must be there.

use std::fs;
use std::path::Path;

const TEXT: &str = include_str!("../docs/spec.md");

/// What stands between backquotes.
fn quoted() -> impl Iterator<Item = &'static str> {
    TEXT.split('`').skip(1).step_by(2)
}

#[test]
fn every_test_that_the_document_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let named: Vec<(&str, &str)> = quoted().filter_map(|word| word.split_once(".rs::")).collect();
    assert!(named.len() > 50, "only {} tests are named", named.len());
    for (file, test) in named {
        let path = root.join(format!("{file}.rs"));
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        let at = lines.iter().position(|l| l.starts_with(&format!("fn {test}(")));
        let at = at.unwrap_or_else(|| panic!("{file}.rs has no `{test}`"));
        assert!(lines[at.saturating_sub(3)..at].contains(&"#[test]"), "{file}.rs: `{test}` is no test");
    }
}

#[test]
fn every_file_that_the_document_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = quoted().filter(|word| word.starts_with("src/") && word.ends_with(".rs"));
    files.for_each(|file| assert!(root.join(file).exists(), "there is no {file}"));
}
