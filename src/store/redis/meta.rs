//! What is read of a channel's state outside of scripts: `scripts/layout.lua`.

use ::redis::Pipeline;

use crate::protocol::{Channel, Epoch, Position};
use crate::store::{Error, Route};

use super::Store;
use super::error::corrupt;
use super::reply::{self, Packed};

/// The version of meta that scripts write.
const VERSION: u64 = 1;
/// The hot part: all but counts and directory.
const HOT_BYTES: usize = 76;
/// Where the directory begins.
pub(super) const DIRECTORY_AT: usize = 136;
/// Commands in one pipeline, so that a long list does not keep others waiting.
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
            later => return Err(corrupt("meta", format!("its version is {later}, above {VERSION}"))),
        }
        packed.skip(8 + 6 + 6 + 1)?;
        let epoch = Epoch::from_bits(packed.number(8)?);
        packed.skip(6 + 6 + 6 + 6)?;
        let watermark = packed.number(6)?;
        Ok(Some(Self { head: Position::new(epoch, seq), watermark: Position::new(epoch, watermark) }))
    }

    /// Reads all of it, which somebody appended to: the directory, too.
    pub(super) fn with_routes(bytes: Vec<u8>) -> Result<(Self, Vec<Route>), Error> {
        let mut packed = Packed::new("meta", bytes);
        let meta = Self::read(&mut packed)?.ok_or_else(|| corrupt("meta", "nothing was appended"))?;
        packed.skip(DIRECTORY_AT - HOT_BYTES)?;
        Ok((meta, packed.routes()?))
    }
}

/// In the order of `channels`.
pub(super) async fn read(
    store: &Store,
    what: &'static str,
    channels: &[Channel],
) -> Result<Vec<Option<Meta>>, Error> {
    let mut metas = Vec::with_capacity(channels.len());
    for part in channels.chunks(PART) {
        let conn = store.link.current()?;
        let mut pipeline = Pipeline::with_capacity(part.len());
        for channel in part {
            pipeline.cmd("GETRANGE").arg(store.keys.meta(channel)).arg(0).arg(HOT_BYTES - 1);
        }
        for reply in store.link.call_all(&conn, what, &pipeline).await? {
            let bytes = reply::bytes(what, reply)?;
            let meta = if bytes.is_empty() { None } else { Meta::read(&mut Packed::new("meta", bytes))? };
            metas.push(meta);
        }
    }
    Ok(metas)
}
