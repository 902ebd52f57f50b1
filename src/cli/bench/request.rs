//! HTTP/1.1 as the measured connections speak it: one request at a time on a
//! connection that is kept, written into the same bytes again and again.

use std::ops::Range;

use super::names::Names;
use super::payload::{self, Stamp, Template};

/// A head longer than this is none of a node's.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// A push, or a batch of them, ready to be sent but for its numbers.
#[derive(Debug)]
pub(super) struct Request {
    bytes: Vec<u8>,
    items: Vec<Item>,
}

/// Where one message of a request has its numbers.
#[derive(Debug)]
struct Item {
    user: Range<usize>,
    payload: Range<usize>,
}

/// What all pushes of a run have in common.
#[derive(Debug, Clone)]
pub(super) struct Form {
    pub(super) host: String,
    /// What the addressees' channels begin with.
    pub(super) kind: &'static str,
    pub(super) api_key: Option<String>,
    /// Messages in one request; none: a plain push.
    pub(super) batch: Option<usize>,
    pub(super) ttl: Option<u64>,
    /// Bare payloads to this path and the user's name.
    pub(super) push_path: Option<String>,
}

impl Request {
    pub(super) fn new(form: &Form, names: &Names, template: &Template) -> Self {
        if let Some(path) = &form.push_path {
            return Self::bare(form, path, names, template);
        }
        let (mut body, mut items) = (Vec::new(), Vec::new());
        if form.batch.is_some() {
            body.extend_from_slice(br#"{"messages":["#);
        }
        for at in 0..form.batch.unwrap_or(1) {
            if at > 0 {
                body.push(b',');
            }
            body.extend_from_slice(br#"{"to":""#);
            body.extend_from_slice(form.kind.as_bytes());
            let user = put(&mut body, names.name(0).as_bytes());
            body.extend_from_slice(br#"","data":"#);
            let payload = put(&mut body, template.bytes());
            if let Some(ttl) = form.ttl {
                body.extend_from_slice(format!(r#","ttl":{ttl}"#).as_bytes());
            }
            body.push(b'}');
            items.push(Item { user, payload });
        }
        if form.batch.is_some() {
            body.extend_from_slice(b"]}");
        }
        let path = if form.batch.is_some() { "/v1/push/batch" } else { "/v1/push" };
        let mut head = format!("POST {path} HTTP/1.1\r\nhost: {}\r\n", form.host);
        if let Some(key) = &form.api_key {
            head += &format!("authorization: Bearer {key}\r\n");
        }
        head += &format!("content-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
        for item in &mut items {
            for range in [&mut item.user, &mut item.payload] {
                *range = range.start + head.len()..range.end + head.len();
            }
        }
        Self { bytes: [head.into_bytes(), body].concat(), items }
    }

    /// A payload and nothing else, its addressee in the path.
    fn bare(form: &Form, path: &str, names: &Names, template: &Template) -> Self {
        let mut bytes = format!("POST {path}").into_bytes();
        let user = put(&mut bytes, names.name(0).as_bytes());
        let length = template.bytes().len();
        let rest = format!(" HTTP/1.1\r\nhost: {}\r\ncontent-length: {length}\r\n\r\n", form.host);
        bytes.extend_from_slice(rest.as_bytes());
        let payload = put(&mut bytes, template.bytes());
        Self { bytes, items: vec![Item { user, payload }] }
    }

    /// Messages in it.
    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    /// Sets one message's addressee and numbers.
    pub(super) fn set(&mut self, item: usize, user: u32, stamp: Stamp) {
        let Item { user: name, payload } = &self.items[item];
        Names::renumber(user, &mut self.bytes[name.clone()]);
        payload::write(stamp, &mut self.bytes[payload.clone()]);
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

fn put(into: &mut Vec<u8>, bytes: &[u8]) -> Range<usize> {
    let start = into.len();
    into.extend_from_slice(bytes);
    start..into.len()
}

/// An answer that is all there.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer<'a> {
    pub(super) status: u16,
    pub(super) body: &'a [u8],
    /// The server will close the connection behind it.
    pub(super) last: bool,
}

/// Bytes that are no answer with a length.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// Takes an answer off the front of `bytes`; none when it is not all there.
/// A 101 has no body, whatever follows it.
pub(super) fn take_answer<'a>(bytes: &mut &'a [u8]) -> Result<Option<Answer<'a>>, Malformed> {
    let all = *bytes;
    let Some(end) = all.windows(4).position(|window| window == b"\r\n\r\n") else {
        return if all.len() > HEAD_BYTES_MAX { Err(Malformed) } else { Ok(None) };
    };
    let (head, rest) = (&all[..end], &all[end + 4..]);
    let mut lines = head.split(|byte| *byte == b'\n');
    let status = lines.next().and_then(status_of).ok_or(Malformed)?;
    let (mut length, mut last) = (None, false);
    for line in lines {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { return Err(Malformed) };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            length =
                Some(std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).ok_or(Malformed)?);
        } else if name.eq_ignore_ascii_case(b"connection") {
            last |= value.eq_ignore_ascii_case(b"close");
        }
    }
    let length: usize = match (status, length) {
        (101 | 204, _) => 0,
        (_, Some(length)) => length,
        (_, None) => return Err(Malformed),
    };
    if rest.len() < length {
        return Ok(None);
    }
    let (body, rest) = rest.split_at(length);
    *bytes = rest;
    Ok(Some(Answer { status, body, last }))
}

/// `HTTP/1.1 202 Accepted`
fn status_of(line: &[u8]) -> Option<u16> {
    let rest = line.strip_prefix(b"HTTP/1.1 ")?;
    std::str::from_utf8(rest.get(..3)?).ok()?.parse().ok()
}

/// The status of each result in a batch's answer, in order.
pub(super) fn statuses(body: &[u8]) -> impl Iterator<Item = bool> + '_ {
    const STATUS: &[u8] = br#""status":"#;
    let mut rest = body;
    std::iter::from_fn(move || {
        let at = rest.windows(STATUS.len()).position(|window| window == STATUS)?;
        rest = &rest[at + STATUS.len()..];
        Some(rest.starts_with(b"202"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::rest::{BatchBody, PushBody, Recipients};

    fn form(batch: Option<usize>) -> Form {
        Form {
            host: "127.0.0.1:1".into(),
            kind: "user:",
            api_key: Some("key".into()),
            batch,
            ttl: Some(60),
            push_path: None,
        }
    }

    fn body(request: &Request) -> &[u8] {
        let text = request.bytes();
        let head = text.windows(4).position(|window| window == b"\r\n\r\n").expect("a head");
        let body = &text[head + 4..];
        let length = format!("content-length: {}\r\n", body.len());
        assert!(std::str::from_utf8(&text[..head + 2]).expect("text").contains(&length));
        body
    }

    #[test]
    fn a_request_is_what_a_node_reads() {
        let (names, template) = (Names::new("b"), Template::new(128));
        let mut request = Request::new(&form(None), &names, &template);
        let stamp = Stamp { stream: 3, seq: 4, at_ns: 5 };
        request.set(0, 17, stamp);
        let push: PushBody = serde_json::from_slice(body(&request)).expect("a push");
        assert_eq!(push.to, Recipients::One(format!("user:{}", names.name(17)).into()));
        assert_eq!(template.read(push.data.get().as_bytes()), Some(stamp));
        assert_eq!(push.ttl, Some(60));

        let mut request = Request::new(&form(Some(3)), &names, &template);
        (0..3).for_each(|item| request.set(item, item as u32, stamp));
        let batch: BatchBody = serde_json::from_slice(body(&request)).expect("a batch");
        assert_eq!(batch.messages[2].to, Recipients::One(format!("user:{}", names.name(2)).into()));
    }

    #[test]
    fn another_server_gets_the_payload_alone() {
        let (names, template) = (Names::new("b"), Template::new(128));
        let form = Form { push_path: Some("/pub/".into()), ..form(None) };
        let mut request = Request::new(&form, &names, &template);
        let stamp = Stamp { stream: 3, seq: 4, at_ns: 5 };
        request.set(0, 17, stamp);
        assert_eq!(template.read(body(&request)), Some(stamp));
        let line = format!("POST /pub/{} HTTP/1.1\r\n", names.name(17));
        assert!(request.bytes().starts_with(line.as_bytes()));
    }

    #[test]
    fn an_answer_is_taken_when_it_is_all_there() {
        let text = b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\nx: y\r\n\r\n{}HTTP/1.1 503 ";
        for cut in 0..52 {
            assert_eq!(take_answer(&mut &text[..cut]), Ok(None), "{cut}");
        }
        let mut rest = &text[..];
        let answer = take_answer(&mut rest).expect("well formed").expect("there");
        assert_eq!((answer.status, answer.body, answer.last), (202, &b"{}"[..], false));
        assert_eq!(rest, b"HTTP/1.1 503 ");
        let closing = b"HTTP/1.1 101 S\r\nconnection: close\r\n\r\n\x81";
        assert!(take_answer(&mut &closing[..]).expect("well formed").expect("there").last);
        assert_eq!(take_answer(&mut &b"HTTP/1.1 200 OK\r\n\r\n"[..]), Err(Malformed));
    }

    #[test]
    fn a_batch_tells_which_of_its_messages_were_refused() {
        let body = br#"{"results":[{"status":202,"id":"x"},{"status":503,"code":"y"},{"status":202}]}"#;
        assert_eq!(statuses(body).collect::<Vec<_>>(), [true, false, true]);
    }
}
