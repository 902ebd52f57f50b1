//! Two clusters in one Redis, each under the shipped rules and a prefix of its
//! own: neither sees the other, whatever its channels are called.

use redis::aio::MultiplexedConnection;
use serde_json::{Value, json};

use crate::harness::{
    Api, Dial, Node, NodeOptions, PATIENCE, RedisOptions, RedisServer, Socket, eventually, run_command,
};

const PASSWORD: &str = "change-this-password";

/// The rules of `deploy/redis/users.acl` for another user and prefix.
fn rules(name: &str) -> Vec<String> {
    let text = include_str!("../../deploy/redis/users.acl");
    let line = text.lines().find_map(|line| line.strip_prefix("user postrider ")).expect("its user");
    let rules = line.split(' ').map(|rule| rule.replace("~postrider:*", &format!("~{name}:*")));
    ["--user".to_owned(), name.to_owned()].into_iter().chain(rules).collect()
}

async fn server() -> RedisServer {
    let args = [rules("one"), rules("two")].concat();
    RedisServer::start_with(RedisOptions { args, ..RedisOptions::default() }).await
}

fn url(server: &RedisServer, name: &str) -> String {
    format!("redis://{name}:{PASSWORD}@{}", server.address())
}

async fn nodes(server: &RedisServer, name: &str) -> [Node; 2] {
    let options = NodeOptions {
        redis: Some(url(server, name)),
        config: Some(format!("redis_prefix = \"{name}\"\n")),
        ..NodeOptions::default()
    };
    [Node::start(options.clone()).await, Node::start(options).await]
}

/// Names that would end a hash tag, match a glob, look like another key or be
/// taken for an escape, if anybody let them.
fn odd_names() -> Vec<String> {
    let mut names: Vec<_> = [
        "ann",
        "{ann}",
        "ann}",
        "{",
        "}{",
        "ann%7D",
        "%7Bann%7D",
        "%",
        "a:b",
        "x:m:{ann}",
        "*",
        "[a-z]*",
        "?",
        "é☕",
        "ann\u{200b}",
        "auth0|5f7",
        "../ann",
        "\"ann\"",
        "';FLUSHALL",
        "nodes",
    ]
    .map(str::to_owned)
    .to_vec();
    names.push("n".repeat(postrider::protocol::NAME_BYTES_MAX));
    names
}

fn percent(name: &str) -> String {
    name.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

async fn connected(node: &Node, name: &str) -> Socket {
    Dial::anonymous(node.address()).query(&format!("token={}", percent(name))).connect().await
}

async fn push(api: &Api, name: &str, data: &str) {
    api.push(&json!({"to": format!("user:{name}"), "data": data})).await.expect(202);
}

async fn acl(connection: &mut MultiplexedConnection, command: &[&str]) -> redis::RedisResult<redis::Value> {
    let mut asked = redis::cmd(command[0]);
    for part in &command[1..] {
        asked.arg(part);
    }
    asked.query_async(connection).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_clusters_under_the_shipped_rules_do_not_see_one_another() {
    let server = server().await;
    let (one, two) = (nodes(&server, "one").await, nodes(&server, "two").await);
    let names = odd_names();
    let mut sockets = Vec::new();
    for name in &names {
        sockets.push((connected(&one[1], name).await, connected(&two[1], name).await));
        for cluster in [&one, &two] {
            let channel = format!("/v1/channels/user:{}", percent(name));
            eventually(PATIENCE, "the session is there", async || {
                cluster[0].api().get(&channel).await.expect(200)["sessions"] == 1
            })
            .await;
        }
    }
    for (n, name) in names.iter().enumerate() {
        push(&one[0].api(), name, &format!("one {n}")).await;
        push(&two[0].api(), name, &format!("two {n}")).await;
    }
    for (n, (in_one, in_two)) in sockets.iter().enumerate() {
        assert_eq!(in_one.wait_texts(1).await, [format!("one {n}")], "{}", names[n]);
        assert_eq!(in_two.wait_texts(1).await, [format!("two {n}")], "{}", names[n]);
    }
    for (name, cluster) in [("one", &one), ("two", &two)] {
        let listed = cluster[0].api().get("/v1/nodes").await.expect(200);
        assert_eq!(listed["nodes"].as_array().map(Vec::len), Some(2), "{listed}");
        let (code, said) =
            run_command(&["audit", "--redis", &url(&server, name), "--redis-prefix", name, "--json"], &[])
                .await;
        let found: Value = serde_json::from_str(said.lines().last().unwrap_or_default()).unwrap_or_default();
        assert_eq!((code, &found["channels"]), (Some(0), &json!(names.len())), "{said}");
        assert_eq!(found["totals"]["accepted"], names.len(), "{said}");
    }
}

#[tokio::test]
async fn a_cluster_may_touch_no_key_but_its_own_and_no_command_but_those_it_needs() {
    let server = server().await;
    let client = redis::Client::open(url(&server, "one")).expect("an address");
    let mut connection = client.get_multiplexed_async_connection().await.expect("connected");
    acl(&mut connection, &["SET", "one:x", "1"]).await.expect("its own key");
    for command in [
        &["GET", "two:m:{user:ann}"][..],
        &["XADD", "two:q:{x}", "*", "f", "v"],
        &["SET", "onetwo:x", "1"],
        &["FLUSHALL"],
        &["KEYS", "*"],
        &["CONFIG", "GET", "dir"],
        &["ACL", "LIST"],
        &["EVAL", "return 1", "0"],
        &["SCRIPT", "FLUSH"],
        &["PUBLISH", "one:x", "1"],
        &["XGROUP", "SETID", "one:q:{x}", "n", "0"],
        &["SHUTDOWN"],
        &["CLIENT", "LIST"],
    ] {
        let refused = acl(&mut connection, command).await.expect_err("not permitted");
        assert_eq!(refused.code(), Some("NOPERM"), "{command:?}: {refused}");
    }
}
