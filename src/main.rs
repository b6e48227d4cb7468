//! Dispatch: the child's image, or a command. Prints an error once.

use std::process::ExitCode;

fn main() -> ExitCode {
    tandem::become_child_if_asked();
    ExitCode::from(u8::try_from(tandem::cli::main()).unwrap_or(1))
}
