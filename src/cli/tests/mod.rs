//! Client commands against small servers with canned answers.

mod key;
mod listen;
mod rest;
mod server;

use clap::{CommandFactory, Parser};

use super::{Command, Line};
use crate::config::{self, Environment};

/// The command of a line, as a shell would split it.
fn parse(line: &[&str]) -> Command {
    let line = std::iter::once("postrider").chain(line.iter().copied());
    Line::try_parse_from(line).expect("a valid line").command.expect("a command")
}

fn refused(line: &[&str]) -> String {
    let line = std::iter::once("postrider").chain(line.iter().copied());
    Line::try_parse_from(line).expect_err("an invalid line").to_string()
}

fn text(out: Vec<u8>) -> String {
    String::from_utf8(out).expect("UTF-8")
}

#[test]
fn the_command_line_is_consistent() {
    Line::command().debug_assert();
}

#[test]
fn the_help_of_every_command_has_examples() {
    fn check(command: &mut clap::Command) {
        let help = command.render_long_help().to_string();
        let group = command.get_subcommands().next().is_some();
        let ours = command.get_name() != "help";
        assert!(group || !ours || help.contains("Examples:"), "{}: {help}", command.get_name());
        command.get_subcommands_mut().for_each(check);
    }
    check(&mut Line::command());
}

#[test]
fn every_setting_is_a_flag_of_serve() {
    let help =
        Line::command().find_subcommand_mut("serve").expect("a command").render_long_help().to_string();
    for setting in config::settings() {
        let flag = config::flag_of(setting.key);
        assert!(help.contains(&format!("{flag} <")), "{flag}");
        assert!(help.contains(&config::variable_of(setting.key)), "{flag}");
        assert_eq!(help.contains(&format!("{flag}-file <FILE>")), setting.secret, "{flag}");
    }
}

#[test]
fn flags_reach_the_configuration_unread() {
    let line = [
        "serve",
        "--drain-window-ms",
        "-1",
        "--allowed-origins",
        "http://a",
        "--allowed-origins",
        "http://b",
    ];
    let Command::Serve(serve) = parse(&line) else { panic!("serve") };
    let inputs = serve.inputs(&Environment::default(), None);
    assert_eq!(inputs.flags["drain_window_ms"], "-1");
    assert_eq!(inputs.flags["allowed_origins"], "http://a,http://b");
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_is_sent() {
    assert!(refused(&["push", "--to", "alice", "x"]).contains("a channel is 'user:NAME'"));
    assert!(refused(&["push", "x"]).contains("--to"));
    assert!(refused(&["listen", "--user", "a", "--pos", "1"]).contains("not a position"));
    assert!(refused(&["listen", "--user", "a", "--device", "a b"]).contains("a device is"));
    assert!(refused(&["listen", "--user", "a", "--count", "0"]).contains("--count"));
    assert!(refused(&["listen", "--user", "a", "--token", "b"]).contains("cannot be used with"));
    assert!(refused(&["serve", "--listne", "x"]).contains("--listen"));
}
