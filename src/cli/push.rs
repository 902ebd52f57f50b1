//! `postrider push`: one message to one or more channels.

use std::io::{self, Read, Write};
use std::time::Duration;

use clap::Args;
use reqwest::Method;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::api::Api;
use super::output::{Failure, Lines, count, one_line};
use super::{Sender, Target};
use crate::config::Environment;
use crate::protocol::Channel;

const TIMEOUT: Duration = Duration::from_secs(30);
/// More than any node takes.
const INPUT_BYTES_MAX: u64 = 16 << 20;

const EXAMPLES: &str = "\
Examples:
  postrider push --to user:alice 'hello'
  postrider push --to user:alice --to user:bob --ttl 60 '{\"kind\":\"call\",\"from\":\"carol\"}'
  postrider push --to user:alice --collapse-key score '{\"score\":\"2:1\"}'
  postrider push --to topic:orders.42 --to user:carol '{\"state\":\"shipped\"}'
  postrider push --to all 'we are back'
  date | postrider push --to user:alice -
  postrider push --to user:alice --idempotency-key order-42 --json '{\"order\":42}' | jq -r .pos

Exit codes: 0 accepted for every recipient, 1 refused, 2 not understood, 69 no server reached.";

/// Send a message to every device of a user.
///
/// Devices that are away receive it when they come back within its TTL.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Push {
    /// Whom it is for: user:NAME, topic:NAME or all; may be given several times.
    #[arg(long, required = true, value_name = "CHANNEL")]
    to: Vec<Channel>,
    /// The message: JSON, or else taken as a string; '-' reads it from standard input.
    data: String,
    /// Take the message as a string even if it happens to be JSON.
    #[arg(long)]
    string: bool,
    /// Seconds it is kept for devices that are away; 0: only who is connected now, at most once.
    #[arg(long, value_name = "SECONDS")]
    ttl: Option<u64>,
    /// Replaces an earlier message of the same key for devices that have not seen that.
    #[arg(long, value_name = "KEY")]
    collapse_key: Option<String>,
    /// Makes repeating this very command harmless.
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    sender: Sender,
    /// Print the server's answer as JSON, on one line.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Body<'a> {
    to: Recipients<'a>,
    data: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    collapse_key: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Recipients<'a> {
    One(&'a Channel),
    Many(&'a [Channel]),
}

impl Push {
    pub(super) async fn run(&self, environment: &Environment) -> Result<(), Failure> {
        self.send(environment, &mut io::stdin(), &mut io::stdout()).await
    }

    /// [`Self::run`] between any two ends.
    pub(super) async fn send(
        &self,
        environment: &Environment,
        input: &mut dyn Read,
        out: &mut dyn Write,
    ) -> Result<(), Failure> {
        let client = self.target.client(self.sender.api_key.as_deref(), None, environment)?;
        let data = payload(self.text(input)?, self.string)?;
        let to = match self.to.as_slice() {
            [one] => Recipients::One(one),
            many => Recipients::Many(many),
        };
        let body = Body { to, data: &data, ttl: self.ttl, collapse_key: self.collapse_key.as_deref() };
        let api = Api::new(&client, TIMEOUT)?;
        let mut request = api.request(Method::POST, "/v1/push").json(&body);
        if let Some(key) = &self.idempotency_key {
            request = request.header("Idempotency-Key", key);
        }
        let answer = api.ask(request).await?;
        report(&answer, self.json, &mut Lines::new(out))
    }

    fn text(&self, input: &mut dyn Read) -> Result<String, Failure> {
        if self.data != "-" {
            return Ok(self.data.clone());
        }
        let mut text = String::new();
        input
            .take(INPUT_BYTES_MAX)
            .read_to_string(&mut text)
            .map_err(|error| Failure::Failed(format!("failed to read standard input: {error}")))?;
        // What a shell's echo appends is not part of the message.
        let end = text.strip_suffix("\r\n").or_else(|| text.strip_suffix('\n')).map_or(text.len(), str::len);
        text.truncate(end);
        Ok(text)
    }
}

/// The message as JSON text, byte for byte where it is JSON already.
fn payload(text: String, as_string: bool) -> Result<Box<RawValue>, Failure> {
    if !as_string && let Ok(json) = RawValue::from_string(text.trim().to_owned()) {
        return Ok(json);
    }
    let quoted = Value::String(text).to_string();
    RawValue::from_string(quoted)
        .map_err(|error| Failure::Failed(format!("failed to encode the message: {error}")))
}

/// One line for each recipient; a failure when one of them was refused.
fn report(answer: &str, json: bool, lines: &mut Lines<'_>) -> Result<(), Failure> {
    let parsed: Value = serde_json::from_str(answer)
        .map_err(|_| Failure::Failed("the answer is not JSON: is this a postrider node?".to_owned()))?;
    let items: Vec<&Value> = match &parsed {
        Value::Array(items) => items.iter().collect(),
        one => one["results"].as_array().map_or_else(|| vec![one], |items| items.iter().collect()),
    };
    let refused = items.iter().filter(|item| !accepted(item)).count();
    if json {
        lines.put(&one_line(answer))?;
    } else {
        items.iter().try_for_each(|item| lines.put(&line_of(item)))?;
    }
    if refused > 0 {
        let all = items.len();
        return Err(Failure::Failed(format!(
            "refused for {refused} of {all} recipients; repeating it with the same --idempotency-key completes it"
        )));
    }
    Ok(())
}

fn accepted(item: &Value) -> bool {
    item["id"].is_string() && item["status"].as_u64().is_none_or(|status| (200..300).contains(&status))
}

fn line_of(item: &Value) -> String {
    let text = |key: &str| item[key].as_str().unwrap_or("?").to_owned();
    if !accepted(item) {
        let why = item["detail"].as_str().or(item["title"].as_str()).unwrap_or("no reason given");
        return format!("refused {}: {why} [code {}]", text("channel"), text("code"));
    }
    let number = |key: &str| item[key].as_u64().unwrap_or(0);
    let there = format!("{} on {}", count(number("sessions"), "session"), count(number("nodes"), "node"));
    match item["pos"].as_str() {
        Some(pos) => format!(
            "accepted {} for {} at {pos}: {there}, kept until {}",
            text("id"),
            text("channel"),
            text("expires_at")
        ),
        None => format!("accepted {} for {}: {there}, not kept", text("id"), text("channel")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_goes_as_it_is_and_the_rest_as_a_string() {
        let of = |text: &str, string| payload(text.to_owned(), string).expect("encodes").get().to_owned();
        assert_eq!(of(r#"{"a": 1.10}"#, false), r#"{"a": 1.10}"#);
        assert_eq!(of("hello \"you\"", false), r#""hello \"you\"""#);
        assert_eq!(of("42", false), "42");
        assert_eq!(of("42", true), r#""42""#);
        assert_eq!(of("", false), r#""""#);
        assert_eq!(of("{broken", false), r#""{broken""#);
    }
}
