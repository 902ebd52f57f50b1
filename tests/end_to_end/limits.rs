//! Limits, each at its edge: what fits passes, the next is refused and counted.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{
    Api, Cluster, Device, Node, NodeOptions, PATIENCE, RedisServer, Refused, eventually, free_port,
    run_command, until,
};

async fn node(config: &str) -> Node {
    Node::start(NodeOptions { config: Some(config.to_owned()), ..NodeOptions::default() }).await
}

/// The entry of a key with these scopes.
async fn entry(name: &str, scopes: &[&str]) -> (String, String) {
    let mut args = vec!["key", "new", "--json", "--name", name];
    for scope in scopes {
        args.extend(["--scope", scope]);
    }
    let (code, said) = run_command(&args, &[]).await;
    assert_eq!(code, Some(0), "{said}");
    let made: Value = serde_json::from_str(&said).expect("JSON");
    let text = |name: &str| made[name].as_str().expect("a text").to_owned();
    (text("key"), text("entry"))
}

async fn code(api: &Api, to: &str) -> (u16, String) {
    let answer = api.push(&json!({"to": to, "data": 1})).await;
    (answer.status, answer.json()["code"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn keys_do_what_their_scopes_say_and_several_serve_at_once() {
    let (old, old_entry) = entry("backend", &["push=user:ann", "read"]).await;
    let (new, new_entry) = entry("backend", &["push=user:ann", "read"]).await;
    let (operator, operator_entry) = entry("operator", &["admin"]).await;
    let config = format!(
        "auth = \"jwt\"\njwt_secret = \"{}\"\napi_keys = [\"{old_entry}\", \"{new_entry}\", \"{operator_entry}\"]",
        "s".repeat(32)
    );
    let node = node(&config).await;
    let with = |key: &str| node.api().with_key(key);
    for key in [&old, &new] {
        assert_eq!(code(&with(key), "user:ann").await.0, 202);
        assert_eq!(code(&with(key), "user:anna").await, (403, "forbidden".to_owned()));
        assert_eq!(with(key).get("/v1/channels/user:ann").await.status, 200);
        assert_eq!(with(key).delete("/v1/channels/user:ann").await.status, 403);
    }
    let batch =
        with(&old).push_batch(&json!([{"to": "user:ann", "data": 1}, {"to": "user:bob", "data": 1}])).await;
    let batch = batch.expect(200);
    assert_eq!((&batch["results"][0]["status"], &batch["results"][1]["status"]), (&json!(202), &json!(403)));
    assert_eq!(code(&with(&operator), "user:ann").await.0, 403);
    assert_eq!(with(&operator).get("/v1/nodes").await.status, 200, "who may change things may look");
    assert_eq!(with(&operator).delete("/v1/channels/user:ann").await.status, 200);
    assert_eq!(code(&with("pr_unknown"), "user:ann").await, (401, "unauthorized".to_owned()));
    let log = node.log_text();
    assert!([&old, &new, &operator].iter().all(|key| !log.contains(key.as_str())), "a key is in the log");
}

#[tokio::test]
async fn a_sender_that_pushes_too_much_is_told_when_to_go_on() {
    let node = node("push_rate_max = 2\n").await;
    let api = node.api();
    // Taken whole, and paid for over the next seconds.
    let batch = Value::Array(vec![json!({"to": "user:ann", "data": 1}); 8]);
    let full = api.push_batch(&batch).await;
    assert_eq!(full.status, 200);
    assert_eq!(full.header("ratelimit-policy"), Some("\"push\";q=2;w=1"));
    assert_eq!(full.header("ratelimit"), Some("\"push\";r=0;t=4"));
    let refused = api.push(&json!({"to": "user:ann", "data": 1})).await;
    assert_eq!(refused.expect(429)["code"], "push_rate");
    let wait = refused.header("retry-after").and_then(|wait| wait.parse::<u64>().ok());
    assert!(wait.is_some_and(|wait| (1..=4).contains(&wait)), "{:?}", refused.headers);
    assert!(refused.header("ratelimit").is_some(), "{:?}", refused.headers);
    assert_eq!(api.metric("postrider_requests_limited_total{limit=\"push_rate\"}").await, 1.0);
    assert_eq!(api.metric("postrider_pushes_total{result=\"limited\"}").await, 1.0);
    eventually(PATIENCE, "the sender may go on", async || {
        api.push(&json!({"to": "user:ann", "data": 1})).await.status == 202
    })
    .await;
}

#[tokio::test]
async fn a_user_has_so_many_sessions_on_all_nodes_together() {
    let config = Some("sessions_per_user_max = 2\n".to_owned());
    let options = NodeOptions { config, ..NodeOptions::default() };
    let cluster = Cluster::start_on(RedisServer::start().await, 2, options).await;
    let [a, b] = &cluster.nodes[..] else { panic!("two nodes") };
    let first = Device::connect(a.envelope("ann")).await;
    let _second = Device::connect(b.envelope("ann")).await;
    for node in [a, b] {
        let end = node.envelope("ann").connect().await.wait_closed(PATIENCE).await;
        assert_eq!(end.code, Some(4104), "{end:?}");
        assert!(end.reason.contains("sessions_per_user_max"), "{end:?}");
        assert_eq!(node.api().metric("postrider_connects_refused_total{reason=\"user\"}").await, 1.0);
    }
    let _other = Device::connect(b.envelope("bob")).await;
    first.close().await;
    until(PATIENCE, "a place is free again", async || {
        let socket = b.envelope("ann").connect().await;
        until(PATIENCE, "an answer", async || {
            let greeted = socket.texts().iter().any(|text| text.contains("\"hello\""));
            if greeted { Some(true) } else { socket.closed().map(|_| false) }
        })
        .await
        .then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_node_has_so_many_sessions_and_an_address_its_share() {
    let crowded = node("connections_max = 2\n").await;
    let _two = [Device::connect(crowded.envelope("a")).await, Device::connect(crowded.envelope("b")).await];
    let end = crowded.envelope("c").connect().await.wait_closed(PATIENCE).await;
    assert_eq!(end.code, Some(1013), "{end:?}");
    assert_eq!(crowded.api().metric("postrider_connects_refused_total{reason=\"limit\"}").await, 1.0);

    let shared = node("connections_per_address_max = 2\ntrusted_proxies = [\"127.0.0.1\"]\n").await;
    let from = |user: &str, address: &str| shared.envelope(user).header("x-forwarded-for", address);
    let first = Device::connect(from("a", "192.0.2.1")).await;
    let _second = Device::connect(from("b", "192.0.2.1")).await;
    match from("c", "192.0.2.1").try_connect().await {
        Err(Refused::Status(503, response)) => assert!(response.headers().contains_key("retry-after")),
        other => panic!("{other:?}"),
    }
    assert_eq!(shared.api().metric("postrider_connects_refused_total{reason=\"address\"}").await, 1.0);
    let _elsewhere = Device::connect(from("c", "192.0.2.2")).await;
    first.close().await;
    until(PATIENCE, "a place is free again", async || from("c", "192.0.2.1").try_connect().await.ok()).await;

    // Connections that never say anything count as well.
    let direct = node("connections_per_address_max = 3\n").await;
    let silent = futures_util::future::join_all((0..8).map(|_| TcpStream::connect(direct.address()))).await;
    let hung_up = silent.into_iter().map(async |stream| {
        let mut stream = stream.expect("the node listens");
        let ended = tokio::time::timeout(Duration::from_secs(3), stream.read_u8()).await;
        (ended.is_ok(), stream)
    });
    let hung_up = futures_util::future::join_all(hung_up).await;
    assert!(hung_up.iter().filter(|(ended, _)| *ended).count() >= 5, "more than three have a place");
    drop(hung_up);
    let refused = until(PATIENCE, "there is room for a request again", async || {
        let page = direct.api().try_get("/metrics").await.ok()?.text;
        let line = page.lines().find(|line| line.contains("refused_total{reason=\"address\"}"))?;
        line.rsplit(' ').next()?.parse::<f64>().ok()
    })
    .await;
    assert!(refused >= 5.0, "{refused}");
}

#[tokio::test]
async fn handshakes_beyond_the_rate_are_told_to_come_back() {
    let node = node("handshakes_per_second_max = 2\n").await;
    let mut refused = 0;
    let tries = (0..6).map(|_| node.plain("ann").try_connect());
    for answer in futures_util::future::join_all(tries).await {
        match answer {
            Ok(_) => {}
            Err(Refused::Status(503, response)) => {
                assert!(response.headers().contains_key("retry-after"));
                refused += 1;
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    assert!((1..=4).contains(&refused), "{refused} of 6, two pass at once");
    let counted = node.api().metric("postrider_connects_refused_total{reason=\"rate\"}").await;
    assert_eq!(counted, f64::from(refused));
}

#[tokio::test]
async fn who_takes_too_long_for_a_head_or_a_token_is_cut_off() {
    let node = node("handshake_timeout_seconds = 1\n").await;
    let mut slow = TcpStream::connect(node.address()).await.expect("the node listens");
    slow.write_all(b"GET /v1/nodes HTTP/1.1\r\nhost: ").await.expect("an open connection");
    let mut answer = Vec::new();
    let ended = tokio::time::timeout(PATIENCE, slow.read_to_end(&mut answer)).await;
    assert!(ended.is_ok(), "half a head keeps its connection");
    let mut long = TcpStream::connect(node.address()).await.expect("the node listens");
    let head = format!("GET /healthz HTTP/1.1\r\nhost: node\r\nx-long: {}\r\n\r\n", "x".repeat(20_000));
    long.write_all(head.as_bytes()).await.expect("an open connection");
    let mut answer = Vec::new();
    // It may be reset for what was not read of it.
    drop(tokio::time::timeout(PATIENCE, long.read_to_end(&mut answer)).await);
    let text = String::from_utf8_lossy(&answer);
    assert!(text.is_empty() || text.starts_with("HTTP/1.1 431 "), "{text}");
    let api = node.api();
    eventually(PATIENCE, "it is counted", async || {
        api.metric("postrider_requests_limited_total{limit=\"head_time\"}").await >= 1.0
    })
    .await;
    let end = crate::harness::Dial::anonymous(node.address()).connect().await.wait_closed(PATIENCE).await;
    assert_eq!(end.code, Some(4403), "{end:?}");
}

#[tokio::test]
async fn frames_beyond_the_rate_wait_and_are_not_lost() {
    let node = node("frames_per_second_max = 10\n").await;
    let device = Device::connect(node.envelope("ann")).await;
    for n in 0..25 {
        // Each is answered with an error of its own.
        device
            .socket()
            .send_json(&json!({"type": "ack", "positions": {(format!("nobody {n}")): "00000000000000aa.1"}}));
    }
    let errors = || device.frames_of("error").len();
    until(PATIENCE, "the first ten are looked at", async || (errors() >= 10).then_some(())).await;
    assert!(errors() <= 20, "{} in the first moment", errors());
    let started = tokio::time::Instant::now();
    until(PATIENCE, "all of them are", async || (errors() == 25).then_some(())).await;
    assert!(started.elapsed() > Duration::from_millis(500), "{:?}", started.elapsed());
    assert!(node.api().metric("postrider_frames_paced_total").await >= 1.0);
    assert_eq!(device.socket().closed(), None);
}

#[tokio::test]
async fn requests_that_run_into_a_limit_are_counted_by_it() {
    let node = node("batch_messages_max = 2\nttl_max_seconds = 7200\n").await;
    let api = node.api();
    let one = json!({"to": "user:ann", "data": 1});
    assert_eq!(api.push_batch(&json!([one, one])).await.status, 200);
    assert_eq!(api.push_batch(&json!([one, one, one])).await.status, 422);
    let to = |count: usize| json!({"to": vec!["user:ann"; count], "data": 1});
    assert_eq!(api.push(&to(100)).await.status, 202);
    assert_eq!(api.push(&to(101)).await.status, 422);
    let ttl = |ttl: u64| json!({"to": "user:ann", "data": 1, "ttl": ttl});
    assert_eq!(api.push(&ttl(7_200)).await.status, 202);
    assert_eq!(api.push(&ttl(7_201)).await.status, 422);
    assert_eq!(api.push(&json!({"to": "user:ann", "data": "x".repeat(65_536)})).await.status, 413);
    let refused = api.push_batch(&json!([{"to": "user:ann", "data": "x".repeat(131_072)}])).await;
    assert_eq!(refused.status, 413);
    assert!(refused.text.contains("131072 bytes") && refused.text.contains("each of"), "{}", refused.text);
    for (limit, times) in [("batch_messages", 1.0), ("recipients", 1.0), ("ttl", 1.0), ("body_bytes", 2.0)] {
        let counted = api.metric(&format!("postrider_requests_limited_total{{limit=\"{limit}\"}}")).await;
        assert_eq!(counted, times, "{limit}");
    }
}

#[tokio::test]
async fn acknowledgements_of_streams_have_a_rate_of_their_own() {
    use reqwest::Method;
    let node = node("handshakes_per_second_max = 5\n").await;
    let mut refused = None;
    for _ in 0..200 {
        let body = Some(br#"{"positions": {"user:ann": "0000000000000000.0"}}"#.to_vec());
        let path = "/v1/events/acks?token=ann&device=tv";
        let answer = node.api().send(Method::POST, path, &[], body).await.expect("the node answers");
        if answer.status != 204 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("a limit");
    assert_eq!((refused.status, &refused.json()["code"]), (503, &json!("ack_rate")));
    assert!(refused.header("retry-after").is_some());
    assert_eq!(node.api().metric("postrider_requests_limited_total{limit=\"ack_rate\"}").await, 1.0);
    Device::connect(node.envelope("ann")).await.hello().await;
}

#[tokio::test]
async fn what_may_be_pushed_alone_may_be_pushed_in_a_batch() {
    let node = node("body_bytes_max = 8388608\noutbox_bytes_max = 8388608\n").await;
    let message = json!({"to": "user:ann", "data": "x".repeat(6 << 20)});
    assert_eq!(node.api().push(&message).await.status, 202);
    assert_eq!(node.api().push_batch(&json!([message])).await.expect(200)["results"][0]["status"], 202);
}

#[tokio::test]
async fn a_frame_above_the_limit_closes_its_session() {
    let node = node("frame_bytes_max = 1024\n").await;
    let device = Device::connect(node.envelope("ann")).await;
    let frame = |bytes: usize| {
        let empty = json!({"type": "x", "a": ""}).to_string().len();
        json!({"type": "x", "a": "a".repeat(bytes - empty)}).to_string()
    };
    device.socket().send(frame(1_024));
    node.api().push_to("ann", 1).await;
    device.wait_messages(1).await;
    device.socket().send(frame(1_025));
    assert_eq!(device.wait_closed(PATIENCE).await.code, Some(1009));
    assert_eq!(node.api().metric("postrider_closes_total{code=\"too_big\"}").await, 1.0);
}

#[tokio::test]
async fn operators_may_have_a_listener_of_their_own() {
    let admin = format!("127.0.0.1:{}", free_port());
    let node = node(&format!("admin_listen = \"{admin}\"\n")).await;
    let operators = Api::new(&format!("http://{admin}"));
    for path in
        ["/metrics", "/console", "/", "/docs", "/openapi.json", "/v1/stats", "/v1/nodes", "/assets/base.css"]
    {
        assert_eq!(node.api().get(path).await.status, 404, "{path}");
        assert_eq!(operators.get(path).await.status, 200, "{path}");
        assert_eq!(node.api().get(&format!("{path}/")).await.status, 404, "{path}/");
    }
    let upgrade = [("upgrade", "x".to_owned())];
    let page = node.api().send(reqwest::Method::GET, "/", &upgrade, None).await.expect("the node answers");
    assert_eq!(page.status, 404, "no upgrade, so no session");
    for path in ["/healthz", "/readyz", "/v1/channels/user:ann"] {
        assert_eq!(node.api().get(path).await.status, 200, "{path}");
    }
    Device::connect(node.envelope("ann").path("/")).await;
}

#[tokio::test]
async fn pages_of_other_origins_may_do_what_is_configured_and_no_more() {
    use reqwest::Method;
    let open = node("").await;
    let page = |origin: &str| [("origin", origin.to_owned())];
    let ask = async |node: &Node, method: Method, headers: &[(&str, String)]| {
        let body =
            (method == Method::POST).then(|| json!({"to": "user:a", "data": 1}).to_string().into_bytes());
        node.api().send(method, "/v1/push", headers, body).await.expect("the node answers")
    };
    let refused = ask(&open, Method::POST, &page("https://evil.example")).await;
    assert_eq!((refused.status, &refused.json()["code"]), (403, &json!("origin")));
    assert_eq!(ask(&open, Method::POST, &page(&open.url())).await.status, 202);

    let listed = "https://app.example";
    let shared = node(&format!("cors = \"on\"\nallowed_origins = [\"{listed}\"]\n")).await;
    let preflight = [page(listed)[0].clone(), ("access-control-request-method", "POST".to_owned())];
    let told = ask(&shared, Method::OPTIONS, &preflight).await;
    assert_eq!((told.status, told.header("access-control-allow-origin")), (204, Some(listed)));
    assert!(
        told.header("access-control-allow-headers").is_some_and(|names| names.contains("idempotency-key"))
    );
    let answered = ask(&shared, Method::POST, &page(listed)).await;
    assert_eq!((answered.status, answered.header("access-control-allow-origin")), (202, Some(listed)));
    for origin in ["https://app.example.evil", "http://app.example", "null"] {
        let preflight = [page(origin)[0].clone(), ("access-control-request-method", "POST".to_owned())];
        let told = ask(&shared, Method::OPTIONS, &preflight).await;
        assert!(told.status >= 400 && told.header("access-control-allow-origin").is_none(), "{origin}");
    }
    let plain = ask(&open, Method::POST, &[]).await;
    for (name, value) in [("x-content-type-options", "nosniff"), ("cache-control", "no-store")] {
        assert_eq!(plain.header(name), Some(value), "{name}");
    }
    assert_eq!(plain.header("access-control-allow-origin"), None);
}
