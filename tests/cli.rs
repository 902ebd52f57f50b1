//! The program itself: what scripts see of it.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStderr, Command, Output, Stdio};

#[path = "harness/net.rs"]
#[allow(unreachable_pub, reason = "shared with other test binaries")]
mod net;

fn postrider(args: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_postrider"));
    command.args(args).env_clear().envs(variables.iter().copied());
    command
}

fn run(args: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = postrider(args, variables).output().expect("it runs");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (status.code(), text(stdout), text(stderr))
}

/// Where nobody listens.
fn nowhere() -> String {
    format!("http://127.0.0.1:{}", net::free_port())
}

#[test]
fn a_bad_configuration_is_refused_whole_with_64() {
    for command in [&["serve"][..], &["config", "check"][..]] {
        let args = [command, &["--listen", "0.0.0.0:1", "--log-format", "xml"]].concat();
        let (code, out, err) = run(&args, &[("POSTRIDER_LISTNE", "x")]);
        assert_eq!((code, out.as_str()), (Some(64), ""), "{err}");
        for part in ["3 problems", "--listen", "--log-format 'xml'", "did you mean POSTRIDER_LISTEN?"] {
            assert!(err.contains(part), "{part} in {err}");
        }
    }
}

#[test]
fn a_good_configuration_is_ok_and_can_be_printed() {
    let (code, out, err) = run(&["config", "check"], &[]);
    assert_eq!((code, out.as_str(), err.as_str()), (Some(0), "ok\n", ""));
    let (code, out, _) = run(&["serve", "--print-config"], &[("POSTRIDER_REDIS", "redis://:hush@h")]);
    assert_eq!(code, Some(0));
    assert!(out.contains("redis = \"redis://[redacted]@h\"  # environment POSTRIDER_REDIS"), "{out}");
}

#[test]
fn exit_codes_tell_what_went_wrong() {
    let url = nowhere();
    assert_eq!(run(&["push", "--to", "nobody", "x"], &[]).0, Some(2));
    assert_eq!(run(&["pusch"], &[]).0, Some(2));
    assert_eq!(run(&["listen"], &[]).0, Some(2));
    for args in [&["push", "--to", "user:a", "x"][..], &["nodes"][..], &["listen", "--user", "a"][..]] {
        let (code, out, err) = run(args, &[("POSTRIDER_URL", &url)]);
        assert_eq!((code, out.as_str()), (Some(69), ""), "{args:?}: {err}");
    }
    assert_eq!(run(&["health", "--url", &url], &[]).0, Some(1));
}

#[test]
fn a_taken_address_is_a_failure_with_its_cause() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound").to_string();
    let (code, _, err) = run(&["serve", "--listen", &address], &[]);
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains(&address), "{err}");
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    let mut child = postrider(&["serve", "--print-config"], &[])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    drop(child.stdout.take());
    let mut err = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut err).expect("UTF-8");
    assert_eq!(child.wait().expect("it ends").code(), Some(0), "{err}");
    assert_eq!(err, "");
}

/// A node that does not outlive its test.
#[cfg(unix)]
struct Node(Child);

#[cfg(unix)]
impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A node on a free port, and its log.
#[cfg(unix)]
fn node(args: &[&str]) -> (Node, BufReader<ChildStderr>) {
    let args = [&["serve", "--listen", "127.0.0.1:0"], args].concat();
    let mut child = postrider(&args, &[]).stderr(Stdio::piped()).spawn().expect("it runs");
    let log = BufReader::new(child.stderr.take().expect("piped"));
    (Node(child), log)
}

/// Reads log lines up to one that says this.
#[cfg(unix)]
fn read_until(log: &mut impl BufRead, text: &str) {
    let mut line = String::new();
    while !line.contains(text) {
        line.clear();
        assert!(log.read_line(&mut line).expect("UTF-8") > 0, "it ended before '{text}'");
    }
}

#[cfg(unix)]
impl Node {
    fn signal(&self, name: &str) {
        let sent = Command::new("sh").args(["-c", &format!("kill -{name} {}", self.0.id())]).status();
        assert!(sent.expect("a shell").success());
    }

    fn exit_code(&mut self) -> Option<i32> {
        self.0.wait().expect("it ends").code()
    }
}

#[cfg(unix)]
#[test]
fn a_first_signal_drains_and_exits_with_0() {
    for name in ["TERM", "INT"] {
        let (mut node, mut log) = node(&["--drain-window-ms", "0"]);
        read_until(&mut log, "listening");
        node.signal(name);
        assert_eq!(node.exit_code(), Some(0), "{name}");
    }
}

#[cfg(unix)]
#[test]
fn a_second_signal_exits_at_once_with_its_own_code() {
    let endless = ["--drain-delay-ms", "600000", "--drain-window-ms", "0", "--drain-deadline-ms", "600000"];
    for (name, code) in [("TERM", 143), ("INT", 130)] {
        let (mut node, mut log) = node(&endless);
        read_until(&mut log, "listening");
        node.signal("TERM");
        read_until(&mut log, "draining");
        node.signal(name);
        assert_eq!(node.exit_code(), Some(code), "{name}");
    }
}

#[cfg(unix)]
#[test]
fn logs_can_be_json() {
    let (mut node, mut log) = node(&["--log-format", "json"]);
    let mut line = String::new();
    while !line.contains(r#""message":"listening""#) {
        line.clear();
        assert!(log.read_line(&mut line).expect("UTF-8") > 0, "it ended");
        assert!(line.starts_with('{') && line.ends_with("}\n"), "{line}");
    }
    node.signal("TERM");
    assert_eq!(node.exit_code(), Some(0));
}
