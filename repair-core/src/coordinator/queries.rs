//! What clients ask: names, streams, and where fragments are.

use super::view::has;
use super::{Asker, Coordinator, Op};
use crate::catalog::{Found, NameRow, StreamRow, key};
use crate::id::{ExtentKey, StreamKey};
use crate::pg::{SlotView, Standing};
use crate::wire::codec::decode_row;
use crate::wire::daemon::{ExtentEntry, Places, StoredName};
use crate::wire::node::Place;
use crate::wire::{DaemonReply, Refusal};

/// Extents in one page: of 40 bytes each.
const EXTENTS_PAGE: usize = 1000;
/// Names in one page at most, and bytes they take in the message.
const NAMES_PAGE: usize = 500;
const NAMES_PAGE_BYTES: usize = 56 << 10;
/// What a name takes beside its bytes.
const NAME_BESIDE_BYTES: usize = 64;

impl Coordinator {
    pub(super) fn lookup(&mut self, asker: Asker, name: &[u8]) {
        if let Err(error) = super::names::check_name(name) {
            return self.refuse(asker, Refusal::Invalid(error.to_string()));
        }
        self.get(Op::Lookup { asker }, vec![key::name(name)]);
    }

    pub(super) fn lookup_read(&mut self, asker: Asker, rows: Result<Vec<Option<Found>>, String>) {
        let reply = one_row::<NameRow>(rows).map_or_else(DaemonReply::Refused, DaemonReply::Found);
        self.reply(asker, reply);
    }

    pub(super) fn extents(&mut self, asker: Asker, stream: StreamKey, offset: u64) {
        self.get(Op::Extents { asker, offset }, vec![key::stream(stream)]);
    }

    pub(super) fn extents_read(&mut self, asker: Asker, offset: u64, rows: Result<Vec<Option<Found>>, String>) {
        let reply = one_row::<StreamRow>(rows).map_or_else(DaemonReply::Refused, |row| extents_page(&row, offset));
        self.reply(asker, reply);
    }

    pub(super) fn list_names(&mut self, asker: Asker, prefix: &[u8], after: Option<&[u8]>) {
        let most = crate::limits::NAME_BYTES_MAX;
        if prefix.len() > most || after.is_some_and(|after| after.len() > most) {
            return self.refuse(asker, Refusal::Invalid(format!("no name is longer than {most} bytes")));
        }
        let op = Op::Names { asker, limit: NAMES_PAGE };
        self.get_range(op, key::name(prefix), after.map(key::name), NAMES_PAGE);
    }

    pub(super) fn names_read(&mut self, asker: Asker, limit: usize, rows: Result<Vec<Found>, String>) {
        let reply = match rows {
            Ok(rows) => names_page(rows, limit).unwrap_or_else(DaemonReply::Refused),
            Err(reason) => DaemonReply::Refused(Refusal::Unavailable(reason)),
        };
        self.reply(asker, reply);
    }

    pub(super) fn locate(&mut self, asker: Asker, extent: ExtentKey) {
        if !extent.is_sound() {
            return self
                .refuse(asker, Refusal::Invalid(format!("{extent} is no extent's id: its check digits differ")));
        }
        let pg = extent.pg();
        let Some(owner) = self.owner(pg) else {
            // Made by another daemon after this one began, or never: only the catalog knows.
            return self.get(Op::Absent { asker, extent }, vec![key::pg(pg), key::owner(pg)]);
        };
        if !owner.is_ready() {
            let waits = owner.waits().into_iter().take(4).collect::<Vec<_>>().join("; ");
            return self.refuse(asker, Refusal::Unavailable(format!("placement group {pg} is not ready: {waits}")));
        }
        match self.places_of(extent) {
            Some(places) => self.reply(asker, DaemonReply::Located(places)),
            None => self.get(Op::Absent { asker, extent }, vec![key::pg(pg), key::owner(pg)]),
        }
    }

    /// "Not found" counts only if the row is still the one the list comes to, read after the request began.
    pub(super) fn absent_read(&mut self, asker: Asker, extent: ExtentKey, rows: Result<Vec<Option<Found>>, String>) {
        let row = match rows {
            Ok(rows) => rows.into_iter().next().flatten(),
            Err(reason) => return self.refuse(asker, Refusal::Unavailable(reason)),
        };
        let Some(owner) = self.owner(extent.pg()) else {
            if row.is_none() {
                return self.refuse(asker, Refusal::NotFound);
            }
            self.claim_group(extent.pg());
            return self.refuse(asker, Refusal::Unavailable("its placement group is being claimed".into()));
        };
        let ready = owner.is_ready();
        let current = row.is_some_and(|row| owner.revision() == Some(row.revision));
        let reply = match self.places_of(extent).filter(|_| ready) {
            Some(places) => DaemonReply::Located(places),
            None if ready && current => DaemonReply::Refused(Refusal::NotFound),
            None => DaemonReply::Refused(Refusal::Unavailable("its placement group is just changing".into())),
        };
        self.reply(asker, reply);
    }

    fn places_of(&self, extent: ExtentKey) -> Option<Places> {
        let owner = self.owner(extent.pg())?;
        let (row, hash) = (owner.row()?, owner.listed(extent)?);
        let slots = owner.slots();
        let place_of = |index: usize| self.sources(&slots, extent, index);
        Some(Places {
            cell: self.cell()?.cell,
            pg: extent.pg(),
            row: row.order(),
            state: row.state,
            hash,
            slots: (0..row.members.len()).map(place_of).collect(),
        })
    }

    /// Disks that may have a fragment, the likeliest first, unreachable ones last. None for parity that is known to be wrong.
    pub(super) fn sources(&self, slots: &[SlotView], extent: ExtentKey, index: usize) -> Vec<Place> {
        if self.audits.is_wrong_parity(extent, index) {
            return Vec::new();
        }
        self.ranked(slots, extent, index, |_| true)
    }

    /// Disks that can be read and have a fragment, for all that is known; wrong parity or not. Also such as are being replaced, where
    /// nothing can be stored any more.
    pub(super) fn copies(&self, slots: &[SlotView], extent: ExtentKey, index: usize) -> Vec<Place> {
        let is_read_only = |slot: &SlotView| self.disks.get(&slot.disk).is_some_and(super::disks::Disk::is_read_only);
        self.ranked(slots, extent, index, |slot| has(slot, Some(extent)) || is_read_only(slot))
    }

    fn ranked(
        &self,
        slots: &[SlotView],
        extent: ExtentKey,
        index: usize,
        wanted: impl Fn(&SlotView) -> bool,
    ) -> Vec<Place> {
        let mut ranked: Vec<(u8, Place)> = slots
            .iter()
            .filter(|slot| usize::from(slot.index) == index && wanted(slot))
            .filter_map(|slot| Some((self.rank(slot, extent)?, self.place(slot.disk)?)))
            .collect();
        ranked.sort();
        ranked.into_iter().map(|(_, place)| place).collect()
    }

    /// The disk that has a fragment and answers, for all that is known; wrong parity or not.
    pub(super) fn holder(&self, slots: &[SlotView], extent: ExtentKey, index: usize) -> Option<Place> {
        let of_index = slots.iter().filter(|slot| usize::from(slot.index) == index);
        let ranked = of_index.filter_map(|slot| Some((self.rank(slot, extent).filter(|rank| *rank <= 1)?, slot.disk)));
        self.place(ranked.min()?.1)
    }

    /// How likely a slot's disk gives the fragment; none where it is known to lack it.
    fn rank(&self, slot: &SlotView, extent: ExtentKey) -> Option<u8> {
        let answers = slot.reachable && self.disks.get(&slot.disk).is_some_and(|disk| disk.health.is_healthy());
        let known_lacking = slot.missing.as_ref().is_some_and(|missing| missing.contains(&extent));
        match (answers, has(slot, Some(extent)), slot.standing) {
            _ if known_lacking => None,
            (true, true, Standing::Level) => Some(0),
            (true, true, _) => Some(1),
            (true, false, _) => Some(2),
            // Where nothing was ever built there is nothing to wait for.
            (false, _, Standing::Joining) if slot.missing.is_none() => None,
            (false, _, _) => Some(3),
        }
    }
}

fn one_row<T: serde::de::DeserializeOwned>(rows: Result<Vec<Option<Found>>, String>) -> Result<T, Refusal> {
    let found = rows.map_err(Refusal::Unavailable)?.into_iter().next().flatten().ok_or(Refusal::NotFound)?;
    decode_row(&found.value)
        .map_err(|error| Refusal::Unavailable(format!("a row of the catalog cannot be read: {error}")))
}

fn extents_page(row: &StreamRow, offset: u64) -> DaemonReply {
    // An empty stream has one extent of no bytes, which ends where it begins.
    let first = match row.bytes {
        0 => 0,
        _ => row.extents.partition_point(|extent| extent.offset.saturating_add(extent.bytes) <= offset),
    };
    let rest = row.extents.iter().zip(0u64..).skip(first);
    let more = row.extents.len() > first + EXTENTS_PAGE;
    let entry = |(extent, ordinal): (&crate::catalog::StreamExtentRow, u64)| ExtentEntry {
        ordinal,
        extent: extent.extent,
        offset: extent.offset,
        bytes: extent.bytes,
    };
    DaemonReply::ExtentsPage { extents: rest.take(EXTENTS_PAGE).map(entry).collect(), more }
}

fn names_page(rows: Vec<Found>, limit: usize) -> Result<DaemonReply, Refusal> {
    let found = rows.len();
    let (mut names, mut bytes) = (Vec::with_capacity(found), 0);
    for row in rows {
        let name = row.key.get(key::NAMES.len()..).unwrap_or_default().to_vec();
        bytes += name.len() + NAME_BESIDE_BYTES;
        if bytes > NAMES_PAGE_BYTES {
            break;
        }
        let row = decode_row(&row.value)
            .map_err(|error| Refusal::Unavailable(format!("a row of the catalog cannot be read: {error}")))?;
        names.push(StoredName { name, row });
    }
    let more = names.len() < found || found == limit;
    Ok(DaemonReply::NamesPage { names, more })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::StreamExtentRow;
    use crate::limits::MESSAGE_BYTES_MAX;
    use crate::wire::codec::{encode_message, encode_row};

    fn stream(lengths: impl IntoIterator<Item = u64>) -> StreamRow {
        let mut bytes = 0;
        let extents = lengths
            .into_iter()
            .zip(1..)
            .map(|(length, number)| {
                bytes += length;
                StreamExtentRow { extent: ExtentKey(number), offset: bytes - length, bytes: length, names: 1 }
            })
            .collect();
        StreamRow { stream: StreamKey(1), bytes, extents, names: 1 }
    }

    fn page(row: &StreamRow, offset: u64) -> (Vec<u64>, bool) {
        match extents_page(row, offset) {
            DaemonReply::ExtentsPage { extents, more } => (extents.iter().map(|extent| extent.ordinal).collect(), more),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn extents_come_from_the_one_that_holds_the_byte() {
        let row = stream([10, 10, 5]);
        assert_eq!(page(&row, 0), (vec![0, 1, 2], false));
        assert_eq!(page(&row, 9), (vec![0, 1, 2], false));
        assert_eq!(page(&row, 10), (vec![1, 2], false));
        assert_eq!(page(&row, 25), (vec![], false));
        assert_eq!(page(&stream([0]), 0), (vec![0], false));
    }

    #[test]
    fn pages_of_extents_and_of_the_longest_names_fit_a_message() {
        let row = stream(vec![1; 4096]);
        let (ordinals, more) = page(&row, 1000);
        assert_eq!((ordinals.len(), ordinals[0], more), (EXTENTS_PAGE, 1000, true));
        assert!(encode_message(&extents_page(&row, 0)).unwrap().len() <= MESSAGE_BYTES_MAX);

        let value = encode_row(&NameRow { stream: StreamKey(1), offset: 0, bytes: 0 }).unwrap();
        for length in [1, 200, 4096] {
            let found = |at: usize| Found {
                key: key::name(format!("{at:0length$}").as_bytes()),
                value: value.clone(),
                revision: 1,
            };
            let rows: Vec<Found> = (0..NAMES_PAGE).map(found).collect();
            let reply = names_page(rows, NAMES_PAGE).unwrap();
            assert!(encode_message(&reply).unwrap().len() <= MESSAGE_BYTES_MAX, "names of {length} bytes");
            let DaemonReply::NamesPage { names, more } = reply else { panic!() };
            assert!(more && !names.is_empty());
        }
    }
}
