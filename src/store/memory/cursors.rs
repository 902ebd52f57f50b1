//! How far each device of one channel has come.
//!
//! Knows no numbering: whether a position means anything is asked before.

use std::collections::BTreeMap;

use crate::protocol::{Device, Position};
use crate::store::Cursor;

/// A device's place: none at the beginning, before anything was pushed.
type Place = Option<Position>;

/// By name, with the time of the last change in milliseconds.
#[derive(Debug, Clone, Default)]
pub(super) struct Cursors(BTreeMap<Device, (Place, u64)>);

impl Cursors {
    /// Where a device goes on, if it was here before.
    pub(super) fn get(&self, device: &Device) -> Option<Place> {
        self.0.get(device).map(|(place, _)| *place)
    }

    /// Notes where a device begins that is here for the first time. Without it,
    /// what another device receives while this one is on its way would move the
    /// place to which this one comes back.
    pub(super) fn place(&mut self, device: &Device, place: Place, now_ms: u64) {
        if !self.0.contains_key(device) {
            self.0.insert(device.clone(), (place, now_ms));
        }
    }

    /// A device received everything up to `position`; it never goes back.
    pub(super) fn receive(&mut self, device: &Device, position: Position, now_ms: u64) {
        if self.get(device).flatten().is_none_or(|old| old.seq <= position.seq) {
            self.0.insert(device.clone(), (Some(position), now_ms));
        }
    }

    /// Whether no device has a place.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Every device that received something, or began behind something.
    pub(super) fn list(&self) -> Vec<Cursor> {
        let cursor = |(device, (place, at_ms)): (&Device, &(Place, u64))| {
            Some(Cursor { device: device.clone(), position: (*place)?, at_ms: *at_ms })
        };
        self.0.iter().filter_map(cursor).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
