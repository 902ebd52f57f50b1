use super::{parse, text};
use crate::cli::Command;
use crate::cli::output::Failure;
use crate::http::auth::ApiKey;

fn run(line: &[&str], input: &str) -> Result<String, Failure> {
    let Command::Key(key) = parse(line) else { panic!("another command") };
    let mut out = Vec::new();
    key.answer(&mut input.as_bytes(), &mut out).map(|()| text(out))
}

#[test]
fn a_new_key_comes_with_the_entry_that_knows_it() {
    let line = ["key", "new", "--name", "backend", "--scope", "push=user:*", "--scope", "read"];
    let said = run(&line, "").expect("made");
    let (first, second) = said.trim_end().split_once('\n').expect("two lines");
    let (key, entry) =
        (first.strip_prefix("key    ").expect("a key"), second.strip_prefix("entry  ").expect("an entry"));
    assert_eq!(key.len(), 46, "three letters and 256 bits: {key}");
    assert_eq!(ApiKey::entry("backend", key, "push=user:* read").as_deref(), Ok(entry));
    assert_ne!(run(&line, "").expect("made"), said, "each time another");
    let json = run(&[&line[..], &["--json"]].concat(), "").expect("made");
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert!(json["key"].is_string() && json["entry"].is_string());
}

#[test]
fn the_entry_of_a_key_is_printed_again() {
    let line = ["key", "entry", "--name", "a", "--scope", "admin"];
    let entry = run(&line, "0123456789abcdef\n").expect("an entry");
    assert_eq!(ApiKey::entry("a", "0123456789abcdef", "admin").as_deref(), Ok(entry.trim_end()));
    assert!(matches!(run(&line, "short\n"), Err(Failure::Usage(_))));
    for bad in [["a b", "admin"], ["a", "write"], ["a", "push=room:1"]] {
        let line = ["key", "new", "--name", bad[0], "--scope", bad[1]];
        assert!(matches!(run(&line, ""), Err(Failure::Usage(_))), "{bad:?}");
    }
}
