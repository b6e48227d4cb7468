//! Turns recordings into seeds: `pack_seeds DIR RECORDING...` writes DIR/TARGET/NUMBER. Called by `scripts/fuzz --seeds`.

use std::collections::BTreeSet;
use std::path::Path;

fn main() {
    let mut args = std::env::args_os().skip(1);
    let dir = args.next().expect("pack_seeds DIR RECORDING...");
    let mut seen = BTreeSet::new();
    for file in args {
        for recording in tandem::protocol::recording::read(Path::new(&file)).unwrap_or_else(|e| panic!("{e}")) {
            for (target, seed) in tandem::replay::seeds(&recording).unwrap_or_else(|e| panic!("{e}")) {
                let number = seen.iter().filter(|(name, _)| *name == target).count();
                // Small ones: a seed is where mutation begins.
                if seed.len() <= 16 * 1024 && seen.insert((target, seed.clone())) {
                    std::fs::write(Path::new(&dir).join(target).join(format!("recorded-{number}")), seed)
                        .unwrap_or_else(|e| panic!("{target}: {e}"));
                }
            }
        }
    }
}
