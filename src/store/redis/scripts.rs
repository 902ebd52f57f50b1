//! The scripts: Lua files put together, and how they are called.
//!
//! A channel script is a prelude (keys, clock, state), its own part, and an end
//! that writes what changed: see `scripts/prelude.lua`. Three that are called for
//! nearly every message and connection do the plain case for many channels at
//! once; a Redis whose channels are spread over slots would have them called for
//! one slot's at a time. Only accepting messages is refused when Redis is out of
//! memory, before anything was done; all others free more than they take, or keep
//! the cluster alive.

use std::sync::LazyLock;

use ::redis::Cmd;
use sha1::{Digest, Sha1};

macro_rules! part {
    ($file:literal) => {
        concat!("\n", include_str!(concat!("scripts/", $file)))
    };
}

macro_rules! channel_script {
    ($flags:literal: $($part:literal),+) => {
        concat!(
            "#!lua",
            $flags,
            part!("layout.lua"),
            part!("prelude.lua"),
            $(part!($part),)+
            part!("finish.lua")
        )
    };
}

macro_rules! channels_script {
    ($flags:literal: $part:literal) => {
        concat!("#!lua", $flags, part!("layout.lua"), part!($part))
    };
}

macro_rules! node_script {
    ($file:literal) => {
        concat!("#!lua flags=allow-oom", part!($file))
    };
}

macro_rules! scripts {
    ($($(#[$doc:meta])* $name:ident = $source:expr;)+) => {
        /// One atomic operation.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Script {
            $($(#[$doc])* $name,)+
        }

        /// Every script's text, in the order of [`Script`].
        pub(super) const SOURCES: &[&str] = &[$($source),+];
    };
}

scripts! {
    /// Accepts a message.
    Append = channel_script!("": "repeated.lua", "append_quick.lua", "rare.lua", "append.lua");
    /// Accepts many messages, of which nothing is out of the ordinary.
    Appends = channels_script!("": "appends.lua");
    /// Counts a message that is not kept.
    Ephemeral = channel_script!("": "repeated.lua", "rare.lua", "ephemeral.lua");
    /// Reads a mailbox.
    Read = channel_script!(" flags=allow-oom": "rare.lua", "read.lua");
    /// Writes a directory line, then reads.
    Join = channel_script!(" flags=allow-oom": "rare.lua", "route.lua", "read.lua", "place.lua", "crowded.lua");
    /// Writes many directory lines of channels in which nothing waits.
    Joins = channels_script!(" flags=allow-oom": "joins.lua");
    /// Writes or removes a directory line.
    Leave = channel_script!(" flags=allow-oom": "route.lua");
    /// Moves a cursor and the watermark.
    Receive = channel_script!(" flags=allow-oom": "rare.lua", "receive.lua", "crowded.lua");
    /// Moves many watermarks of channels in which nothing else is to be done.
    Receives = channels_script!(" flags=allow-oom": "receives.lua");
    /// Settles ephemeral messages.
    Report = channel_script!(" flags=allow-oom": "rare.lua", "report.lua");
    /// Tells everything.
    Inspect = channel_script!(" flags=allow-oom": "rare.lua", "inspect.lua");
    /// Finds a message.
    Find = channel_script!(" flags=allow-oom": "rare.lua", "found.lua", "find.lua");
    /// Lists the newest messages.
    Recent = channel_script!(" flags=allow-oom": "rare.lua", "found.lua", "recent.lua");
    /// Takes a message back.
    Withdraw = channel_script!(" flags=allow-oom": "rare.lua", "withdraw.lua");
    /// Forgets a channel.
    Erase = channel_script!(" flags=allow-oom": "erase.lua");
    /// Follows a channel's presence.
    Turn = node_script!("turn.lua");
    /// Notes a logout.
    Logout = node_script!("logout.lua");
    /// Takes a ticket.
    Take = node_script!("take.lua");
    /// Notes channels in a node's index.
    Index = node_script!("index.lua");
    /// Makes stream, group and heartbeat.
    Enrol = node_script!("enrol.lua");
    /// Tells which life the data is in.
    Life = node_script!("life.lua");
    /// Renews a heartbeat.
    Beat = node_script!("beat.lua");
    /// Renews a registry entry and finds the silent.
    Register = node_script!("register.lua");
    /// Takes a lease.
    Fence = node_script!("fence.lua");
    /// Deletes entries under a lease.
    Discard = node_script!("discard.lua");
    /// Removes a dead node.
    Bury = node_script!("bury.lua");
    /// Removes a node that leaves.
    Retire = node_script!("retire.lua");
}

static DIGESTS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let hex = |source: &&str| Sha1::digest(source).iter().map(|byte| format!("{byte:02x}")).collect();
    SOURCES.iter().map(hex).collect()
});

impl Script {
    /// Begins a call of a script that takes so many keys.
    pub(super) fn call(self, keys: usize) -> Cmd {
        let mut command = Cmd::with_capacity(24.max(keys * 2 + 8), 512.max(keys * 160));
        command.arg("EVALSHA").arg(&DIGESTS[self as usize]).arg(keys);
        command
    }
}

/// The commands that make every script known to a server.
pub(super) fn load() -> ::redis::Pipeline {
    let mut pipeline = ::redis::Pipeline::new();
    for source in SOURCES {
        pipeline.cmd("SCRIPT").arg("LOAD").arg(*source);
    }
    pipeline
}
