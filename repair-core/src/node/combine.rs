//! Sums on the way: a node adds its fragment's share to what the hops behind it give, and answers with that.
//!
//! Whoever wants a lost fragment asks one node, which asks the next, and so on; sums come back along the same way, each node
//! adding its own. So every link carries one fragment's worth, and nobody reads k of them over one link. Sums are pulled and not
//! pushed: whoever asks is answered or knows after its deadline, nothing has to be remembered for it, and what fails is named by
//! the hop before it.
//!
//! Nothing waits in a circle: a chain gets shorter with every hop, a node takes so many at a time and refuses the others at once, and
//! each hop has less time than the one that asked it. A chain that waits holds no payload: the node's own is read when the sums
//! of the others are there, by whoever does the disk's work, and proven before it enters.

use super::serve::Why;
use super::{Asker, Body, Node, NodeEffect, OpId, Pending, StoreCall, StoreError, StoreOk, unavailable};
use crate::id::DiskId;
use crate::limits::{ADDRESS_BYTES_MAX, CHAIN_HOPS_MAX, CHAIN_SUMS_MAX, SLICE_BYTES};
use crate::time::Millis;
use crate::wire::node::{Field, FragmentKey, Hop};
use crate::wire::{CallError, NodeReply, NodeRequest, Refusal};
use bytes::BytesMut;
use ec_core::geometry::BLOCK_BYTES;
use ec_core::kernel::{Kernel, Transform};
use ec_core::matrix::Matrix;
use std::collections::BTreeSet;
use std::ops::Range;

/// Chains through this node at a time. Below what a connection lets be unanswered, so that no question waits for another's
/// answer; with a slice of sums and one of payload each, 64 MiB.
const COMBINES_MAX: usize = 32;
/// Longer than any slice takes; a deadline is not a way to keep a place.
const PATIENCE_MAX: Millis = Millis(60_000);

/// What is asked.
#[derive(Debug)]
pub(super) struct Wish {
    pub(super) field: Field,
    pub(super) offset: u64,
    pub(super) bytes: u32,
    pub(super) patience: Millis,
    pub(super) hops: Vec<Hop>,
}

/// A sum in work.
#[derive(Debug)]
pub(super) struct Combining {
    asker: Asker,
    range: Range<u64>,
    own: FragmentKey,
    coefficients: Vec<u8>,
    /// The next hop, where there is one.
    next: Option<(DiskId, FragmentKey)>,
}

impl Combining {
    fn sum_bytes(&self) -> u64 {
        (self.range.end - self.range.start) * self.coefficients.len() as u64
    }
}

impl Wish {
    /// What makes no sense about it.
    fn fault(&self) -> Option<&'static str> {
        // The only one there is: whoever adds another has to say here what becomes of it.
        let Field::Gf256 = self.field;
        let block = BLOCK_BYTES as u64;
        let (bytes, hops) = (u64::from(self.bytes), &self.hops);
        let Some(first) = hops.first() else { return Some("a chain without hops") };
        let sums = first.coefficients.len();
        let mut fragments = BTreeSet::new();
        if hops.len() > CHAIN_HOPS_MAX || !(1..=CHAIN_SUMS_MAX).contains(&sums) {
            return Some("a chain of too many hops, or of no sums or too many");
        }
        if hops.iter().any(|hop| hop.coefficients.len() != sums || hop.place.address.len() > ADDRESS_BYTES_MAX) {
            return Some("hops of different numbers of sums, or an address that is none");
        }
        let is_other = |hop: &Hop| {
            (hop.fragment.extent, hop.fragment.generation) != (first.fragment.extent, first.fragment.generation)
        };
        if hops.iter().any(|hop| is_other(hop) || !fragments.insert(hop.fragment.index)) {
            return Some("fragments of different extents, or one twice");
        }
        let whole = self.offset.is_multiple_of(block) && bytes.is_multiple_of(block) && bytes > 0;
        if !whole || self.offset.checked_add(bytes).is_none() || bytes * sums as u64 > SLICE_BYTES as u64 {
            return Some("sums are over whole blocks, all of them at most a slice");
        }
        (self.patience.0 == 0).then_some("no time")
    }
}

impl Node {
    pub(super) fn combine(&mut self, asker: Asker, wish: Wish) {
        if let Some(fault) = wish.fault() {
            return self.refuse(asker, Refusal::Invalid(fault.into()));
        }
        let Wish { field, offset, bytes, patience, mut hops } = wish;
        let own = hops.remove(0);
        if own.place.disk != self.disk() {
            let reason = format!("this is disk {}, not {}", self.disk(), own.place.disk);
            return self.refuse(asker, Refusal::Unavailable(reason));
        }
        let in_work = |pending: &&Pending| matches!(pending, Pending::Upstream(_) | Pending::Combine(_));
        if self.pending.values().filter(in_work).count() >= COMBINES_MAX {
            return self.refuse(asker, Refusal::Busy(format!("{COMBINES_MAX} chains go through this node")));
        }
        let next = hops.first().map(|hop| (hop.place.disk, hop.fragment));
        let range = offset..offset + u64::from(bytes);
        let combining = Box::new(Combining { asker, range, own: own.fragment, coefficients: own.coefficients, next });
        let Some(to) = hops.first().map(|hop| hop.place.clone()) else { return self.add_own(combining, Body::new()) };
        // What is left when the next one gives up is time to say so.
        let patience = Millis(patience.0.min(PATIENCE_MAX.0));
        let deadline = Millis(patience.0 - patience.0.div_ceil(hops.len() as u64 + 1));
        let request = NodeRequest::Combine { field, offset, bytes, patience: deadline, hops };
        let op = self.expect(Pending::Upstream(combining));
        self.effects.push_back(NodeEffect::Forward { op, to, request, deadline });
    }

    pub(super) fn forwarded(&mut self, op: OpId, result: Result<(NodeReply, Body), CallError>) {
        let combining = match self.pending.remove(&op) {
            Some(Pending::Upstream(combining)) => combining,
            Some(other) => return drop(self.pending.insert(op, other)),
            None => return,
        };
        let Some((disk, fragment)) = combining.next else { return };
        let refusal = match result {
            Ok((NodeReply::Combined, sums)) if sums.len() as u64 == combining.sum_bytes() => {
                return self.add_own(combining, sums);
            }
            // It names another hop, or itself.
            Ok((failed @ NodeReply::HopFailed { .. }, _)) => return self.reply(combining.asker, failed),
            Ok((NodeReply::Refused(refusal), _)) => refusal,
            Ok(_) => Refusal::Unavailable(CallError::Nonsense.to_string()),
            Err(error) => Refusal::Unavailable(error.to_string()),
        };
        self.reply(combining.asker, NodeReply::HopFailed { disk, fragment, refusal });
    }

    fn add_own(&mut self, combining: Box<Combining>, sums: Body) {
        let (range, coefficients) = (combining.range.clone(), combining.coefficients.clone());
        let call = StoreCall::Combine { fragment: combining.own, range, coefficients, sums };
        self.store(Pending::Combine(combining), call);
    }

    pub(super) fn combined(&mut self, combining: &Combining, result: Result<StoreOk, StoreError>) {
        let (disk, fragment) = (self.disk(), combining.own);
        let refusal = match result {
            Ok(StoreOk::Sums(sums)) => return self.reply_with(combining.asker, NodeReply::Combined, sums),
            Ok(_) => Refusal::Unavailable("no sums".into()),
            Err(StoreError::Invalid(reason)) => Refusal::Invalid(reason),
            Err(StoreError::NotFound) => Refusal::NotFound,
            Err(StoreError::Damaged(reason)) => Refusal::Damaged(reason),
            Err(error) => unavailable(&error),
        };
        let doubtful = matches!(refusal, Refusal::NotFound | Refusal::Damaged(_));
        self.reply(combining.asker, NodeReply::HopFailed { disk, fragment, refusal });
        if doubtful && self.must_hold(&fragment) && !self.is_damaged(fragment) {
            self.check(fragment, Why::Doubt);
        }
    }
}

/// Adds a payload's share to sums: `sums[i] + coefficients[i] * payload`, one after the other. Where there are no sums yet, they are
/// the share. What a host does for [`StoreCall::Combine`] once the payload is proven.
///
/// # Errors
/// [`StoreError::Invalid`] where the lengths do not fit; [`StoreError::Io`] where no kernel of this machine computes rightly.
pub fn add_share(coefficients: &[u8], payload: &[u8], sums: Body) -> Result<Body, StoreError> {
    let sum_bytes = payload.len() * coefficients.len();
    if payload.is_empty() || sum_bytes == 0 || !(sums.is_empty() || sums.len() == sum_bytes) {
        return Err(StoreError::Invalid(format!("{} bytes of sums for {sum_bytes}", sums.len())));
    }
    let kernel = Kernel::selected().map_err(|error| StoreError::Io(error.to_string()))?;
    let column = Matrix::from_fn(coefficients.len(), 1, |row, _| coefficients[row]);
    let adding = Transform::adding(kernel, &column).map_err(|error| StoreError::Invalid(error.to_string()))?;
    let mut out = match sums.is_empty() {
        true => BytesMut::zeroed(sum_bytes),
        false => sums.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..])),
    };
    let mut outputs: Vec<&mut [u8]> = out.chunks_mut(payload.len()).collect();
    adding.apply(&[payload], &mut outputs).map_err(|error| StoreError::Invalid(error.to_string()))?;
    Ok(out.freeze())
}
