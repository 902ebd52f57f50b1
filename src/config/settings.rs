//! What a setting is, and how one list of them becomes [`Config`](super::Config),
//! flags, help and `--print-config`: see `table.rs`.

use super::layers::Origin;

/// What is known of a setting without its value: for flags, help and checks.
#[derive(Debug)]
pub(crate) struct Setting {
    /// Its name in the file; with dashes its flag, in capitals its variable.
    pub(crate) key: &'static str,
    /// Under which heading help lists it.
    pub(crate) section: &'static str,
    /// What it does.
    pub(crate) help: String,
    /// Its default, in words or as written in the file; none when it has none.
    pub(crate) default: Option<String>,
    /// A good value.
    pub(crate) example: &'static str,
    /// Whether `KEY_FILE` may name a file that holds it.
    pub(crate) secret: bool,
}

/// A setting's effective value, as `--print-config` writes it.
#[derive(Debug)]
pub(super) struct Effective {
    pub(super) key: &'static str,
    pub(super) value: Option<toml::Value>,
    pub(super) origin: Origin,
}

macro_rules! settings {
    (with $open_files:ident; $($section:literal {$(
        $(#[doc = $doc:literal])+
        $field:ident: $type:ty, key $key:literal, rule $rule:expr, default $default:expr $(, in_words $words:literal)?,
        example $example:literal;
    )*})*) => {
        /// The effective configuration of a node: typed, checked, complete.
        ///
        /// `Debug` redacts secrets.
        #[derive(Debug, Clone)]
        pub struct Config {
            $($($(#[doc = $doc])+ pub $field: $type,)*)*
            pub(super) origins: Vec<Origin>,
        }

        impl Config {
            /// Takes every value from the uppermost layer that has it. A bad one
            /// leaves a problem in `layers` and its default in the result.
            pub(super) fn take(layers: &mut Layers) -> Self {
                let $open_files = layers.open_files;
                let mut origins = Vec::new();
                $($(
                    let (value, origin) = layers.take($key, $example, &$rule);
                    origins.push(origin);
                    let $field: $type = match value { Some(value) => value, None => $default };
                )*)*
                Self { $($($field,)*)* origins }
            }

            /// Every setting with its value and where that came from.
            pub(super) fn effective(&self) -> Vec<Effective> {
                let mut origins = self.origins.iter().cloned();
                vec![$($(
                    Effective {
                        key: $key,
                        value: $rule.show(&self.$field),
                        origin: origins.next().unwrap_or(Origin::Default),
                    },
                )*)*]
            }
        }

        /// Every setting, in the order of help and `--print-config`.
        pub(crate) fn settings() -> Vec<Setting> {
            let defaults = Config::take(&mut Layers::empty());
            vec![$($(
                Setting {
                    key: $key,
                    section: $section,
                    help: [$($doc.trim()),+].join(" "),
                    default: [$($words.to_owned())?].into_iter().next()
                        .or_else(|| $rule.show(&defaults.$field).map(|value| $crate::config::settings::plain(&value))),
                    example: $example,
                    secret: $rule.secret(),
                },
            )*)*]
        }

        /// The file keys of all settings, and which of them are secrets.
        pub(super) const KEYS: &[(&str, fn() -> bool)] = &[$($(($key, || $rule.secret()),)*)*];
    };
}

pub(super) use settings;

/// A value as one types it after a flag.
pub(super) fn plain(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Array(values) => values.iter().map(plain).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}
