//! Reading replies: values into numbers, bytes and lists, or [`Error::Corrupt`].

use ::redis::Value;
use bytes::{Buf, Bytes};

use crate::protocol::{Epoch, NodeId, Position};
use crate::store::{Error, Route};

use super::error::corrupt;

/// Bytes of one line of a directory: node c16, generation I7, sessions I4.
const ROUTE_BYTES: usize = 27;

pub(super) fn bytes(what: &'static str, value: Value) -> Result<Vec<u8>, Error> {
    match value {
        Value::BulkString(bytes) => Ok(bytes),
        Value::SimpleString(text) => Ok(text.into_bytes()),
        Value::VerbatimString { text, .. } => Ok(text.into_bytes()),
        Value::Nil => Ok(Vec::new()),
        other => Err(unexpected(what, &other)),
    }
}

pub(super) fn text(what: &'static str, value: Value) -> Result<String, Error> {
    String::from_utf8(bytes(what, value)?).map_err(|_| corrupt(what, "not UTF-8"))
}

/// A count; nothing is 0.
pub(super) fn number(what: &'static str, value: &Value) -> Result<u64, Error> {
    let number = match value {
        Value::Int(number) => u64::try_from(*number).ok(),
        Value::Double(number) if *number >= 0.0 => Some(*number as u64),
        Value::BulkString(digits) => std::str::from_utf8(digits).ok().and_then(|text| text.parse().ok()),
        Value::Nil => Some(0),
        _ => None,
    };
    number.ok_or_else(|| unexpected(what, value))
}

pub(super) fn list(what: &'static str, value: Value) -> Result<Vec<Value>, Error> {
    match value {
        Value::Array(items) | Value::Set(items) => Ok(items),
        Value::Nil => Ok(Vec::new()),
        other => Err(unexpected(what, &other)),
    }
}

/// Fields and their values, as either version of the protocol writes them:
/// a map, a flat list, or a list of pairs.
pub(super) fn pairs(what: &'static str, value: Value) -> Result<Vec<(Value, Value)>, Error> {
    if let Value::Map(pairs) = value {
        return Ok(pairs);
    }
    let items = list(what, value)?;
    if items.iter().all(|item| matches!(item, Value::Array(pair) if pair.len() == 2)) {
        let pair = |item| match item {
            Value::Array(pair) => <[Value; 2]>::try_from(pair).ok().map(|[a, b]| (a, b)),
            _ => None,
        };
        return Ok(items.into_iter().filter_map(pair).collect());
    }
    let mut pairs = Vec::with_capacity(items.len() / 2);
    let mut items = items.into_iter();
    while let (Some(field), Some(value)) = (items.next(), items.next()) {
        pairs.push((field, value));
    }
    Ok(pairs)
}

/// What a script packed, read from the front.
pub(super) struct Packed {
    what: &'static str,
    rest: Bytes,
}

impl Packed {
    pub(super) fn new(what: &'static str, bytes: Vec<u8>) -> Self {
        Self { what, rest: bytes.into() }
    }

    /// A number of so many bytes.
    pub(super) fn number(&mut self, bytes: usize) -> Result<u64, Error> {
        self.rest.try_get_uint(bytes).map_err(|_| self.short())
    }

    pub(super) fn id_bits(&mut self) -> Result<u128, Error> {
        self.rest.try_get_u128().map_err(|_| self.short())
    }

    pub(super) fn position(&mut self) -> Result<Position, Error> {
        let epoch = self.rest.try_get_u64().map_err(|_| self.short())?;
        Ok(Position::new(Epoch::from_bits(epoch), self.number(6)?))
    }

    pub(super) fn take(&mut self, len: usize) -> Result<Bytes, Error> {
        if self.rest.len() < len {
            return Err(self.short());
        }
        Ok(self.rest.split_to(len))
    }

    pub(super) fn skip(&mut self, len: usize) -> Result<(), Error> {
        if self.rest.len() < len {
            return Err(self.short());
        }
        self.rest.advance(len);
        Ok(())
    }

    /// The rest, which is a directory.
    pub(super) fn routes(mut self) -> Result<Vec<Route>, Error> {
        if !self.rest.len().is_multiple_of(ROUTE_BYTES) {
            return Err(corrupt(self.what, "the directory has half a line"));
        }
        let mut routes = Vec::with_capacity(self.rest.len() / ROUTE_BYTES);
        while !self.rest.is_empty() {
            routes.push(Route {
                node: NodeId::from_bits(self.id_bits()?),
                generation: self.number(7)?,
                sessions: self.number(4)? as u32,
            });
        }
        Ok(routes)
    }

    pub(super) fn rest(self) -> Bytes {
        self.rest
    }

    fn short(&self) -> Error {
        corrupt(self.what, "cut short")
    }
}

fn unexpected(what: &'static str, value: &Value) -> Error {
    let kind = match value {
        Value::Nil => "nothing",
        Value::Int(_) | Value::Double(_) => "a number",
        Value::BulkString(_) | Value::SimpleString(_) => "a string",
        Value::Array(_) | Value::Set(_) => "a list",
        Value::Map(_) => "a map",
        _ => "another kind of value",
    };
    corrupt(what, format!("redis answered {kind}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_read_in_all_three_forms() {
        let int = Value::Int;
        let expected = vec![(int(1), int(2)), (int(3), int(4))];
        let flat = Value::Array(vec![int(1), int(2), int(3), int(4)]);
        let nested =
            Value::Array(vec![Value::Array(vec![int(1), int(2)]), Value::Array(vec![int(3), int(4)])]);
        for value in [Value::Map(expected.clone()), flat, nested] {
            assert_eq!(pairs("pairs", value).expect("read"), expected);
        }
        assert!(pairs("pairs", int(1)).is_err());
    }

    #[test]
    fn what_is_cut_short_is_corrupt_and_never_panics() {
        for len in 0..ROUTE_BYTES {
            let packed = Packed::new("routes", vec![7; len]);
            assert_eq!(packed.routes().is_ok(), len == 0, "{len}");
            let mut packed = Packed::new("position", vec![7; len]);
            assert_eq!(packed.position().is_ok(), len >= 14, "{len}");
        }
    }
}
