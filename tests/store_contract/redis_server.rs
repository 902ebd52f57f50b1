//! A private `redis-server` for one test.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::net::free_port;

/// How long a server may take to start, and any command to be answered.
const PATIENCE: Duration = Duration::from_secs(20);
/// Another program, not one of our tests, can take a port before the server does.
const PORT_ATTEMPTS: usize = 5;

/// Listens on loopback, keeps its files in a temporary folder, and is killed
/// when dropped.
pub(crate) struct RedisServer {
    folder: tempfile::TempDir,
    port: u16,
    settings: Vec<String>,
    process: Child,
}

/// The user that nodes are.
const RESTRICTED: &str = "postrider";
const PASSWORD: &str = "change-this-password";

/// The rules of the file that is shipped, less one that `POSTRIDER_TEST_ACL_WITHOUT`
/// names: `scripts/acl-minimal` asks what fails then.
fn rules() -> Vec<String> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/redis/users.acl");
    let text = std::fs::read_to_string(file).expect("the file is shipped");
    let line = text.lines().find_map(|line| line.strip_prefix("user postrider "));
    let without = std::env::var("POSTRIDER_TEST_ACL_WITHOUT").unwrap_or_default();
    let rules: Vec<_> = line.expect("its user").split(' ').map(str::to_owned).collect();
    assert!(without.is_empty() || rules.contains(&without), "{without} is no rule of the file");
    rules.into_iter().filter(|rule| *rule != without).collect()
}

impl RedisServer {
    /// Starts one on a free port, without persistence.
    pub(crate) fn start() -> Self {
        Self::start_with(&["--appendonly", "no"])
    }

    /// Starts one on a free port with these settings.
    pub(crate) fn start_with(settings: &[&str]) -> Self {
        let settings: Vec<_> = settings.iter().map(|setting| (*setting).to_owned()).collect();
        let folder = tempfile::tempdir().expect("a temporary folder");
        for _ in 0..PORT_ATTEMPTS {
            let port = free_port();
            let mut process = spawn(folder.path(), port, &settings);
            if answers(&mut process, port) {
                return Self { folder, port, settings, process };
            }
        }
        panic!("redis-server does not start; see {}/log", folder.keep().display());
    }

    /// Starts one whose user [`RESTRICTED`] has the rules of `deploy/redis/users.acl`
    /// and no others.
    pub(crate) fn start_restricted() -> Self {
        let rules = rules();
        let rules: Vec<_> = rules.iter().map(String::as_str).collect();
        Self::start_with(&[&["--appendonly", "no", "--user", RESTRICTED], &rules[..]].concat())
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Where the user of [`start_restricted`](Self::start_restricted) connects.
    pub(crate) fn restricted_url(&self) -> String {
        format!("redis://{RESTRICTED}:{PASSWORD}@127.0.0.1:{}", self.port)
    }

    /// Writes everything to disk.
    pub(crate) fn save(&self) {
        assert_eq!(command(self.port, "SAVE").expect("answered"), "+OK");
    }

    /// Kills the server and starts it again with what was last saved.
    pub(crate) fn crash_and_start(&mut self) {
        self.kill();
        self.start_again();
    }

    pub(crate) fn start_again(&mut self) {
        self.process = spawn(self.folder.path(), self.port, &self.settings);
        assert!(answers(&mut self.process, self.port), "redis-server does not start again");
    }

    /// The first line of the answer to a command.
    pub(crate) fn ask(&self, line: &str) -> String {
        command(self.port, line).expect("answered")
    }

    /// `STOP` pauses the process, `CONT` lets it go on.
    pub(crate) fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args(["-s", signal, &self.process.id().to_string()]).status();
        assert!(sent.expect("kill runs").success());
    }

    pub(crate) fn kill(&mut self) {
        // It may have died before, and then there is nothing to do.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(folder: &std::path::Path, port: u16, settings: &[String]) -> Child {
    let log = folder.join("log");
    Command::new("redis-server")
        .current_dir(folder)
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
        .args(settings)
        .arg("--logfile")
        .arg(log)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| {
            panic!("redis-server does not run ({error}): install it, on Debian with `apt-get install redis-server`")
        })
}

/// Waits until the server answers; `false` when it exits instead.
fn answers(process: &mut Child, port: u16) -> bool {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        if process.try_wait().expect("our child").is_some() {
            return false;
        }
        // Whoever answers must be ours: a foreign server on this port would
        // have made ours exit, which the next round sees.
        if command(port, "CONFIG GET dir").is_ok() && process.try_wait().expect("our child").is_none() {
            return true;
        }
        assert!(tokio::time::Instant::now() < deadline, "redis-server does not answer");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The first line of the answer to an inline command.
fn command(port: u16, line: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(format!("{line}\r\n").as_bytes())?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    match answer.trim_end() {
        // Still reading its file.
        loading if loading.starts_with("-LOADING") => Err(std::io::Error::other(loading.to_owned())),
        answer => Ok(answer.to_owned()),
    }
}
