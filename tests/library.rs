//! The crate as a library: a program of another's making has its own containers.

#[macro_use]
mod common;

use std::path::PathBuf;
use std::process::Command;

/// `examples/contain.rs`, built.
fn contain() -> PathBuf {
    let built = Command::new(env!("CARGO")).args(["build", "--quiet", "--locked", "--example", "contain"]).status();
    assert!(built.unwrap().success(), "the example builds");
    let deps = std::env::current_exe().unwrap();
    deps.ancestors().nth(2).unwrap().join("examples/contain")
}

#[test]
fn a_program_makes_starts_and_deletes_a_container() {
    let mut case = case!("library");
    tandem_only!("the crate");
    case.script("echo from inside; exit 7");
    let mut command = Command::new(contain());
    command.args([&case.id, &case.text("bundle")]).arg(case.root());
    let outcome = case.launch(command).wait();
    assert_eq!((outcome.code(), outcome.out().as_str()), (7, "from inside\n"), "{}", outcome.all());
    assert!(outcome.err().contains("sources"), "the plan: {}", outcome.err());
    case.nothing_left("the example");
}

#[test]
fn a_bundle_that_can_not_be_planned_is_refused_before_anything_is_made() {
    let mut case = case!("libraryplan");
    tandem_only!("the crate");
    case.alter(|c| c["process"]["cwd"] = "relative".into());
    let mut command = Command::new(contain());
    command.args([&case.id, &case.text("bundle")]).arg(case.root());
    case.launch(command).wait().refused_with(&["process.cwd"]);
    case.nothing_left("a plan that is refused");
}
