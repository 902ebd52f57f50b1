//! A load balancer as a child process.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::harness::{Api, Dial, PATIENCE, Process, free_port, until};
use crate::tools;

/// Which one, with which of the project's configurations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Nginx,
    Haproxy,
    /// Passes connections on as they are, with a PROXY header.
    HaproxyTcp,
    Envoy,
}

impl Kind {
    /// Those that read HTTP and are there. Envoy is in no Debian package:
    /// `scripts/test` says where it put one, or that it could not.
    pub(super) fn all() -> Vec<Self> {
        let envoy = envoy().map(|_| Self::Envoy);
        [Self::Nginx, Self::Haproxy].into_iter().chain(envoy).collect()
    }

    /// The folder of its configuration, the file to start with, and those beside it.
    fn files(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Self::Nginx => {
                ("nginx", &["nginx.conf", "postrider.conf", "nodes.conf", "nodes-for-sockets.conf"])
            }
            Self::Haproxy => ("haproxy", &["haproxy.cfg"]),
            Self::HaproxyTcp => ("haproxy", &["haproxy-tcp.cfg"]),
            Self::Envoy => ("envoy", &["envoy.yaml"]),
        }
    }

    fn command(self, file: &Path, folder: &Path) -> Command {
        let program = match self {
            Self::Nginx => tools::program("nginx"),
            Self::Haproxy | Self::HaproxyTcp => tools::program("haproxy"),
            Self::Envoy => envoy().expect("it is there when it is asked for"),
        };
        let mut command = Command::new(program);
        match self {
            Self::Nginx => {
                command.arg("-p").arg(folder).arg("-c").arg(file).args(["-e", "stderr"]);
                if rustix::process::geteuid().is_root() {
                    // Its workers would otherwise be somebody who may not enter the folder.
                    command.args(["-g", "user root;"]);
                }
            }
            Self::Haproxy | Self::HaproxyTcp => {
                command.arg("-f").arg(file);
            }
            Self::Envoy => {
                command.arg("-c").arg(file).args(["--use-dynamic-base-id", "--concurrency", "1"]);
                command.args(["--log-level", "warning"]);
            }
        }
        command
    }
}

fn envoy() -> Option<PathBuf> {
    std::env::var_os("TEST_ENVOY").map(PathBuf::from).filter(|program| program.is_file())
}

/// The text of a file in `deploy/`.
pub(super) fn deployed(path: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(path);
    std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// A running balancer.
#[derive(Debug)]
pub(super) struct Balancer {
    pub(super) kind: Kind,
    pub(super) address: SocketAddr,
    _process: Process,
    _folder: TempDir,
}

impl Balancer {
    /// In front of these three nodes.
    pub(super) async fn start(kind: Kind, nodes: [SocketAddr; 3]) -> Self {
        Self::start_edited(kind, nodes, &[]).await
    }

    /// With pieces of its configuration replaced, each of which must be there.
    pub(super) async fn start_edited(kind: Kind, nodes: [SocketAddr; 3], edits: &[(&str, &str)]) -> Self {
        for _ in 0..5 {
            let folder = tempfile::Builder::new().prefix("postrider-balancer").tempdir();
            let folder = folder.expect("a temporary folder");
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
            let file = configure(kind, folder.path(), address, nodes, edits);
            let mut command = kind.command(&file, folder.path());
            let log = folder.path().join("balancer.log");
            let mut process = Process::start(&format!("{kind:?}"), &mut command, &log);
            if answers(&mut process, address).await {
                return Self { kind, address, _process: process, _folder: folder };
            }
        }
        panic!("{kind:?} did not start on any of five ports");
    }

    /// The cluster's REST interface, as senders see it.
    pub(super) fn api(&self) -> Api {
        Api::new(&format!("http://{}", self.address))
    }

    /// A device of the cluster's, from wherever.
    pub(super) fn envelope(&self, user: &str) -> Dial {
        Dial::envelope(self.address, user)
    }

    pub(super) fn plain(&self, user: &str) -> Dial {
        Dial::plain(self.address, user)
    }
}

/// Writes the project's files with the addresses of this run.
fn configure(
    kind: Kind,
    folder: &Path,
    address: SocketAddr,
    nodes: [SocketAddr; 3],
    edits: &[(&str, &str)],
) -> PathBuf {
    let (home, names) = kind.files();
    let mut texts: Vec<String> = names.iter().map(|name| deployed(&format!("{home}/{name}"))).collect();
    let mut replaced = addresses(kind, address, nodes);
    replaced.extend(edits.iter().map(|(old, new)| ((*old).to_owned(), (*new).to_owned())));
    for (old, new) in replaced {
        let times: usize = texts.iter().map(|text| text.matches(&old).count()).sum();
        assert!(times > 0, "{home}: nothing is called {old:?} there");
        texts.iter_mut().for_each(|text| *text = text.replace(&old, &new));
    }
    for (name, text) in names.iter().zip(texts) {
        std::fs::write(folder.join(name), text).expect("the folder is ours");
    }
    folder.join(names[0])
}

/// What the files say of addresses, and what it becomes.
fn addresses(kind: Kind, address: SocketAddr, nodes: [SocketAddr; 3]) -> Vec<(String, String)> {
    let socket = |host: &str, port: u16| format!("address: {host}, port_value: {port}");
    let (node, own): (fn(u16, SocketAddr) -> _, _) = match kind {
        Kind::Envoy => (
            |at, node| {
                let [at, node] = [at, node.port()].map(|port| format!("127.0.0.1, port_value: {port}"));
                (at, node)
            },
            vec![
                (socket("0.0.0.0", 8080), socket("127.0.0.1", address.port())),
                (socket("127.0.0.1", 9901), socket("127.0.0.1", 0)),
            ],
        ),
        Kind::Nginx => {
            (|at, node| (format!("127.0.0.1:{at}"), node.to_string()), vec![listen("listen 8080", address)])
        }
        Kind::Haproxy | Kind::HaproxyTcp => {
            (|at, node| (format!("127.0.0.1:{at}"), node.to_string()), vec![listen("bind :8080", address)])
        }
    };
    (8081..).zip(nodes).map(|(at, address)| node(at, address)).chain(own).collect()
}

/// `listen 8080`, with an address of loopback instead of the port.
fn listen(line: &str, address: SocketAddr) -> (String, String) {
    let word = line.split(' ').next().expect("a word");
    (line.to_owned(), format!("{word} {address}"))
}

/// True once it forwards; false when it ended (its port was taken).
async fn answers(process: &mut Process, address: SocketAddr) -> bool {
    let api = Api::new(&format!("http://{address}"));
    until(PATIENCE, "the balancer forwards to a node that is ready", async || {
        if process.ended().is_some() {
            return Some(false);
        }
        api.try_get("/readyz").await.is_ok_and(|answer| answer.status == 200).then_some(true)
    })
    .await
}
