//! docs/spec.md names a test for each property of the specification: each must be there. And what the sources must not say.

use std::fs;
use std::path::{Path, PathBuf};

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

fn sources(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] }).collect()
}

/// An error is read by who called any engine, or none: what to do by an option of podman's is wrong under docker.
#[test]
fn no_message_of_a_command_names_an_engine() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files = sources(&root);
    assert!(files.len() > 100, "only {} sources", files.len());
    for file in files {
        // What looks at a host or a bundle for a person may tell of engines.
        if ["doctor", "lint"].iter().any(|room| file.starts_with(root.join(room))) || file.ends_with("tests.rs") {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
        let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
        for line in lines {
            let strings = line.split('"').skip(1).step_by(2);
            let named = ["podman ", "docker", "containerd", "buildah"];
            let found = strings.flat_map(|text| named.iter().filter(move |name| text.contains(**name))).next();
            assert_eq!(found, None, "{}: {line}", file.display());
        }
    }
}
