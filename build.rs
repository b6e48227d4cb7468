//! Tells `--version` which commit it is.

use std::fs;
use std::path::{Path, PathBuf};

/// What `git archive` writes the commit into: `.gitattributes` asks for it.
const ARCHIVED: &str = ".archived-commit";
/// What `cargo package` writes it into.
const PACKAGED: &str = ".cargo_vcs_info.json";

fn main() {
    let found = find(Path::new("."));
    // Cargo takes a file that is not there for a changed one, and would build anew each time. This one always is.
    println!("cargo::rerun-if-changed=build.rs");
    for path in found.read {
        println!("cargo::rerun-if-changed={}", path.display());
    }
    println!("cargo::rustc-env=TANDEM_COMMIT={}", found.commit.as_deref().unwrap_or("unknown"));
}

/// The commit of a source tree, and the files that say so: when one of them changes, so may the commit.
#[derive(Default)]
struct Found {
    commit: Option<String>,
    read: Vec<PathBuf>,
}

impl Found {
    fn read(&mut self, path: PathBuf) -> Option<String> {
        let text = fs::read_to_string(&path).ok()?;
        self.read.push(path);
        Some(text)
    }
}

/// Finds it without git, which need not be installed, and would take a repository further up for the tree's own.
fn find(tree: &Path) -> Found {
    let mut found = Found::default();
    let git = tree.join(".git");
    let commit = if git.exists() { of_repository(&mut found, git) } else { of_archive(&mut found, tree) };
    found.commit = commit.filter(|commit| commit.len() >= 40 && commit.chars().all(|c| c.is_ascii_hexdigit()));
    found
}

/// The layout is gitrepository-layout(5). What a worktree has for `.git` is a file that names its own directory, which names the
/// common one.
fn of_repository(found: &mut Found, git: PathBuf) -> Option<String> {
    let own = match found.read(git.clone()) {
        Some(text) => git.parent()?.join(text.strip_prefix("gitdir: ")?.trim_end()),
        None => git,
    };
    let common = found.read(own.join("commondir")).map_or_else(|| own.clone(), |path| own.join(path.trim_end()));
    let head = found.read(own.join("HEAD"))?;
    // Changed by each commit, also by one that gives a branch its file for the first time.
    found.read(own.join("logs/HEAD"));
    let Some(name) = head.trim_end().strip_prefix("ref: ") else { return Some(head.trim_end().to_owned()) };
    let packed = found.read(common.join("packed-refs")).unwrap_or_default();
    let loose = found.read(common.join(name)).map(|commit| commit.trim_end().to_owned());
    let packed = packed.lines().filter_map(|line| line.split_once(' ')).find(|(_, of)| *of == name);
    loose.or(packed.map(|(commit, _)| commit.to_owned()))
}

fn of_archive(found: &mut Found, tree: &Path) -> Option<String> {
    if let Some(text) = found.read(tree.join(PACKAGED)) {
        return Some(text.split_once("\"sha1\"")?.1.split('"').nth(1)?.to_owned());
    }
    found.read(tree.join(ARCHIVED)).map(|text| text.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "1111111111111111111111111111111111111111";
    const NEW: &str = "2222222222222222222222222222222222222222";

    struct Tree(PathBuf);

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn tree(name: &str, files: &[(&str, &str)]) -> Tree {
        let tree = Tree(std::env::temp_dir().join(format!("tandem-build-{name}-{}", std::process::id())));
        for (path, text) in files {
            let path = tree.0.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        tree
    }

    #[track_caller]
    fn holds(name: &str, files: &[(&str, &str)], below: &str, commit: Option<&str>) {
        let tree = tree(name, files);
        let found = find(&tree.0.join(below));
        assert_eq!(found.commit.as_deref(), commit, "{name}");
        let absent: Vec<_> = found.read.iter().filter(|path| !path.exists()).collect();
        assert!(absent.is_empty(), "{name}: cargo would build each time for {absent:?}");
    }

    #[test]
    fn a_tree_without_a_repository_has_the_commit_of_its_archive() {
        let packed = format!("{{\n  \"git\": {{\n    \"sha1\": \"{OLD}\"\n  }},\n  \"path_in_vcs\": \"\"\n}}");
        holds("none", &[("Cargo.toml", "")], "", None);
        holds("archive", &[(ARCHIVED, &format!("{OLD}\n"))], "", Some(OLD));
        holds("unsubstituted", &[(ARCHIVED, "$Format:%H$\n")], "", None);
        holds("crate", &[(PACKAGED, &packed), (ARCHIVED, "$Format:%H$\n")], "", Some(OLD));
        holds("another", &[(".git/HEAD", NEW), ("below/Cargo.toml", "")], "below", None);
    }

    #[test]
    fn a_repository_tells_its_own() {
        let (branch, packed) = ("ref: refs/heads/a/b\n", format!("# pack-refs with: peeled\n{OLD} refs/heads/a/b\n"));
        let new = format!("{NEW}\n");
        holds("detached", &[(".git/HEAD", &new)], "", Some(NEW));
        holds("unborn", &[(".git/HEAD", branch)], "", None);
        holds("packed", &[(".git/HEAD", branch), (".git/packed-refs", &packed)], "", Some(OLD));
        let loose = [(".git/HEAD", branch), (".git/packed-refs", &packed), (".git/refs/heads/a/b", &new)];
        holds("loose", &loose, "", Some(NEW));
        let worktree = [
            ("main/.git/worktrees/w/HEAD", branch),
            ("main/.git/worktrees/w/commondir", "../..\n"),
            ("main/.git/worktrees/w/logs/HEAD", ""),
            ("main/.git/refs/heads/a/b", &new),
            ("w/.git", "gitdir: ../main/.git/worktrees/w\n"),
            (ARCHIVED, OLD),
        ];
        holds("worktree", &worktree, "w", Some(NEW));
    }
}
