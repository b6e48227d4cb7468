//! A program that makes a container itself: plans it, creates it, starts it, waits for its end, deletes it.
//!
//!     cargo run --example contain -- ID BUNDLE [STATE-ROOT]

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use tandem::parent::create::create;
use tandem::parent::foreground::{Signals, wait_for};
use tandem::parent::lifecycle;
use tandem::parent::request::Request;
use tandem::parent::trace::TraceFile;
use tandem::state::StateRoot;

fn main() -> ExitCode {
    // First of all: the container's first process is this program once more, until it becomes the payload.
    tandem::become_child_if_asked();
    match contain() {
        Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        Err(error) => {
            eprintln!("contain: {error}");
            ExitCode::FAILURE
        }
    }
}

fn contain() -> Result<i32, Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(id), Some(bundle)) = (args.next(), args.next()) else {
        return Err("contain ID BUNDLE [STATE-ROOT]".into());
    };
    let bundle = PathBuf::from(bundle);
    let state = StateRoot::choose(args.next().map(PathBuf::from).as_deref())?;
    let trace = TraceFile::default();

    // What would be made, and whether it can be, without making any of it.
    let plan = Request::new(&id, &bundle, &state, &trace).plan()?;
    eprintln!("{}, {} sources", plan.mount_strategy.describe(), plan.sources.len());

    let signals = Signals::hold(true)?;
    let request = Request { signals: Some(&signals), ..Request::new(&id, &bundle, &state, &trace) };
    let created = create(&request)?;
    lifecycle::start(&state, &id, &trace)?;
    let end = wait_for(created.pid, created.master, created.notify, None, signals)?;
    lifecycle::delete(&state, &id, true, &trace)?;
    Ok(end.code())
}
