//! What is read of a channel's state outside of scripts: `scripts/layout.lua`.

use ::redis::{Cmd, Value};

use crate::protocol::{Channel, Epoch, Position};
use crate::store::{Error, Route};

use super::Store;
use super::error::corrupt;
use super::reply::{self, Packed};

const WHAT: &str = "the state of a channel";
/// The version of meta that scripts write.
const VERSION: u64 = 1;
/// The hot part: all but counts and directory.
const HOT_BYTES: usize = 76;
/// Where the directory begins.
pub(super) const DIRECTORY_AT: usize = 136;
/// Channels in one command: Redis does nothing else meanwhile.
const PART: usize = 200;

/// A channel that something was appended to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Meta {
    /// Of the last message.
    pub(super) head: Position,
    /// Everything up to there was received.
    pub(super) watermark: Position,
}

impl Meta {
    /// Reads the hot part; none of a channel that nothing was ever appended to.
    fn read(packed: &mut Packed) -> Result<Option<Self>, Error> {
        let seq = packed.number(6)?;
        packed.skip(6 + 4)?;
        match packed.number(1)? {
            0 => return Ok(None),
            VERSION => {}
            later => return Err(corrupt(WHAT, format!("its version is {later}, above {VERSION}"))),
        }
        packed.skip(8 + 6 + 6 + 1)?;
        let epoch = Epoch::from_bits(packed.number(8)?);
        packed.skip(6 + 6 + 6 + 6)?;
        let watermark = packed.number(6)?;
        Ok(Some(Self { head: Position::new(epoch, seq), watermark: Position::new(epoch, watermark) }))
    }

    /// Reads all of it, which somebody appended to: the directory, too.
    pub(super) fn with_routes(bytes: Vec<u8>) -> Result<(Self, Vec<Route>), Error> {
        let mut packed = Packed::new(WHAT, bytes);
        let meta = Self::read(&mut packed)?.ok_or_else(|| corrupt(WHAT, "nothing was appended"))?;
        packed.skip(DIRECTORY_AT - HOT_BYTES)?;
        Ok((meta, packed.routes()?))
    }
}

/// Reads the directory alone; nobody is in that of an unknown channel.
pub(super) fn routes(value: Value) -> Result<Vec<Route>, Error> {
    let bytes = reply::bytes(WHAT, value)?;
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let mut packed = Packed::new(WHAT, bytes);
    packed.skip(DIRECTORY_AT)?;
    packed.routes()
}

/// Reads many; in the order of `channels`, none of what nothing was appended to.
pub(super) async fn read(
    store: &Store,
    what: &'static str,
    channels: &[Channel],
) -> Result<Vec<Option<Meta>>, Error> {
    let meta = |value| match reply::bytes(WHAT, value)? {
        bytes if bytes.is_empty() => Ok(None),
        bytes => Meta::read(&mut Packed::new(WHAT, bytes)),
    };
    values(store, what, channels).await?.into_iter().map(meta).collect()
}

/// The directories of many.
pub(super) async fn directories(
    store: &Store,
    what: &'static str,
    channels: &[Channel],
) -> Result<Vec<Vec<Route>>, Error> {
    values(store, what, channels).await?.into_iter().map(routes).collect()
}

/// One command for many: every node asks for all channels it holds, again and
/// again, and a command of its own for each costs Redis twice as much.
async fn values(store: &Store, what: &'static str, channels: &[Channel]) -> Result<Vec<Value>, Error> {
    let mut values = Vec::with_capacity(channels.len());
    for part in channels.chunks(PART) {
        let conn = store.link.current()?;
        let mut command = Cmd::new();
        command.arg("MGET");
        for channel in part {
            command.arg(store.keys.meta(channel));
        }
        let part_values = reply::list(what, store.link.call_one(&conn, what, command).await?)?;
        if part_values.len() != part.len() {
            return Err(corrupt(what, format!("{} values of {}", part_values.len(), part.len())));
        }
        values.extend(part_values);
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_channel_that_is_unknown_or_only_held_was_never_sent_anything() {
        let held = [vec![0; DIRECTORY_AT], vec![7; 27]].concat();
        assert!(Meta::read(&mut Packed::new(WHAT, held.clone())).expect("read").is_none());
        assert!(Meta::with_routes(held.clone()).is_err());
        assert_eq!(routes(Value::BulkString(held)).expect("read").len(), 1);
        assert_eq!(routes(Value::Nil).expect("read"), []);
    }

    proptest! {
        #[test]
        fn no_bytes_make_reading_panic(bytes: Vec<u8>) {
            let _ = Meta::read(&mut Packed::new(WHAT, bytes.clone()));
            let _ = Meta::with_routes(bytes.clone());
            let _ = routes(Value::BulkString(bytes));
        }
    }
}
