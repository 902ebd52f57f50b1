//! What is broken on purpose (`scripts/mutations`) still fits the code: it is
//! run by hand and takes an hour, so a stale one would be found too late.

use super::{File, files, no_complaints, root};

/// Hunks of a patch whose lines are not in the file that they are for.
fn stale(patch: &File, text_of: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let (mut complaints, mut path) = (Vec::new(), "");
    for hunk in patch.text.split("\n@@ ") {
        let (_, lines) = hunk.split_once('\n').unwrap_or_default();
        let before: Vec<&str> = lines.lines().filter_map(|line| line.strip_prefix([' ', '-'])).collect();
        // What stands before the first hunk of a file names it instead.
        if !path.is_empty() {
            let text = text_of(path).unwrap_or_default();
            let whole: Vec<&str> = text.lines().collect();
            let is_code = |line: &&str| !line.starts_with("-- a/");
            let before: Vec<&str> = before.into_iter().take_while(is_code).collect();
            if before.is_empty() || !whole.windows(before.len()).any(|window| window == before) {
                complaints.push(format!("{}: a hunk does not fit {path}: make the patch anew", patch.path));
            }
        }
        path = hunk.lines().find_map(|line| line.strip_prefix("--- a/")).unwrap_or(path);
    }
    if path.is_empty() {
        complaints.push(format!("{}: names no file", patch.path));
    }
    complaints
}

#[test]
fn a_patch_is_stale_when_its_lines_are_gone() {
    let patch = |text: &str| File { path: "p.patch".to_owned(), text: text.to_owned() };
    let tree = |path: &str| match path {
        "src/a.rs" => Some("one\ntwo\nthree\n".to_owned()),
        "src/b.rs" => Some("four\nfive\n".to_owned()),
        _ => None,
    };
    let of = |path, hunk| format!("--- a/{path}\n+++ b/{path}\n@@ -1,2 +1,1 @@ fn f\n{hunk}");
    let fits = of("src/a.rs", " one\n-two\n+zwei\n three\n");
    assert!(stale(&patch(&format!("what\n\n{fits}")), tree).is_empty());
    let both =
        format!("what\n\n{fits}diff --git a/src/b.rs b/src/b.rs\n{}", of("src/b.rs", "-four\n five\n"));
    assert!(stale(&patch(&both), tree).is_empty());
    for gone in [" one\n-zwei\n three\n", " one\n three\n", "+only\n"] {
        assert_eq!(stale(&patch(&format!("what\n\n{}", of("src/a.rs", gone))), tree).len(), 1, "{gone}");
    }
    let second =
        format!("what\n\n{fits}diff --git a/src/b.rs b/src/b.rs\n{}", of("src/b.rs", "-vier\n five\n"));
    assert_eq!(stale(&patch(&second), tree).len(), 1);
    assert_eq!(stale(&patch(&of("src/gone.rs", "-x\n")), tree).len(), 1);
    assert_eq!(stale(&patch("what\n"), tree).len(), 1);
}

#[test]
fn every_mutation_still_applies() {
    let patches = files("tests/mutations");
    assert!(patches.len() > 20);
    let text_of = |path: &str| std::fs::read_to_string(root().join(path)).ok();
    let complaints: Vec<_> = patches.iter().flat_map(|patch| stale(patch, text_of)).collect();
    no_complaints(&complaints);
}
