//! Dispatch: the child's image, or a command. Prints an error once.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args_os();
    if args.next().is_some_and(|name| name == tandem::CHILD_IMAGE_NAME) {
        let socket = args.next().and_then(|arg| arg.to_str()?.parse().ok()).unwrap_or(-1);
        return exit(tandem::child::main(socket));
    }
    exit(tandem::cli::main())
}

fn exit(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
