//! How far each device of one channel has come.
//!
//! Knows no numbering: whether a position means anything is asked before.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

use crate::protocol::{Device, Position};
use crate::store;

/// How many cursors of one user are kept in a channel that is crowded.
const USER_CURSORS: usize = 100;

/// A device's place: none at the beginning, before anything was pushed.
type Place = Option<Position>;

/// One device's.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cursor {
    pub(super) place: Place,
    /// What is not above was never meant for it.
    pub(super) began: u64,
    /// The time of the last change.
    pub(super) at_ms: u64,
}

/// By name.
#[derive(Debug, Clone, Default)]
pub(super) struct Cursors(BTreeMap<Device, Cursor>);

impl Cursors {
    /// Where a device goes on, if it was here before.
    pub(super) fn get(&self, device: &Device) -> Option<Place> {
        self.0.get(device).map(|cursor| cursor.place)
    }

    /// Notes where a device begins that is here for the first time. Without it,
    /// what another device receives while this one is on its way would move the
    /// place to which this one comes back.
    pub(super) fn place(&mut self, device: &Device, place: Place, now_ms: u64, cursors_max: usize) {
        if !self.0.contains_key(device) {
            let began = place.map_or(0, |place| place.seq);
            self.0.insert(device.clone(), Cursor { place, began, at_ms: now_ms });
            self.make_room(device, cursors_max);
        }
    }

    /// A device received everything up to `position`; it never goes back. One
    /// that is new begins behind `began`.
    pub(super) fn receive(
        &mut self,
        device: &Device,
        position: Position,
        began: u64,
        now_ms: u64,
        cursors_max: usize,
    ) {
        if self.get(device).flatten().is_none_or(|old| old.seq <= position.seq) {
            let began = self.0.get(device).map_or(began.min(position.seq), |old| old.began);
            let cursor = Cursor { place: Some(position), began, at_ms: now_ms };
            if self.0.insert(device.clone(), cursor).is_none() {
                self.make_room(device, cursors_max);
            }
        }
    }

    /// Forgets the cursors that moved longest ago once there are too many, but
    /// not the one that `came`; some more than need be, so that it happens rarely.
    /// Users that have many are left the newest half of what a user may have, and
    /// others lose theirs only if that is not enough: nobody crowds out others with
    /// names that cost nothing.
    fn make_room(&mut self, came: &Device, cursors_max: usize) {
        if self.0.len() <= cursors_max.max(1) {
            return;
        }
        let needed = self.0.len() - cursors_max.max(1);
        let mut cursors: HashMap<&str, usize> = HashMap::new();
        for user in self.0.keys().filter_map(Device::user) {
            *cursors.entry(user).or_default() += 1;
        }
        let mut newest_first: Vec<_> = self.0.iter().filter(|(device, _)| *device != came).collect();
        newest_first.sort_by_key(|(_, cursor)| Reverse(cursor.at_ms));
        let mut newer: HashMap<&str, usize> = came.user().map(|user| (user, 1)).into_iter().collect();
        let (mut gone, few): (Vec<&Device>, Vec<&Device>) =
            newest_first.into_iter().map(|(device, _)| device).partition(|device| {
                let Some(user) = device.user().filter(|user| cursors[user] > USER_CURSORS) else {
                    return false;
                };
                let newer = newer.entry(user).or_default();
                *newer += 1;
                *newer > USER_CURSORS / 2
            });
        if gone.len() < needed {
            let more = needed - gone.len() + cursors_max / 20;
            gone.extend(few.into_iter().rev().take(more));
        }
        let gone: Vec<Device> = gone.into_iter().cloned().collect();
        for device in gone {
            self.0.remove(&device);
        }
    }

    /// Whether no device has a place.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Device, &Cursor)> {
        self.0.iter()
    }

    /// Devices that received something, or began behind something: of the first so many.
    pub(super) fn list(&self, devices_max: usize) -> Vec<store::Cursor> {
        let cursor = |(device, cursor): (&Device, &Cursor)| {
            Some(store::Cursor { device: device.clone(), position: cursor.place?, at_ms: cursor.at_ms })
        };
        self.0.iter().take(devices_max).filter_map(cursor).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
