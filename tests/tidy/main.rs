//! The tree keeps its shape: who knows whom, how long things are, what must
//! not be left behind. Rules are in docs and in `src/lib.rs`; here they bite.
//!
//! Each rule is a function from text to complaints, so that it is shown to
//! fail on a few lines before it is let loose on the tree.

mod layers;
mod mutations;
mod routes;
mod shape;
mod source;
mod words;

use std::path::{Path, PathBuf};

/// A file of the tree, by its path from the root.
#[derive(Debug)]
struct File {
    path: String,
    text: String,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below a folder (or the file itself), sorted by path.
fn files(start: &str) -> Vec<File> {
    let mut found = Vec::new();
    collect(&root().join(start), &mut found);
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn collect(path: &Path, found: &mut Vec<File>) {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if path.is_dir() {
        if matches!(name, "node_modules" | "target" | ".git") {
            return;
        }
        for entry in std::fs::read_dir(path).expect("the folder can be read") {
            collect(&entry.expect("its entries can be read").path(), found);
        }
    } else if let Ok(text) = std::fs::read_to_string(path) {
        let relative = path.strip_prefix(root()).expect("it is below the root");
        found.push(File { path: relative.to_string_lossy().replace('\\', "/"), text });
    }
}

fn rust_files(start: &str) -> Vec<File> {
    files(start).into_iter().filter(|file| file.path.ends_with(".rs")).collect()
}

/// Whether a source file holds nothing but its module's tests.
fn is_tests(path: &str) -> bool {
    path.ends_with("tests.rs") || path.contains("/tests/")
}

/// Fails with every complaint at once.
fn no_complaints(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}
