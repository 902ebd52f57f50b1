//! The settings of a node as flags: one for each entry of the configuration's
//! table, or for those that say where the store is.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::error::Error;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, value_parser};

use crate::config::{self, Environment, Inputs, Setting};

/// The flags as given, values unread: the configuration judges them all at once.
#[derive(Debug, Default)]
pub(super) struct Flags {
    config_file: Option<PathBuf>,
    values: BTreeMap<String, String>,
}

impl Flags {
    pub(super) fn inputs(self, environment: &Environment, open_files: Option<u64>) -> Inputs {
        Inputs {
            flags: self.values,
            config_file: self.config_file,
            environment: environment.clone(),
            open_files,
        }
    }
}

/// The flags that say where the store is, as [`Flags`] has them.
#[derive(Debug, Default)]
pub(super) struct StoreFlags(Flags);

impl StoreFlags {
    pub(super) fn inputs(self, environment: &Environment) -> Inputs {
        self.0.inputs(environment, None)
    }
}

fn says_where_the_store_is(setting: &Setting) -> bool {
    setting.key.starts_with("redis")
}

fn help(setting: &Setting) -> String {
    let default = setting.default.as_ref().map_or(String::new(), |default| format!("default: {default}; "));
    format!("{} [{default}variable {}]", setting.help, config::variable_of(setting.key))
}

fn flag(setting: &Setting) -> Arg {
    let number = setting.example.parse::<u64>().is_ok();
    let list = matches!(
        setting.key,
        "allowed_origins"
            | "trusted_proxies"
            | "jwt_audience"
            | "jwt_issuer"
            | "api_keys"
            | "auth_hook_headers"
    );
    Arg::new(setting.key)
        .long(config::flag_of(setting.key)[2..].to_owned())
        .value_name(if number { "N".to_owned() } else { setting.key.to_ascii_uppercase() })
        .help(help(setting))
        .help_heading(setting.section)
        // Negative numbers are bad values like others, not unknown flags.
        .allow_hyphen_values(number)
        .action(if list { ArgAction::Append } else { ArgAction::Set })
        // 'serve -h' fits a screen; 'serve --help' has everything.
        .hide_short_help(setting.section != "Node")
}

fn file_flag(setting: &Setting) -> Arg {
    let key = format!("{}_file", setting.key);
    Arg::new(key.clone())
        .long(config::flag_of(&key)[2..].to_owned())
        .value_name("FILE")
        .help(format!("A file that holds it, unseen by 'ps' [variable {}]", config::variable_of(&key)))
        .help_heading(setting.section)
        .hide_short_help(true)
}

fn augment(command: Command, wanted: fn(&Setting) -> bool) -> Command {
    let file = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
        .help("A TOML file of settings; variables and flags override it [variable POSTRIDER_CONFIG]");
    config::settings().iter().filter(|setting| wanted(setting)).fold(command.arg(file), |command, setting| {
        let command = command.arg(flag(setting));
        if setting.secret { command.arg(file_flag(setting)) } else { command }
    })
}

fn read(matches: &ArgMatches, wanted: fn(&Setting) -> bool) -> Flags {
    let mut flags = Flags { config_file: matches.get_one("config").cloned(), ..Flags::default() };
    for setting in config::settings().iter().filter(|setting| wanted(setting)) {
        let mut take = |key: String| {
            if let Some(values) = matches.get_many::<String>(&key) {
                let values: Vec<&str> = values.map(String::as_str).collect();
                flags.values.insert(key, values.join(","));
            }
        };
        take(setting.key.to_owned());
        if setting.secret {
            take(format!("{}_file", setting.key));
        }
    }
    flags
}

macro_rules! flags {
    ($type:ty, $wanted:expr, $make:expr) => {
        impl Args for $type {
            fn augment_args(command: Command) -> Command {
                augment(command, $wanted)
            }

            fn augment_args_for_update(command: Command) -> Command {
                Self::augment_args(command)
            }
        }

        impl FromArgMatches for $type {
            fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
                Ok($make(read(matches, $wanted)))
            }

            fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
                *self = Self::from_arg_matches(matches)?;
                Ok(())
            }
        }
    };
}

flags!(Flags, |_| true, std::convert::identity);
flags!(StoreFlags, says_where_the_store_is, StoreFlags);
