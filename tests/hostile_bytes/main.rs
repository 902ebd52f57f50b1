//! Bytes from outside, against what must hold of any bytes: drawn at random,
//! made of valid ones by small damage, and kept from the fuzzer's runs.
//!
//! `scripts/fuzz` looks for more of them, for as long as one likes.

mod checks;

use std::path::{Path, PathBuf};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};

/// The fuzzer's corpus of one check.
fn corpus(check: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(check);
    let entries = std::fs::read_dir(&folder).expect("a corpus for every check");
    let mut files: Vec<_> = entries.map(|entry| entry.expect("listed").path()).collect();
    files.sort();
    files.into_iter().map(|path| (path.clone(), std::fs::read(path).expect("read"))).collect()
}

fn check_of(name: &str) -> checks::Check {
    checks::ALL.iter().find(|(known, _)| *known == name).expect("one of the checks").1
}

/// The corpus as it is, then damaged, then bytes that mean nothing.
fn holds(name: &str) {
    let (check, kept) = (check_of(name), corpus(name));
    assert!(kept.len() >= 5, "{name}: the corpus is not there");
    for (path, bytes) in &kept {
        if std::panic::catch_unwind(|| check(bytes)).is_err() {
            panic!("{} breaks the check '{name}': see above", path.display());
        }
    }
    let kept: Vec<_> = kept.into_iter().map(|(_, bytes)| bytes).collect();
    let damage = (any::<Index>(), any::<Index>(), vec((any::<Index>(), any::<u8>()), 0..6), any::<Index>());
    let mut runner = TestRunner::new(Config { cases: 256, ..Config::default() });
    runner
        .run(&damage, |(one, other, flips, cut)| {
            let (mut bytes, other) = (one.get(&kept).clone(), other.get(&kept));
            // Most of one, the end of another, and wrong bytes anywhere.
            bytes.truncate(cut.index(bytes.len() + 1));
            bytes.extend_from_slice(&other[cut.index(other.len() + 1)..]);
            for (at, byte) in if bytes.is_empty() { Vec::new() } else { flips } {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            check(&bytes);
            Ok(())
        })
        .expect("damaged bytes");
    runner
        .run(&vec(any::<u8>(), 0..300), |bytes| {
            check(&bytes);
            Ok(())
        })
        .expect("random bytes");
}

#[test]
fn any_frame_says_one_thing_or_is_refused() {
    holds("frame");
}

#[test]
fn any_envelope_is_read_as_it_is_written_or_refused() {
    holds("envelope");
}

#[test]
fn any_position_or_name_prints_as_it_was_or_is_refused() {
    holds("position");
}

#[test]
fn any_entry_is_written_as_it_was_read_or_refused() {
    holds("entry");
}

#[test]
fn any_push_goes_out_as_it_came_or_is_refused() {
    holds("push_body");
}

#[test]
fn any_configuration_is_complete_or_refused_and_hides_its_secrets() {
    holds("configuration");
}

#[test]
fn every_check_has_a_fuzz_target_and_the_other_way_round() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/fuzz_targets");
    let mut targets: Vec<_> = std::fs::read_dir(folder)
        .expect("listed")
        .map(|entry| entry.expect("listed").file_name().to_string_lossy().replace(".rs", ""))
        .collect();
    targets.sort_unstable();
    let mut known: Vec<_> = checks::ALL.iter().map(|(name, _)| (*name).to_owned()).collect();
    known.sort_unstable();
    assert_eq!(targets, known);
}
