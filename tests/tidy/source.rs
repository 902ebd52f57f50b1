//! Just enough of Rust's grammar to ask a file what it uses.

/// The same text with comments, strings and characters blanked out; lines stay
/// where they were.
pub(super) fn code_of(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes.get(at + 1) == Some(&b'/') => line_end(bytes, at),
            b'/' if bytes.get(at + 1) == Some(&b'*') => block_end(bytes, at),
            b'"' => string_end(bytes, at),
            b'r' if starts_raw(bytes, at) => raw_end(bytes, at),
            b'\'' => char_end(bytes, at).unwrap_or(at),
            _ => at,
        };
        for byte in &mut out[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end.max(at + 1);
    }
    String::from_utf8(out).expect("only whole literals were replaced")
}

fn line_end(bytes: &[u8], at: usize) -> usize {
    bytes[at..].iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |length| at + length)
}

fn block_end(bytes: &[u8], at: usize) -> usize {
    let mut depth = 0_usize;
    let mut i = at;
    while i < bytes.len() {
        match &bytes[i..bytes.len().min(i + 2)] {
            b"/*" => (depth, i) = (depth + 1, i + 2),
            b"*/" => (depth, i) = (depth - 1, i + 2),
            _ => i += 1,
        }
        if depth == 0 {
            return i;
        }
    }
    bytes.len()
}

fn string_end(bytes: &[u8], at: usize) -> usize {
    let mut i = at + 1;
    while i < bytes.len() {
        match bytes[i] {
            b'\\' => i += 2,
            b'"' => return i + 1,
            _ => i += 1,
        }
    }
    bytes.len()
}

fn starts_raw(bytes: &[u8], at: usize) -> bool {
    let before = at.checked_sub(1).map_or(b' ', |i| bytes[i]);
    let after = bytes[at + 1..].iter().find(|byte| **byte != b'#');
    let inside_a_word = before.is_ascii_alphanumeric() && before != b'b' || before == b'_';
    // `r#type` is a name, not a string.
    !inside_a_word && after == Some(&b'"')
}

fn raw_end(bytes: &[u8], at: usize) -> usize {
    let hashes = bytes[at + 1..].iter().take_while(|byte| **byte == b'#').count();
    let mut close = vec![b'"'];
    close.resize(hashes + 1, b'#');
    let start = at + hashes + 2;
    let length = bytes[start.min(bytes.len())..].windows(close.len()).position(|window| window == close);
    length.map_or(bytes.len(), |length| start + length + close.len())
}

/// The end of a character literal; none when this is a lifetime.
fn char_end(bytes: &[u8], at: usize) -> Option<usize> {
    let mut i = at + 1;
    if bytes.get(i) == Some(&b'\\') {
        i += 2;
        while i < bytes.len().min(at + 12) && bytes[i] != b'\'' {
            i += 1;
        }
    } else {
        let first = *bytes.get(i)?;
        i += match first {
            0..=0x7f => 1,
            0xc0..=0xdf => 2,
            0xe0..=0xef => 3,
            _ => 4,
        };
    }
    (bytes.get(i) == Some(&b'\'')).then_some(i + 1)
}

/// The part before the file's own tests.
pub(super) fn without_tests(text: &str) -> &str {
    text.find("#[cfg(test)]\nmod tests {").map_or(text, |end| &text[..end])
}

/// Every path that the file names: in `use` trees, spelled out, and inline.
pub(super) fn paths_of(text: &str) -> Vec<String> {
    let code = code_of(text);
    let mut paths = Vec::new();
    let mut rest = code.as_str();
    while let Some(at) = next_use(rest) {
        paths.extend(inline_paths(&rest[..at]));
        let tree = &rest[at + 4..];
        let end = tree.find(';').unwrap_or(tree.len());
        expand("", &tree[..end], &mut paths);
        rest = &tree[end..];
    }
    paths.extend(inline_paths(rest));
    paths
}

fn next_use(code: &str) -> Option<usize> {
    code.match_indices("use ").map(|(at, _)| at).find(|at| {
        let line = &code[code[..*at].rfind('\n').map_or(0, |i| i + 1)..*at];
        matches!(line.trim(), "" | "pub" | "pub(crate)" | "pub(super)")
    })
}

fn expand(prefix: &str, tree: &str, paths: &mut Vec<String>) {
    let tree = tree.trim();
    let Some(open) = tree.find('{') else {
        let name = tree.split(" as ").next().unwrap_or(tree).trim().trim_start_matches("::");
        if !name.is_empty() {
            paths.push(format!("{prefix}{name}"));
        }
        return;
    };
    let prefix = format!("{prefix}{}", tree[..open].trim().trim_start_matches("::"));
    let inner = tree[open + 1..].trim_end().trim_end_matches('}');
    let inner = balance(inner);
    let (mut depth, mut start) = (0, 0);
    for (i, c) in inner.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                expand(&prefix, &inner[start..i], paths);
                start = i + 1;
            }
            _ => {}
        }
    }
    expand(&prefix, &inner[start..], paths);
}

/// `trim_end_matches` may have taken braces that belong to groups inside.
fn balance(inner: &str) -> String {
    let open = inner.matches('{').count();
    let close = inner.matches('}').count();
    format!("{inner}{}", "}".repeat(open.saturating_sub(close)))
}

fn inline_paths(code: &str) -> Vec<String> {
    let in_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    code.split(|c: char| !in_path(c))
        .map(|path| path.trim_start_matches("::").trim_end_matches(':'))
        .filter(|path| path.contains("::"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn comments_and_literals_are_not_code() {
    let code = code_of("a /* x /* y */ z */ b // c\n\"use crate::http\" r#\"\"d\"# 'e' '\\'' <'f>");
    assert_eq!(code.split_whitespace().collect::<Vec<_>>(), ["a", "b", "<'f>"]);
    assert_eq!(
        code_of("let é = 'é'; // é\nf").split_whitespace().collect::<Vec<_>>(),
        ["let", "é", "=", ";", "f"]
    );
}

#[test]
fn use_trees_and_inline_paths_are_spelled_out() {
    let text = "use a::{b, c::{d, e as f}, g::*};\npub use crate::{h::{i}};\nfn x() { j::k(); let l = m; }";
    assert_eq!(paths_of(text), ["a::b", "a::c::d", "a::c::e", "a::g::*", "crate::h::i", "j::k"]);
}
