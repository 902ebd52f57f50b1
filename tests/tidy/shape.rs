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

/// The comment that a script begins with.
fn header(script: &File) -> &str {
    let lines = script.text.lines().take_while(|line| line.starts_with("--"));
    let length = lines.map(|line| line.len() + 1).sum::<usize>();
    &script.text[..length.min(script.text.len())]
}

/// Every `KEYS[1]` or `ARGV[12]` that a text holds.
fn slots(text: &str) -> Vec<&str> {
    let starts = text.match_indices("KEYS[").chain(text.match_indices("ARGV["));
    let slot = |(at, _): (usize, &str)| {
        let end = at + text[at..].find(']')?;
        let numbered = text[at + 5..end].bytes().all(|b| b.is_ascii_digit()) && end > at + 5;
        numbered.then(|| &text[at..=end])
    };
    starts.filter_map(slot).collect()
}

/// What a script may take as said: its own header, those of the scripts that it
/// names, and, when it lists no key itself, that of the prelude before it.
fn listed<'a>(script: &'a File, all: &'a [File], depth: usize) -> Vec<&'a str> {
    let own = header(script);
    let mut listed = slots(own);
    let inherits = !listed.iter().any(|slot| slot.starts_with("KEYS"));
    for other in all {
        let name = other.path.rsplit('/').next().unwrap_or_default();
        let named = own.contains(name) || (inherits && name == "prelude.lua");
        if named && other.path != script.path && depth > 0 {
            listed.extend(self::listed(other, all, depth - 1));
        }
    }
    listed
}

/// A script says what it is for, and what each key and argument is.
fn unheaded_script(script: &File, all: &[File]) -> Vec<String> {
    let own = header(script);
    if own.is_empty() {
        return vec![format!("{}: begins with code: head it with purpose, KEYS and ARGV", script.path)];
    }
    let listed = listed(script, all, 3);
    let mut unsaid: Vec<_> = slots(&script.text[own.len()..]);
    unsaid.retain(|slot| !listed.contains(slot));
    unsaid.sort_unstable();
    unsaid.dedup();
    unsaid.iter().map(|slot| format!("{}: {slot} is in no header", script.path)).collect()
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
    let scripts: Vec<_> = files("src").into_iter().filter(|file| file.path.ends_with(".lua")).collect();
    no_complaints(&scripts.iter().flat_map(|script| unheaded_script(script, &scripts)).collect::<Vec<_>>());
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
    let complaints = |text: &str| {
        let prelude = file("x/prelude.lua", "-- Begins.\n-- KEYS[1] meta\nlocal a = KEYS[1]".to_owned());
        let base = file("x/base.lua", "-- KEYS[1] one\n-- ARGV[2] two\n".to_owned());
        let all = [prelude, base, file("x/a.lua", text.to_owned())];
        unheaded_script(&all[2], &all).len()
    };
    assert_eq!(complaints("return call('GET', KEYS[1])"), 1);
    assert_eq!(complaints("-- Sets.\nreturn call('SET', KEYS[2], ARGV[1])"), 2);
    assert_eq!(complaints("-- Sets.\n-- KEYS[2] what\nreturn call('SET', KEYS[1], KEYS[2])"), 1);
    assert_eq!(complaints("-- Gets.\n-- KEYS[3] what\nreturn call('GET', KEYS[3])"), 0);
    assert_eq!(complaints("-- Goes behind the prelude.\nreturn call('GET', KEYS[1])"), 0);
    assert_eq!(complaints("-- Arguments as in base.lua.\nreturn call('GET', KEYS[1], ARGV[2])"), 0);
}
