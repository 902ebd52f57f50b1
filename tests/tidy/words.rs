//! What must not be left behind.

use super::source::{code_of, without_tests};
use super::{File, files, no_complaints, rust_files};

/// Notes to self, put together so that this file does not hold them.
fn leftovers() -> [String; 5] {
    ["TO_DO", "FIX_ME", "XX_X", "to_do!", "unimple_mented!"].map(|word| word.replace('_', ""))
}

fn leftover_notes(file: &File) -> Vec<String> {
    let mut complaints = Vec::new();
    for (number, line) in file.text.lines().enumerate() {
        for word in leftovers() {
            let holds = line.match_indices(&word).any(|(at, _)| {
                let end = at + word.len();
                let part_of_a_word = |c: char| c.is_alphanumeric() || c == '_';
                !line[..at].ends_with(part_of_a_word) && !line[end..].starts_with(part_of_a_word)
            });
            if holds {
                complaints.push(format!("{}:{}: {word} is left over", file.path, number + 1));
            }
        }
    }
    complaints
}

fn unwraps(file: &File) -> Vec<String> {
    let code = code_of(without_tests(&file.text));
    let count = if super::is_tests(&file.path) { 0 } else { code.matches(".unwrap()").count() };
    if count > 0 { vec![format!("{}: {count} unwrap() outside tests", file.path)] } else { Vec::new() }
}

fn resolved_addresses(file: &File) -> Vec<String> {
    let named = file.text.contains("\"resolved\": \"http");
    if named { vec![format!("{}: says where packages are downloaded from", file.path)] } else { Vec::new() }
}

#[test]
fn nothing_is_left_to_do() {
    let everything =
        ["src", "tests", "scripts", "docs", "grafana", "deploy", "clients", "README.md", "Cargo.toml", ".ci"];
    let all = everything
        .iter()
        .flat_map(|start| if super::root().join(start).exists() { files(start) } else { Vec::new() });
    no_complaints(&all.flat_map(|file| leftover_notes(&file)).collect::<Vec<_>>());
}

#[test]
fn nothing_is_unwrapped_outside_tests() {
    no_complaints(&rust_files("src").iter().flat_map(unwraps).collect::<Vec<_>>());
}

#[test]
fn lock_files_pin_by_hash_and_name_no_host() {
    let all = ["tests", "clients"].into_iter().flat_map(files);
    let locks = all.filter(|file| file.path.ends_with("package-lock.json"));
    let complaints: Vec<_> = locks.flat_map(|file| resolved_addresses(&file)).collect();
    no_complaints(&complaints);
}

fn file(text: &str) -> File {
    File { path: "src/a.rs".to_owned(), text: text.to_owned() }
}

#[test]
fn leftovers_are_noticed() {
    for word in leftovers() {
        assert_eq!(leftover_notes(&file(&format!("fn f() {{}} // {word}: later"))).len(), 1, "{word}");
    }
    assert!(leftover_notes(&file(&format!("let {}S = 1;", leftovers()[0]))).is_empty());
    assert_eq!(unwraps(&file("fn f() { x.unwrap() }")).len(), 1);
    assert!(
        unwraps(&file("// x.unwrap()\n#[cfg(test)]\nmod tests {\n    fn f() { x.unwrap() }\n}")).is_empty()
    );
    assert_eq!(resolved_addresses(&file("{\"resolved\": \"https://x/y.tgz\"}")).len(), 1);
}
