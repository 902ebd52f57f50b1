//! The helper that only holds connections: says when they are open, and leaves
//! when whoever started it does.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::engine::Engine;
use super::load::{Load, Pace};
use super::names::Names;
use super::options::{Nodes, Options, Setup};
use super::payload::Template;
use super::receivers::{Audience, Doors, Receivers};
use super::run::JOINING_MAX_NS;
use super::signer::Signer;
use super::tally::Tally;
use crate::cli::output::{Failure, Lines};

pub(super) fn hold(setup: &Setup, options: &Options) -> Result<(), Failure> {
    let Nodes::Given(nodes) = &setup.nodes else {
        return Err(Failure::Usage("hold needs --node".to_owned()));
    };
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    // Detached on purpose: it ends with the process.
    std::thread::spawn(move || {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        flag.store(true, Ordering::Relaxed);
    });
    let doors = Doors {
        nodes: nodes.clone(),
        client: setup.client,
        names: Names::new(options.names.as_deref().unwrap_or("hold-")),
        first_user: options.first_user,
        audience: Audience::Each,
        source: options.source,
        signer: Signer::new(options.jwt_secret_file.as_deref())?,
    };
    let load = Load::new(nodes[0], 0, Vec::new(), Pace::Saturated { window: 0 });
    let tally = Tally::new(Template::new(setup.payload_bytes), 0, setup.sockets, false);
    let mut engine =
        Engine::new(Receivers::new(doors, setup.sockets), load, tally, setup.connecting, stop.clone())
            .map_err(|error| Failure::Failed(format!("failed to start: {error}")))?;
    engine.join_all();
    engine.run(JOINING_MAX_NS, Engine::all_joined)?;
    if !engine.all_joined() {
        let ends: Vec<_> = engine.ends.keys().map(String::as_str).collect();
        return Err(Failure::Failed(format!("not every connection could be opened: {}", ends.join(", "))));
    }
    Lines::new(&mut io::stdout()).put(&format!("open {}", setup.sockets))?;
    match engine.run(u64::MAX, |_| false) {
        Err(_) if stop.load(Ordering::Relaxed) => Ok(()),
        result => result,
    }
}
