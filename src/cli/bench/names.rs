//! Users by number: names of one length, different in every run, so that no
//! run finds what an earlier one left.

const DIGITS: usize = 7;

/// The names of a run's users.
#[derive(Debug, Clone)]
pub(super) struct Names {
    prefix: String,
}

impl Names {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    /// A prefix that nobody has used.
    pub(super) fn fresh() -> Self {
        Self { prefix: format!("bench-{:08x}-", rand::random::<u32>()) }
    }

    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    pub(super) fn name(&self, user: u32) -> String {
        format!("{}{user:0DIGITS$}", self.prefix)
    }

    /// Turns a name into another user's.
    pub(super) fn renumber(user: u32, name: &mut [u8]) {
        let start = name.len() - DIGITS;
        let mut rest = user;
        for place in name[start..].iter_mut().rev() {
            *place = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
    }
}

#[test]
fn a_name_is_renumbered_in_place() {
    let names = Names::new("x-");
    let mut name = names.name(9_876_543).into_bytes();
    Names::renumber(120, &mut name);
    assert_eq!(name, names.name(120).into_bytes());
}
