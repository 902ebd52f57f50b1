use std::time::Duration;

use super::*;
use crate::http::auth::AuthOptions;

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const KEY: &str = "a-key-of-sixteen";

struct Given {
    inputs: Inputs,
    // Holds the files until the test is over.
    dir: tempfile::TempDir,
}

fn given(flags: &[(&str, &str)], variables: &[(&str, &str)], file: &str) -> Given {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("postrider.toml");
    std::fs::write(&path, file).expect("written");
    let inputs = Inputs {
        flags: flags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        config_file: Some(path),
        environment: Environment::of(variables.iter().copied()),
        open_files: Some(100_000),
    };
    Given { inputs, dir }
}

fn load(flags: &[(&str, &str)], variables: &[(&str, &str)], file: &str) -> Result<Config, Problems> {
    Config::load(&given(flags, variables, file).inputs)
}

/// One line for each problem.
fn refused(flags: &[(&str, &str)], variables: &[(&str, &str)], file: &str) -> Vec<String> {
    load(flags, variables, file).expect_err("refused").0.iter().map(ToString::to_string).collect()
}

#[test]
fn nothing_given_is_a_valid_configuration() {
    let config = Config::load(&Inputs::default()).expect("valid");
    assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.auth, AuthMode::None);
    assert_eq!(config.drain_delay, Duration::ZERO);
    assert_eq!(config.connections_max, 10_000);
    assert!(matches!(config.auth_options(), AuthOptions::None));
    assert!(config.redis.is_none());
}

#[test]
fn the_store_gets_its_default_limits() {
    let limits = Config::load(&Inputs::default()).expect("valid").limits();
    assert_eq!(format!("{limits:?}"), format!("{:?}", store::Limits::default()));
}

#[test]
fn flags_beat_variables_beat_the_file_beats_defaults() {
    let file = "ttl_default_seconds = 1\nbody_bytes_max = 1000\nmailbox_messages_max = 7";
    let variables = [("POSTRIDER_TTL_DEFAULT_SECONDS", "2"), ("POSTRIDER_BODY_BYTES_MAX", "2000")];
    let config = load(&[("ttl_default_seconds", "3")], &variables, file).expect("valid");
    assert_eq!(config.ttl_default, Duration::from_secs(3));
    assert_eq!(config.body_bytes_max, 2_000);
    assert_eq!(config.mailbox_messages_max, 7);
    assert_eq!(config.batch_messages_max, 100);
}

#[test]
fn the_file_is_named_by_flag_or_variable() {
    let mut given = given(&[], &[], "ttl_default_seconds = 60");
    let path = given.inputs.config_file.take().expect("a path");
    let path = path.to_str().expect("UTF-8");
    given.inputs.environment = Environment::of([("POSTRIDER_CONFIG", path)]);
    assert_eq!(Config::load(&given.inputs).expect("valid").ttl_default, Duration::from_secs(60));
    given.inputs.config_file = Some(given.dir.path().join("missing.toml"));
    let problems = Config::load(&given.inputs).expect_err("missing").to_string();
    assert!(
        problems.contains("--config '") && problems.contains("must name a readable TOML file"),
        "{problems}"
    );
}

#[test]
fn everything_wrong_is_refused_at_once_under_the_names_typed() {
    let file = "listne = 'x'\nping_interval_seconds = '25'\nauth = 'basic'";
    let variables = [("POSTRIDER_LISTNE", "127.0.0.1:1"), ("POSTRIDER_TTL_MAX_SECONDS", "week")];
    let lines = refused(&[("listen", "localhost"), ("drain_window_ms", "-1")], &variables, file);
    let expected = [
        ("listne", "did you mean listen?"),
        ("POSTRIDER_LISTNE", "did you mean POSTRIDER_LISTEN?"),
        ("--listen 'localhost'", "an IP address and a port, like --listen 0.0.0.0:8080"),
        ("POSTRIDER_TTL_MAX_SECONDS 'week'", "like POSTRIDER_TTL_MAX_SECONDS=604800"),
        ("ping_interval_seconds '25'", "from 1 to 3600, like ping_interval_seconds = 25"),
        ("auth 'basic'", "must be 'none' or 'jwt', like auth = \"jwt\""),
        ("--drain-window-ms '-1'", "whole number of milliseconds from 0"),
    ];
    for (name, text) in expected {
        let found = lines.iter().any(|line| line.starts_with(name) && line.contains(text));
        assert!(found, "{name}: {text}\nin {lines:#?}");
    }
    assert_eq!(lines.len(), expected.len(), "{lines:#?}");
}

#[test]
fn a_file_that_is_no_toml_is_refused_by_line_without_quoting_it() {
    let lines = refused(&[], &[], "log = 'info'\napi_key = hush hush\n");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("line 2") && !lines[0].contains("hush"), "{lines:?}");
}

#[test]
fn an_empty_variable_is_a_bad_value_not_an_absent_one() {
    let lines = refused(&[], &[("POSTRIDER_REDIS", "")], "");
    assert!(lines[0].starts_with("POSTRIDER_REDIS '' must look like redis://"), "{lines:?}");
}

#[test]
fn variables_that_are_not_settings_are_told_from_mistakes() {
    let fine = [
        ("PATH", "/bin"),
        ("POSTRIDER_URL", "http://h:1"),
        ("POSTRIDER_TOKEN", "t"),
        // As Kubernetes sets them beside Services named postrider and postrider-admin.
        ("POSTRIDER_SERVICE_HOST", "10.0.0.1"),
        ("POSTRIDER_SERVICE_PORT", "80"),
        ("POSTRIDER_SERVICE_PORT_HTTP", "80"),
        ("POSTRIDER_PORT", "tcp://10.0.0.1:80"),
        ("POSTRIDER_PORT_80_TCP_ADDR", "10.0.0.1"),
        ("POSTRIDER_ADMIN_PORT_80_TCP", "tcp://10.0.0.1:80"),
    ];
    load(&[], &fine, "").expect("valid");
    // Beside one named postrider-service, and one whose ports' names end in -port.
    let fine = [
        ("POSTRIDER_SERVICE_SERVICE_HOST", "10.0.0.1"),
        ("POSTRIDER_SERVICE_SERVICE_PORT", "80"),
        ("POSTRIDER_SERVICE_PORT", "tcp://10.0.0.1:80"),
        ("POSTRIDER_WS_SERVICE_HOST", "10.0.0.2"),
        ("POSTRIDER_WS_SERVICE_PORT", "80"),
        ("POSTRIDER_WS_SERVICE_PORT_HTTP_PORT", "80"),
        ("POSTRIDER_WS_SERVICE_PORT_SERVICE_PORT", "81"),
    ];
    load(&[], &fine, "").expect("valid");
    for (name, value) in
        [("POSTRIDER_PORT", "9999"), ("POSTRIDER_ADMIN_PORT", "9999"), ("POSTRIDER_SERVICE_PORT", "80")]
    {
        let lines = refused(&[], &[(name, value)], "");
        assert!(lines.len() == 1 && lines[0].starts_with(&format!("{name} is no variable")), "{lines:?}");
    }
    for typo in
        ["POSTRIDER_REDIS_URL", "POSTRIDER_listen", "POSTRIDER_", "POSTRIDER_LISTEN_FILE", "POSTRIDER_XYZZY"]
    {
        let lines = refused(&[], &[(typo, "redis://h")], "");
        assert!(
            lines.len() == 1 && lines[0].starts_with(&format!("{typo} is no variable of ours")),
            "{lines:?}"
        );
    }
}

#[test]
fn open_listening_without_authentication_is_refused_with_the_way_out() {
    for flags in [&[("listen", "0.0.0.0:80")][..], &[("listen", "[::]:80"), ("auth", "none")][..]] {
        let lines = refused(flags, &[], "");
        assert_eq!(lines.len(), 1, "{lines:?}");
        for part in ["--listen '", "--auth jwt", "POSTRIDER_JWT_SECRET", "127.0.0.1:80"] {
            assert!(lines[0].contains(part), "{part} in {lines:?}");
        }
    }
    load(&[("listen", "[::1]:80"), ("auth", "none")], &[], "").expect("loopback");
}

#[test]
fn jwt_needs_a_secret_and_a_key_of_some_length() {
    let lines = refused(&[("auth", "jwt")], &[], "");
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(
        lines[0].contains("POSTRIDER_JWT_SECRET_FILE=")
            && lines[0].contains("--jwks-url https://")
            && lines[1].contains("POSTRIDER_API_KEY"),
        "{lines:?}"
    );

    let short = [("POSTRIDER_JWT_SECRET", "short-secret"), ("POSTRIDER_API_KEY", "short-key")];
    let lines = refused(&[("auth", "jwt")], &short, "");
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].contains("at least 32 bytes") && lines[1].contains("at least 16"), "{lines:?}");
    assert!(!lines.concat().contains("short-"), "{lines:?}");

    let good = [("POSTRIDER_JWT_SECRET", SECRET), ("POSTRIDER_API_KEY", KEY)];
    let config = load(&[("auth", "jwt"), ("listen", "0.0.0.0:80")], &good, "").expect("valid");
    assert!(matches!(config.auth_options(), AuthOptions::Guarded(_)));
    assert_eq!(config.drain_delay, Duration::from_secs(5));
}

#[test]
fn secrets_may_stand_in_files_of_their_own() {
    let mut given = given(&[], &[], "");
    let path = given.dir.path().join("secret");
    std::fs::write(&path, format!("{SECRET}\r\n")).expect("written");
    let path = path.to_str().expect("UTF-8").to_owned();
    given.inputs.environment = Environment::of([("POSTRIDER_JWT_SECRET_FILE", path.as_str())]);
    let config = Config::load(&given.inputs).expect("valid");
    assert_eq!(config.jwt_secret.as_ref().map(Secret::expose), Some(SECRET));

    given.inputs.environment =
        Environment::of([("POSTRIDER_JWT_SECRET_FILE", path.as_str()), ("POSTRIDER_JWT_SECRET", SECRET)]);
    let both = Config::load(&given.inputs).expect_err("both").to_string();
    assert!(both.contains("POSTRIDER_JWT_SECRET_FILE and POSTRIDER_JWT_SECRET are both set"), "{both}");

    given.inputs.flags.insert("jwt_secret".to_owned(), "f".repeat(32));
    given.inputs.environment = Environment::of([("POSTRIDER_JWT_SECRET_FILE", path.as_str())]);
    let config = Config::load(&given.inputs).expect("the flag is above");
    assert_eq!(config.jwt_secret.as_ref().map(Secret::expose), Some("f".repeat(32).as_str()));
}

#[test]
fn a_missing_secret_file_is_one_problem() {
    let lines = refused(
        &[("auth", "jwt"), ("jwt_secret_file", "/nowhere/at/all")],
        &[("POSTRIDER_API_KEY", KEY)],
        "",
    );
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(
        lines[0].starts_with("--jwt-secret-file '/nowhere/at/all' must name a readable file"),
        "{lines:?}"
    );
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    let cases: &[(&[(&str, &str)], &str)] = &[
        (&[("heartbeat_interval_ms", "1001")], "--heartbeat-interval-ms '1001' must be at most a third"),
        (&[("ttl_max_seconds", "60")], "ttl_default_seconds '3600' must be at most ttl_max_seconds, 60"),
        (&[("channel_retention_seconds", "3600")], "--channel-retention-seconds '3600' must be at least"),
        (&[("drain_delay_ms", "15000")], "drain_deadline_ms '20000' must be at least"),
        (&[("outbox_bytes_max", "1024")], "--outbox-bytes-max '1024' must hold the largest message"),
    ];
    for (flags, text) in cases {
        let lines = refused(flags, &[], "");
        assert!(lines.len() == 1 && lines[0].starts_with(text), "{text}\n{lines:?}");
    }
}

#[test]
fn the_printed_configuration_is_the_same_configuration() {
    let flags = [("listen", "127.0.0.1:9000"), ("allowed_origins", "https://a.com,http://b.com:81")];
    let config = load(&flags, &[("POSTRIDER_LOG_FORMAT", "json")], "advertise = 'n1:80'").expect("valid");
    let printed = config.to_toml();
    for line in [
        "listen = \"127.0.0.1:9000\"  # flag --listen",
        "log_format = \"json\"  # environment POSTRIDER_LOG_FORMAT",
        "ttl_default_seconds = 3600  # default",
        "# redis is not set",
    ] {
        assert!(printed.lines().any(|printed| printed == line), "{line}\n{printed}");
    }
    assert!(printed.contains("advertise = \"n1:80\"  # file "), "{printed}");
    let values = |config: &Config| config.effective().into_iter().map(|one| one.value).collect::<Vec<_>>();
    assert_eq!(values(&load(&[], &[], &printed).expect("valid")), values(&config));
}

#[test]
fn secrets_are_never_shown() {
    let variables = [
        ("POSTRIDER_REDIS", "redis://app:hush-redis@10.0.0.5:6379"),
        ("POSTRIDER_JWT_SECRET", "hush-0123456789abcdef0123456789abcdef"),
        ("POSTRIDER_API_KEY", "hush-0123456789abcdef"),
    ];
    let given = given(&[("auth", "jwt")], &variables, "");
    let config = Config::load(&given.inputs).expect("valid");
    for shown in [config.to_toml(), format!("{config:?}"), format!("{:?}", given.inputs.environment)] {
        assert!(!shown.contains("hush"), "{shown}");
    }
    assert!(
        config
            .to_toml()
            .contains("redis = \"redis://[redacted]@10.0.0.5:6379\"  # environment POSTRIDER_REDIS")
    );
    let bad =
        refused(&[], &[("POSTRIDER_REDIS", "http://app:hush@h"), ("POSTRIDER_API_KEY", "hush")], "").concat();
    assert!(!bad.contains("hush"), "{bad}");
}

#[test]
fn every_setting_has_a_good_example_and_default() {
    for setting in settings() {
        let generated = setting.example.starts_with("$(");
        if !generated {
            let mut layers = layers::Layers::read(&Inputs {
                flags: BTreeMap::from([(setting.key.to_owned(), setting.example.to_owned())]),
                ..Inputs::default()
            });
            Config::take(&mut layers);
            assert_eq!(layers.problems, [], "{}", setting.key);
        }
        assert!(setting.help.ends_with('.'), "{}", setting.help);
    }
    let keys: std::collections::BTreeSet<_> = settings().iter().map(|setting| setting.key).collect();
    assert_eq!(keys.len(), table::KEYS.len(), "a key stands twice");
}

#[test]
fn connections_follow_the_open_files_allowed() {
    let of = |open_files| {
        let config = Config::load(&Inputs { open_files, ..Inputs::default() }).expect("valid");
        config.connections_max
    };
    assert_eq!(of(Some(1_000)), 800);
    assert_eq!(of(Some(1 << 20)), 10_000);
    let many = load(&[("connections_max", "50000")], &[], "").expect("valid");
    assert_eq!(many.warnings(Some(1 << 20)), Vec::<String>::new());
    assert!(many.warnings(Some(1_024))[0].contains("LimitNOFILE) to at least 62500"));
}

#[test]
fn mistypes_find_their_word() {
    let keys = || table::KEYS.iter().map(|(key, _)| *key);
    assert_eq!(nearest("listne", keys()), Some("listen"));
    assert_eq!(nearest("redis_url", keys()), None);
    assert_eq!(nearest("ttl_max", ["ttl_max_s"].into_iter()), Some("ttl_max_s"));
    assert_eq!(nearest("xyzzy", keys()), None);
}

#[test]
fn proxies_are_trusted_by_address_and_never_by_default() {
    assert!(Config::load(&Inputs::default()).expect("valid").trusted_proxies.is_empty());
    let file = "trusted_proxies = [\"10.1.2.3/8\", \"::1\"]\nproxy_protocol = \"on\"";
    let config = load(&[], &[], file).expect("valid");
    assert_eq!(config.trusted_proxies, ["10.0.0.0/8", "::1/128"]);
    assert!(config.proxy_protocol);
    assert!(refused(&[("trusted_proxies", "lb.internal")], &[], "")[0].contains("must be IP addresses"));
    assert!(refused(&[("proxy_protocol", "on")], &[], "")[0].contains("needs trusted_proxies"));
    assert!(refused(&[("proxy_protocol", "yes")], &[], "")[0].contains("'off' or 'on'"));
}
