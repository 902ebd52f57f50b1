//! Every setting, each in one entry: its field, flag, variable, file key, rule,
//! default, help and example all come from here.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::accept;
use super::layers::{Layers, Origin};
use super::rule::{
    AUTH, Count, Discreet, Hidden, LOG_FORMAT, Listen, Maybe, Millis, Redis, Rule, SWITCH, Seconds, Text,
    Texts,
};
use super::settings::{Effective, Setting, settings};
use super::value::{AuthMode, RedisUrl, Secret};
use crate::http::auth::check_public_keys;
use crate::logging::Format;

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

settings! {
    with open_files;

    "Node" {
        /// Where to serve HTTP and WebSocket. Beyond loopback it needs --auth jwt.
        listen: SocketAddr, key "listen", rule Listen, default LOOPBACK, example "0.0.0.0:8080";
        /// The Redis in which nodes meet; rediss:// speaks TLS. Without it the node keeps everything in its own memory: one
        /// node, and nothing survives a restart.
        redis: Option<RedisUrl>, key "redis", rule Maybe(Redis), default None, example "redis://127.0.0.1:6379";
        /// Who may connect and send. 'none': anyone, a token is the name of its user. 'jwt': users by signed
        /// token, senders by API key.
        auth: AuthMode, key "auth", rule AUTH, default AuthMode::None, in_words "none, on loopback only",
            example "jwt";
        /// What signs users' tokens (HS256 unless --jwt-algorithm says otherwise): at least 32 bytes. For
        /// public keys see --jwt-public-key-file and --jwks-url.
        jwt_secret: Option<Secret>, key "jwt_secret",
            rule Maybe(Hidden {
                wants: "must be at least 32 bytes, since anyone can guess at a shorter one offline",
                accepts: |text| text.len() >= 32,
            }),
            default None, example "$(openssl rand -hex 32)";
        /// What senders present as 'Authorization: Bearer ...': at least 16 printable characters. It allows
        /// everything; --api-keys holds several that do not.
        api_key: Option<Secret>, key "api_key",
            rule Maybe(Hidden {
                wants: "must be at least 16 printable ASCII characters without spaces",
                accepts: |text| text.len() >= 16 && text.bytes().all(|b| b.is_ascii_graphic()),
            }),
            default None, example "$(openssl rand -hex 16)";
        /// Threads that serve. Nodes that share a machine had better share out its processors: each thread
        /// that could be spared costs wake-ups.
        worker_threads: usize, key "worker_threads", rule Count("threads", 1..=1_024),
            default std::thread::available_parallelism().map_or(1, usize::from),
            in_words "as many as the machine has processors", example "2";
        /// Where others reach this node, as 'postrider nodes' lists it.
        advertise: Option<String>, key "advertise", rule Maybe(Text(accept::advertised)), default None,
            in_words "the address it listens on", example "10.0.0.5:8080";
        /// Origins (scheme://host[:port]) whose pages may open WebSockets, besides the node's own. With --auth none
        /// it also answers to their hosts.
        allowed_origins: Vec<String>, key "allowed_origins", rule Texts(accept::origin), default Vec::new(),
            in_words "none besides its own", example "https://app.example.com";
        /// Whether pages of --allowed-origins may also use the REST API and read its answers (CORS).
        cors: bool, key "cors", rule SWITCH, default false, example "on";
        /// Where else to serve: for operators. What they look at (/metrics, /console, /docs, /v1/stats, /v1/nodes)
        /// is then served only there.
        admin_listen: Option<SocketAddr>, key "admin_listen", rule Maybe(Listen), default None,
            in_words "together with everything else", example "127.0.0.1:9090";
        /// Load balancers and proxies in front (addresses or networks): what they say of their clients in
        /// X-Forwarded-For is believed. Nobody else's word is.
        trusted_proxies: Vec<String>, key "trusted_proxies", rule Texts(accept::network), default Vec::new(),
            in_words "none", example "10.0.0.0/8";
        /// Whether connections of trusted proxies begin with a PROXY header (version 1 or 2), as those of a
        /// balancer that does not read HTTP do. Never both: one without it is then refused.
        proxy_protocol: bool, key "proxy_protocol", rule SWITCH, default false, example "on";
        /// How log lines look.
        log_format: Format, key "log_format", rule LOG_FORMAT, default Format::Human, example "json";
        /// Where to send spans of pushes and deliveries whose sender's traceparent asks for it: an OTLP/HTTP
        /// receiver, http://; /v1/traces is appended.
        otlp_url: Option<String>, key "otlp_url", rule Maybe(Text(accept::plain_url)), default None,
            example "http://127.0.0.1:4318";
        /// Which log lines are written: a level, or a list of target=level.
        log: String, key "log", rule Text(accept::log_filter), default "info".to_owned(),
            example "info,postrider=debug";
    }

    "Redis over TLS" {
        /// Who may have signed the certificate of a rediss:// Redis: a PEM file. Like the other two it is read
        /// for every new connection, so that renewed ones need no restart.
        redis_tls_ca_file: Option<String>, key "redis_tls_ca_file", rule Maybe(Text(accept::path)), default None,
            in_words "whoever the system trusts", example "/etc/postrider/redis-ca.pem";
        /// The certificate that this node shows to Redis, with what is between it and its authority: a PEM file.
        redis_tls_cert_file: Option<String>, key "redis_tls_cert_file", rule Maybe(Text(accept::path)),
            default None, example "/etc/postrider/redis-client.pem";
        /// That certificate's private key: a PEM file.
        redis_tls_key_file: Option<String>, key "redis_tls_key_file", rule Maybe(Text(accept::path)),
            default None, example "/etc/postrider/redis-client.key";
    }

    "Tokens of users" {
        /// The secret of before, accepted as well while a new one is rolled out.
        jwt_secret_previous: Option<Secret>, key "jwt_secret_previous",
            rule Maybe(Hidden {
                wants: "must be at least 32 bytes, like the secret that follows it",
                accepts: |text| text.len() >= 32,
            }),
            default None, example "$(cat the-old-secret)";
        /// The public keys that users' tokens are signed for: PEM, RSA, P-256, P-384 or Ed25519, one or
        /// several. Each takes one algorithm: RS256, ES256, ES384 or EdDSA by its kind.
        jwt_public_key: Option<Secret>, key "jwt_public_key",
            rule Maybe(Hidden {
                wants: "must be public keys in PEM (RSA, P-256, P-384 or Ed25519), never private ones",
                accepts: |text| check_public_keys(text, None).is_ok(),
            }),
            default None, example "$(cat public.pem)";
        /// What tokens are signed with where the key does not tell: HS384, HS512 for the secret; RS384, RS512,
        /// PS256, PS384, PS512 for RSA keys. Keys at --jwks-url say it themselves.
        jwt_algorithm: Option<String>, key "jwt_algorithm", rule Maybe(Text(accept::jwt_algorithm)), default None,
            in_words "HS256 for a secret, else by the kind of key", example "RS512";
        /// Where the issuer of users' tokens publishes its keys (a JWKS): https://, or http:// to a neighbour.
        jwks_url: Option<String>, key "jwks_url", rule Maybe(Text(accept::question_url)), default None,
            example "https://issuer.example.com/.well-known/jwks.json";
        /// How long published keys are used before they are fetched again. A token of an unknown key has them
        /// fetched at once; while they cannot be, those that were fetched last go on serving.
        jwks_refresh: Duration, key "jwks_refresh_seconds", rule Seconds(10..=DAY),
            default Duration::from_secs(5 * MINUTE), example "300";
        /// Who a token must be for: one of these in its 'aud'. Set it wherever one issuer signs for several
        /// services.
        jwt_audience: Vec<String>, key "jwt_audience", rule Texts(accept::claim), default Vec::new(),
            in_words "anyone", example "postrider";
        /// Who may have issued a token: its 'iss' is one of these.
        jwt_issuer: Vec<String>, key "jwt_issuer", rule Texts(accept::claim), default Vec::new(),
            in_words "whoever has the key", example "https://issuer.example.com/";
        /// By how much the clocks of issuers and nodes may differ.
        jwt_leeway: Duration, key "jwt_leeway_seconds", rule Seconds(0..=5 * MINUTE),
            default Duration::from_secs(30), example "30";
        /// The claim that names the user.
        jwt_user_claim: String, key "jwt_user_claim", rule Text(accept::claim_name), default "sub".to_owned(),
            example "sub";
    }

    "Sessions of your application" {
        /// Whom to ask whose session a handshake is for, when it shows no token that can be checked here: GET with
        /// the headers below, answered with 200 and {"user": "alice"}, or 401. https://, or http:// to a neighbour.
        auth_hook_url: Option<String>, key "auth_hook_url", rule Maybe(Text(accept::question_url)), default None,
            example "http://127.0.0.1:3000/whoami";
        /// The headers of a handshake that are passed on.
        auth_hook_headers: Vec<String>, key "auth_hook_headers", rule Texts(accept::header),
            default ["cookie", "authorization"].map(str::to_owned).to_vec(), example "cookie,x-tenant";
        /// How long an answer may take. Whoever waits for one that does not come is told to try again.
        auth_hook_timeout: Duration, key "auth_hook_timeout_ms", rule Millis(10..=10_000),
            default Duration::from_millis(2_000), example "2000";
        /// How long an answer is kept, so that a wave of reconnects is none of questions.
        auth_hook_cache: Duration, key "auth_hook_cache_seconds", rule Seconds(0..=5 * MINUTE),
            default Duration::from_secs(10), example "10";
        /// How long a logout is remembered: at least as long as tokens live, or they come back.
        logout_memory: Duration, key "logout_memory_seconds", rule Seconds(MINUTE..=3650 * DAY),
            default Duration::from_secs(30 * DAY), example "2592000";
    }

    "Senders" {
        /// Keys of senders and operators, each as NAME:HASH:SCOPES, which 'postrider key new' prints: SHA-256 of
        /// the key, and of push, push=PATTERN, read, tickets, admin what it allows. Keys of one name are one
        /// sender, so that a key can be replaced without a gap.
        api_keys: Vec<String>, key "api_keys", rule Discreet(Texts(accept::api_key)), default Vec::new(), in_words "none",
            example "backend:8fa3aab2faa9b79e0a0398da5b5abd0780142442a5be80b9a64608d718cb1fcd:push read";
        /// Whether services may show a token like those of users instead of a key: its claim 'scope' then holds
        /// postrider:push, postrider:push=PATTERN, postrider:read, postrider:tickets or postrider:admin.
        service_tokens: bool, key "service_tokens", rule SWITCH, default false, example "on";
        /// Messages that one sender may push in a second, at this node; beyond it pushes are answered 429. Keys
        /// of one name are one sender.
        push_rate_max: Option<usize>, key "push_rate_max", rule Maybe(Count("messages", 1..=10_000_000)),
            default None, in_words "no limit", example "1000";
    }

    "Messages" {
        /// The largest push body; a batch may have this much for each of its messages, but no more than 4 MiB for
        /// several together.
        body_bytes_max: usize, key "body_bytes_max", rule Count("bytes", 256..=8 * MIB), default 65_536,
            example "65536";
        /// Messages in one batch push.
        batch_messages_max: usize, key "batch_messages_max", rule Count("messages", 1..=10_000), default 100,
            example "100";
        /// How long a message is kept when its push does not say.
        ttl_default: Duration, key "ttl_default_seconds", rule Seconds(1..=365 * DAY),
            default Duration::from_secs(HOUR), example "3600";
        /// The longest that a push may ask for.
        ttl_max: Duration, key "ttl_max_seconds", rule Seconds(1..=365 * DAY),
            default Duration::from_secs(7 * DAY), example "604800";
        /// Messages a mailbox keeps; beyond it the oldest are lost, and devices that miss them are told.
        mailbox_messages_max: usize, key "mailbox_messages_max", rule Count("messages", 1..=1_000_000),
            default 1_000, example "1000";
        /// Devices whose place a channel remembers. Beyond it those are forgotten that acknowledged longest ago;
        /// they begin like new devices when they come back without a position of their own.
        channel_cursors_max: usize, key "channel_cursors_max", rule Count("devices", 1..=1_000_000),
            default 10_000, example "10000";
        /// How long an idempotency key is remembered.
        idempotency_window: Duration, key "idempotency_window_seconds", rule Seconds(1..=7 * DAY),
            default Duration::from_secs(HOUR), example "3600";
        /// How long an untouched channel keeps its numbering, cursors and counts.
        channel_retention: Duration, key "channel_retention_seconds", rule Seconds(MINUTE..=3650 * DAY),
            default Duration::from_secs(30 * DAY), example "2592000";
    }

    "Connections" {
        /// Sessions the node accepts before it answers that it is overloaded.
        connections_max: usize, key "connections_max", rule Count("connections", 1..=10_000_000),
            default connections_default(open_files),
            in_words "10000, or 0.8 of the open files allowed when that is less", example "10000";
        /// Sessions that one user may have on all nodes together; the next is told to come back (4104).
        sessions_per_user_max: Option<usize>, key "sessions_per_user_max",
            rule Maybe(Count("sessions", 1..=10_000_000)),
            default if auth == AuthMode::Jwt { Some(1_000) } else { None },
            in_words "1000 with --auth jwt, no limit without", example "20";
        /// Connections, and sessions, that one address (of IPv6, a /64) may have at this node. Many people can
        /// share an address; and behind a balancer everybody does, unless it is one of --trusted-proxies.
        connections_per_address_max: Option<usize>, key "connections_per_address_max",
            rule Maybe(Count("connections", 1..=10_000_000)), default None, in_words "no limit", example "100";
        /// How long a client may take for its request's head, or to authenticate.
        handshake_timeout: Duration, key "handshake_timeout_seconds", rule Seconds(1..=5 * MINUTE),
            default Duration::from_secs(10), example "10";
        /// Frames that a session may send in a second. What comes beyond waits in its socket: nothing is lost.
        frames_per_second_max: usize, key "frames_per_second_max", rule Count("frames", 1..=1_000_000),
            default 2_000, example "2000";
        /// WebSocket handshakes accepted in a second; the rest are told to come back.
        handshakes_per_second_max: usize, key "handshakes_per_second_max",
            rule Count("handshakes", 1..=1_000_000), default 1_000, example "1000";
        /// Messages a session may have unwritten before it is closed as slow.
        outbox_messages_max: usize, key "outbox_messages_max", rule Count("messages", 1..=1_000_000),
            default 1_000, example "1000";
        /// Bytes of the same.
        outbox_bytes_max: usize, key "outbox_bytes_max", rule Count("bytes", KIB..=256 * MIB),
            default 1_048_576, example "1048576";
        /// The largest frame a client may send.
        frame_bytes_max: usize, key "frame_bytes_max", rule Count("bytes", KIB..=MIB), default 65_536,
            example "65536";
        /// Topics that one session may listen to, an event stream to 254 at most; 0 leaves it its user's channel and
        /// everyone's.
        session_topics_max: usize, key "session_topics_max", rule Count("topics", 0..=10_000), default 100,
            example "100";
        /// How often an idle session is pinged; below the idle timeout of any proxy in between.
        ping_interval: Duration, key "ping_interval_seconds", rule Seconds(1..=HOUR),
            default Duration::from_secs(25), example "25";
        /// How long a session may take to answer a ping before it is closed.
        pong_timeout: Duration, key "pong_timeout_seconds", rule Seconds(1..=HOUR),
            default Duration::from_secs(10), example "10";
        /// The kernel's send buffer of each session. What a device does not read is better kept in its mailbox.
        socket_send_buffer_bytes: Option<usize>, key "socket_send_buffer_bytes",
            rule Maybe(Count("bytes", 2 * KIB..=16 * MIB)), default Some(65_536), example "65536";
        /// The kernel's receive buffer of each session.
        socket_receive_buffer_bytes: Option<usize>, key "socket_receive_buffer_bytes",
            rule Maybe(Count("bytes", 2 * KIB..=16 * MIB)), default Some(16_384), example "16384";
    }

    "Cluster" {
        /// What every Redis key begins with; nodes of another prefix are another cluster.
        redis_prefix: String, key "redis_prefix", rule Text(accept::prefix), default "postrider".to_owned(),
            example "postrider";
        /// How long a heartbeat lives unless it is renewed.
        heartbeat_ttl: Duration, key "heartbeat_ttl_ms", rule Millis(300..=10 * MINUTE * 1_000),
            default Duration::from_millis(3_000), example "3000";
        /// How often a heartbeat is renewed: at most a third of its life, so that one may be late.
        heartbeat_interval: Duration, key "heartbeat_interval_ms", rule Millis(50..=10 * MINUTE * 1_000),
            default Duration::from_millis(1_000), example "1000";
        /// How long after its heartbeat lapsed a node is given up and its stream taken over.
        heartbeat_grace: Duration, key "heartbeat_grace_ms", rule Millis(0..=10 * MINUTE * 1_000),
            default Duration::from_millis(2_000), example "2000";
        /// Entries a node's stream holds at most: a backstop, beyond which mailboxes repair the loss.
        stream_entries_max: usize, key "stream_entries_max", rule Count("entries", 16..=10_000_000),
            default 10_000, example "10000";
        /// How often quiet channels are compared with their mailboxes, so that a lost notification heals.
        heal_interval: Duration, key "heal_interval_ms", rule Millis(50..=10 * MINUTE * 1_000),
            default Duration::from_millis(2_000), example "2000";
        /// How often the ledgers of a few channels are looked at, and counted as balanced or differing.
        ledger_audit_interval: Duration, key "ledger_audit_interval_ms", rule Millis(50..=HOUR * 1_000),
            default Duration::from_millis(10_000), example "10000";
        /// How often devices' cursors are written.
        cursor_flush: Duration, key "cursor_flush_ms", rule Millis(1..=MINUTE * 1_000),
            default Duration::from_millis(500), example "500";
    }

    "Webhooks" {
        /// Where to send news of who came and went and what became of messages: http://. Requests are signed
        /// with --webhook-secret and tried again for some minutes.
        webhook_url: Option<String>, key "webhook_url", rule Maybe(Text(accept::plain_url)), default None,
            example "http://127.0.0.1:9000/postrider";
        /// What signs webhook requests, as the Standard Webhooks convention writes it: whsec_ and what
        /// 'openssl rand -base64 24' prints.
        webhook_secret: Option<Secret>, key "webhook_secret",
            rule Maybe(Hidden {
                wants: "must be whsec_ and the base64 of 24 to 64 random bytes",
                accepts: |text| crate::webhook::Secret::parse(text).is_ok(),
            }),
            default None, example "whsec_YS1zZWNyZXQtb2YteW91ci1vd24tMjQtYnl0ZXM=";
        /// Which news is sent: online, offline, delivered, expired.
        webhook_events: Vec<String>, key "webhook_events", rule Texts(accept::webhook_event),
            default ["online", "offline", "delivered", "expired"].map(str::to_owned).to_vec(),
            example "online,offline";
        /// News that may wait for the receiver; what comes beyond it is dropped and counted.
        webhook_queue_max: usize, key "webhook_queue_max", rule Count("events", 8..=1_000_000), default 10_000,
            example "10000";
    }

    "Draining" {
        /// How long after SIGTERM the node goes on as before while load balancers notice that it is unready.
        drain_delay: Duration, key "drain_delay_ms", rule Millis(0..=10 * MINUTE * 1_000),
            default if listen.ip().is_loopback() { Duration::ZERO } else { Duration::from_millis(5_000) },
            in_words "5000, or 0 when it listens on loopback", example "5000";
        /// The time over which sessions are then asked to go elsewhere, so that they do not arrive all at once.
        drain_window: Duration, key "drain_window_ms", rule Millis(0..=60 * MINUTE * 1_000),
            default Duration::from_millis(10_000), example "10000";
        /// When, counted from the signal, the node exits whatever is left.
        drain_deadline: Duration, key "drain_deadline_ms", rule Millis(0..=60 * MINUTE * 1_000),
            default Duration::from_millis(20_000), example "20000";
    }
}

/// A fifth of the descriptors stays free for Redis, scrapes and pushes.
fn connections_default(open_files: Option<u64>) -> usize {
    let share = open_files.map_or(u64::MAX, |files| files / 5 * 4);
    usize::try_from(share).unwrap_or(usize::MAX).clamp(1, 10_000)
}
