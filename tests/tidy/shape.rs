//! Length, and what each kind of file begins with.

use super::source::{code_of, without_tests};
use super::{File, files, no_complaints, rust_files};

/// Lines of code of a source file, its own tests apart.
const CODE_LINES_MAX: usize = 350;
/// Lines of any file: past it there is a second idea in it.
const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;

fn long_files(file: &File) -> Vec<String> {
    let mut complaints = Vec::new();
    let whole = file.text.lines().count();
    if whole > FILE_LINES_MAX {
        complaints.push(format!("{}: {whole} lines, more than {FILE_LINES_MAX}", file.path));
    }
    let code = without_tests(&file.text).lines().count();
    if file.path.starts_with("src/") && !super::is_tests(&file.path) && code > CODE_LINES_MAX {
        complaints.push(format!("{}: {code} lines of code, more than {CODE_LINES_MAX}", file.path));
    }
    complaints
}

fn long_functions(file: &File) -> Vec<String> {
    let code = code_of(&file.text);
    let mut complaints = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        let starts_a_word = !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
        if !starts_a_word {
            continue;
        }
        let Some(lines) = body_lines(&code[at..]) else { continue };
        if lines > FUNCTION_LINES_MAX {
            let name = code[at + 3..].split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or("?");
            complaints
                .push(format!("{}: fn {name} has {lines} lines, more than {FUNCTION_LINES_MAX}", file.path));
        }
    }
    complaints
}

/// Lines from `fn` to the end of its body; none for a declaration or a type.
fn body_lines(code: &str) -> Option<usize> {
    let open = code.find(['{', ';'])?;
    if code.as_bytes()[open] == b';' {
        return None;
    }
    let mut depth = 0_usize;
    for (i, c) in code[open..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(code[..open + i].matches('\n').count() + 1);
        }
    }
    None
}

/// A script says what it is for, and names each key and argument it is given.
fn unheaded_script(file: &File) -> Vec<String> {
    let header: String =
        file.text.lines().take_while(|line| line.starts_with("--")).collect::<Vec<_>>().join("\n");
    if header.is_empty() {
        return vec![format!("{}: begins with code: head it with its purpose, KEYS and ARGV", file.path)];
    }
    let body = &file.text[header.len()..];
    ["KEYS", "ARGV"]
        .iter()
        .filter(|word| body.contains(*word) && !header.contains(*word))
        .map(|word| format!("{}: uses {word} and does not list it in its header", file.path))
        .collect()
}

fn undocumented_module(file: &File) -> Vec<String> {
    let first = file.text.lines().next().unwrap_or_default();
    // A module's tests in files of their own are part of that module.
    let documented = first.starts_with("//!") && first.len() > 12 || super::is_tests(&file.path);
    if documented { Vec::new() } else { vec![format!("{}: does not begin with what it is for", file.path)] }
}

#[test]
fn files_hold_one_idea() {
    let all = rust_files("src").into_iter().chain(rust_files("tests"));
    no_complaints(&all.flat_map(|file| long_files(&file)).collect::<Vec<_>>());
}

#[test]
fn functions_fit_a_screen() {
    no_complaints(&rust_files("src").iter().flat_map(long_functions).collect::<Vec<_>>());
}

#[test]
fn scripts_name_their_keys_and_arguments() {
    let scripts = files("src").into_iter().filter(|file| file.path.ends_with(".lua"));
    no_complaints(&scripts.flat_map(|file| unheaded_script(&file)).collect::<Vec<_>>());
}

#[test]
fn every_module_says_what_it_is_for() {
    let all = rust_files("src").into_iter().chain(rust_files("tests"));
    no_complaints(&all.flat_map(|file| undocumented_module(&file)).collect::<Vec<_>>());
}

fn file(path: &str, text: String) -> File {
    File { path: path.to_owned(), text }
}

#[test]
fn too_long_is_noticed() {
    assert!(long_files(&file("src/a.rs", "x\n".repeat(350))).is_empty());
    assert_eq!(long_files(&file("src/a.rs", "x\n".repeat(351))).len(), 1);
    let tested = format!("x\n#[cfg(test)]\nmod tests {{\n{}}}\n", "x\n".repeat(450));
    assert!(long_files(&file("src/a.rs", tested)).is_empty());
    assert_eq!(long_files(&file("tests/a.rs", "x\n".repeat(501))).len(), 1);

    let function =
        |lines: usize| format!("fn short() {{}}\npub fn long() {{\n{}}}\n", "{ x }\n".repeat(lines));
    assert!(long_functions(&file("src/a.rs", function(68))).is_empty());
    assert_eq!(long_functions(&file("src/a.rs", function(69))).len(), 1);
}

#[test]
fn a_script_without_its_header_is_noticed() {
    let bad = |text: &str| unheaded_script(&file("a.lua", text.to_owned())).len();
    assert_eq!(bad("return redis.call('GET', KEYS[1])"), 1);
    assert_eq!(bad("-- Gets.\nreturn redis.call('SET', KEYS[1], ARGV[1])"), 2);
    assert_eq!(bad("-- Gets.\n-- KEYS 1 what\nreturn redis.call('GET', KEYS[1])"), 0);
}
