//! What a measured message carries: whose it is, its number, when it was due.
//!
//! The text has one layout and one length, so that it is written and read by
//! place. What comes back is compared byte for byte with what was sent, except
//! the numbers themselves.

/// Where the numbers stand.
const STREAM: std::ops::Range<usize> = 6..14;
const SEQ: std::ops::Range<usize> = 21..29;
const AT: std::ops::Range<usize> = 36..52;
const HEAD: &str = r#"{"s":"00000000","n":"00000000","t":"0000000000000000","p":""#;
const TAIL: &str = r#""}"#;
const FILL: u8 = b'x';

/// The shortest payload.
pub(super) const BYTES_MIN: usize = HEAD.len() + TAIL.len();

/// The numbers in a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    /// Which numbering it belongs to: one for each pair of sender and user.
    pub(super) stream: u32,
    /// Its number there, from 0 on.
    pub(super) seq: u32,
    /// When it was due, or sent, by this process's clock: nanoseconds.
    pub(super) at_ns: u64,
}

/// Payloads of one length.
#[derive(Debug, Clone)]
pub(super) struct Template(Vec<u8>);

impl Template {
    /// `bytes` is at least [`BYTES_MIN`].
    pub(super) fn new(bytes: usize) -> Self {
        let fill = bytes.saturating_sub(BYTES_MIN);
        let mut text = HEAD.as_bytes().to_vec();
        text.resize(HEAD.len() + fill, FILL);
        text.extend_from_slice(TAIL.as_bytes());
        Self(text)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The numbers, if the rest is as it was sent.
    pub(super) fn read(&self, text: &[u8]) -> Option<Stamp> {
        let same = |range: std::ops::Range<usize>| text[range.clone()] == self.0[range];
        let intact = text.len() == self.0.len()
            && same(0..STREAM.start)
            && same(STREAM.end..SEQ.start)
            && same(SEQ.end..AT.start)
            && same(AT.end..text.len());
        if !intact {
            return None;
        }
        Some(Stamp {
            stream: u32::try_from(hex(&text[STREAM])?).ok()?,
            seq: u32::try_from(hex(&text[SEQ])?).ok()?,
            at_ns: hex(&text[AT])?,
        })
    }
}

/// Writes the numbers into a payload of the template's layout.
pub(super) fn write(stamp: Stamp, payload: &mut [u8]) {
    put_hex(u64::from(stamp.stream), &mut payload[STREAM]);
    put_hex(u64::from(stamp.seq), &mut payload[SEQ]);
    put_hex(stamp.at_ns, &mut payload[AT]);
}

fn put_hex(mut number: u64, out: &mut [u8]) {
    for place in out.iter_mut().rev() {
        *place = b"0123456789abcdef"[(number & 15) as usize];
        number >>= 4;
    }
}

fn hex(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0_u64, |number, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u64::from(value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp { stream: 0xabc, seq: 77, at_ns: 0x0123_4567_89ab_cdef };

    #[test]
    fn a_payload_has_its_length_and_is_json() {
        for bytes in [BYTES_MIN, 128, 4_000] {
            let template = Template::new(bytes);
            assert_eq!(template.bytes().len(), bytes);
            assert!(serde_json::from_slice::<serde_json::Value>(template.bytes()).is_ok());
        }
    }

    #[test]
    fn numbers_come_back_and_any_other_change_is_noticed() {
        let template = Template::new(128);
        let mut text = template.bytes().to_vec();
        write(STAMP, &mut text);
        assert_eq!(template.read(&text), Some(STAMP));
        for place in
            (0..text.len()).filter(|at| !STREAM.contains(at) && !SEQ.contains(at) && !AT.contains(at))
        {
            let mut damaged = text.clone();
            damaged[place] ^= 1;
            assert_eq!(template.read(&damaged), None, "{place}");
        }
        assert_eq!(template.read(&text[..127]), None);
    }
}
