//! The layers a value can come from: flags, environment, file, and whatever is
//! wrong with them.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::problem::{Problem, example};
use super::rule::{Raw, Rule};
use super::table::KEYS;
use super::{Inputs, VARIABLE_PREFIX, environment, flag_of, nearest, read_capped, variable_of};

/// A configuration file larger than this is another file.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// A secret larger than this is another file.
const SECRET_BYTES_MAX: u64 = 1 << 16;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// `--listen`
    Flag(String),
    /// `POSTRIDER_LISTEN`
    Variable(String),
    /// `listen` in a file.
    File {
        /// The key.
        key: String,
        /// The file.
        path: PathBuf,
    },
    /// Nobody set it.
    Default,
}

impl Origin {
    /// The name as the operator typed it.
    pub(super) fn name(&self, key: &str) -> String {
        match self {
            Self::Flag(name) | Self::Variable(name) => name.clone(),
            Self::File { key, .. } => key.clone(),
            Self::Default => key.to_owned(),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) => write!(f, "flag {name}"),
            Self::Variable(name) => write!(f, "environment {name}"),
            Self::File { path, .. } => write!(f, "file {}", path.display()),
            Self::Default => f.write_str("default"),
        }
    }
}

/// All layers, and the problems found so far.
#[derive(Debug)]
pub(super) struct Layers {
    flags: BTreeMap<String, String>,
    variables: BTreeMap<String, String>,
    file: toml::Table,
    path: PathBuf,
    pub(super) open_files: Option<u64>,
    pub(super) problems: Vec<Problem>,
}

impl Layers {
    /// No layer but the defaults.
    pub(super) fn empty() -> Self {
        Self {
            flags: BTreeMap::new(),
            variables: BTreeMap::new(),
            file: toml::Table::new(),
            path: PathBuf::new(),
            open_files: None,
            problems: Vec::new(),
        }
    }

    /// Reads the environment and the file that flag or variable names.
    pub(super) fn read(inputs: &Inputs) -> Self {
        let mut layers = Self { open_files: inputs.open_files, ..Self::empty() };
        layers.flags.clone_from(&inputs.flags);
        layers.variables = environment::settings(&inputs.environment, &mut layers.problems);
        let from_flag = inputs.config_file.clone().map(|path| ("--config".to_owned(), path));
        let from_variable = || {
            let name = format!("{VARIABLE_PREFIX}CONFIG");
            layers.variables.get("config").map(|path| (name, PathBuf::from(path)))
        };
        if let Some((name, path)) = from_flag.or_else(from_variable) {
            layers.read_file(&name, path);
        }
        layers
    }

    fn read_file(&mut self, name: &str, path: PathBuf) {
        let problem = |text: String| Problem {
            name: name.to_owned(),
            value: Some(path.display().to_string()),
            text: format!("{text}, like {name} /etc/postrider.toml"),
        };
        let text = match read_capped(&path, FILE_BYTES_MAX) {
            Ok(text) => text,
            Err(error) => {
                self.problems.push(problem(format!("must name a readable TOML file ({error})")));
                return;
            }
        };
        match text.parse::<toml::Table>() {
            Ok(table) => self.file = table,
            // The error's own text would quote the line, and with it a secret.
            Err(error) => {
                let offset = error.span().map_or(0, |span| span.start.min(text.len()));
                let line = text.as_bytes()[..offset].iter().filter(|byte| **byte == b'\n').count() + 1;
                let text = format!("must be TOML, but line {line} is not ({})", error.message());
                self.problems.push(problem(text));
            }
        }
        self.path = path;
        self.refuse_unknown_keys();
    }

    fn refuse_unknown_keys(&mut self) {
        let known = |key: &str| {
            let of_secret = |stem| KEYS.iter().any(|(known, secret)| *known == stem && secret());
            KEYS.iter().any(|(known, _)| *known == key) || key.strip_suffix("_file").is_some_and(of_secret)
        };
        for key in self.file.keys().filter(|key| !known(key)) {
            let hint = match nearest(key, KEYS.iter().map(|(key, _)| *key)) {
                Some(near) => format!("did you mean {near}?"),
                None => "'postrider serve --help' lists them".to_owned(),
            };
            self.problems.push(Problem {
                name: key.clone(),
                value: None,
                text: format!("is no setting (in {}): {hint}", self.path.display()),
            });
        }
    }

    /// The uppermost layer's value of a key, unread.
    fn find(&self, key: &str) -> Option<(Raw, Origin)> {
        if let Some(text) = self.flags.get(key) {
            return Some((Raw::Word(text.clone()), Origin::Flag(flag_of(key))));
        }
        if let Some(text) = self.variables.get(key) {
            return Some((Raw::Word(text.clone()), Origin::Variable(variable_of(key))));
        }
        let value = self.file.get(key)?;
        let origin = Origin::File { key: key.to_owned(), path: self.path.clone() };
        Some((Raw::Toml(value.clone()), origin))
    }

    /// How far down a value stands; flags first.
    fn rank(origin: &Origin) -> u8 {
        match origin {
            Origin::Flag(_) => 0,
            Origin::Variable(_) => 1,
            Origin::File { .. } => 2,
            Origin::Default => 3,
        }
    }

    /// The value of a secret: given itself or in a file, whichever layer is above.
    /// An error is where a file that cannot be used was named.
    fn find_secret(&mut self, key: &str) -> Result<Option<(Raw, Origin)>, Origin> {
        let direct = self.find(key);
        let Some((path, by_file)) = self.find(&format!("{key}_file")) else { return Ok(direct) };
        if let Some((_, by_value)) = &direct {
            let above = Self::rank(by_value).cmp(&Self::rank(&by_file));
            if above == std::cmp::Ordering::Less {
                return Ok(direct);
            }
            if above == std::cmp::Ordering::Equal {
                let text = format!("and {} are both set: keep one of them", by_value.name(key));
                self.problems.push(Problem { name: by_file.name(key), value: None, text });
                return Ok(direct);
            }
        }
        let given = path.given();
        match read_capped(Path::new(&given), SECRET_BYTES_MAX) {
            Ok(text) => Ok(Some((Raw::Word(text.trim_end_matches(['\r', '\n']).to_owned()), by_file))),
            Err(error) => {
                self.problems.push(Problem {
                    name: by_file.name(key),
                    value: Some(given),
                    text: format!(
                        "must name a readable file ({error}), like {}",
                        example(&by_file, &format!("{key}_file"), "/run/secrets/postrider")
                    ),
                });
                Err(by_file)
            }
        }
    }

    /// Takes a setting from the uppermost layer that has it. A bad value is
    /// noted and counts as absent.
    pub(super) fn take<R: Rule>(&mut self, key: &str, good: &str, rule: &R) -> (Option<R::Value>, Origin) {
        let found = if rule.secret() { self.find_secret(key) } else { Ok(self.find(key)) };
        let (raw, origin) = match found {
            Ok(Some(found)) => found,
            Ok(None) => return (None, Origin::Default),
            Err(origin) => return (None, origin),
        };
        match rule.read(&raw) {
            Ok(value) => (Some(value), origin),
            Err(wanted) => {
                self.problems.push(Problem {
                    name: origin.name(key),
                    value: Some(rule.repeat(&raw.given())),
                    text: format!("{wanted}, like {}", example(&origin, key, good)),
                });
                (None, origin)
            }
        }
    }
}
