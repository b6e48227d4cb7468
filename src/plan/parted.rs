//! Several mount options in one string, as mount(8) and mount(2) have them: `size=64m,mode=755`.

use super::options::{LABELS, known};

/// Options of overlayfs: each begins a new one behind a directory, whose name may have commas.
const OVERLAY: [&str; 15] = [
    "datadir+",
    "default_permissions",
    "index",
    "lowerdir",
    "lowerdir+",
    "metacopy",
    "nfs_export",
    "redirect_dir",
    "upperdir",
    "userxattr",
    "uuid",
    "verity",
    "volatile",
    "workdir",
    "xino",
];

/// The options of a string, each by itself: a comma parts them, but for one that is a value's own.
pub(super) fn parted(word: &str) -> Vec<String> {
    let mut options: Vec<String> = vec![];
    for piece in word.split(',') {
        match options.last_mut().filter(|last| goes_on(last, piece)) {
            Some(last) => {
                last.push(',');
                last.push_str(piece);
            }
            None => options.push(piece.to_owned()),
        }
    }
    options
}

/// Whether what is behind a comma belongs to the option before it.
fn goes_on(option: &str, piece: &str) -> bool {
    let Some((key, value)) = option.split_once('=') else { return false };
    let name = piece.split('=').next().unwrap_or_default();
    let is_word = |piece: &str| known().iter().any(|word| word == piece);
    match key {
        _ if value.starts_with('"') => value.len() == 1 || !value.ends_with('"'),
        // A list of memory nodes; tmpfs(5).
        "mpol" => piece.starts_with(|c: char| c.is_ascii_digit()),
        // The categories of a label.
        _ if LABELS.contains(&key) => !piece.contains('=') && !is_word(piece),
        "lowerdir" | "upperdir" | "workdir" | "lowerdir+" | "datadir+" => !OVERLAY.contains(&name) && !is_word(piece),
        "idmap" | "ridmap" | "pass" | "password" | "password2" => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comma_parts_options_and_no_values() {
        for (word, options) in [
            ("size=64m,mode=755", &["size=64m", "mode=755"][..]),
            ("ro,nosuid", &["ro", "nosuid"]),
            ("mpol=bind:0,2,size=1m", &["mpol=bind:0,2", "size=1m"]),
            ("context=u:r:t:s0:c1,c2", &["context=u:r:t:s0:c1,c2"]),
            ("context=\"u:r:t:s0:c1,c2\",size=1m", &["context=\"u:r:t:s0:c1,c2\"", "size=1m"]),
            ("context=u:r:t:s0:c1,c2,ro,size=1m", &["context=u:r:t:s0:c1,c2", "ro", "size=1m"]),
            ("lowerdir=/a:/b,c,upperdir=/d,workdir=/e", &["lowerdir=/a:/b,c", "upperdir=/d", "workdir=/e"]),
            ("lowerdir=/a,b,c", &["lowerdir=/a,b,c"]),
            ("data=ordered,errors=remount-ro,noload", &["data=ordered", "errors=remount-ro", "noload"]),
            ("password=a,b=c", &["password=a,b=c"]),
        ] {
            assert_eq!(parted(word), options, "{word}");
        }
    }
}
