//! One lost fragment by a chain of its sources, which add up on the way: this end gets one slice where it would read as many
//! as the code needs.
//!
//! Sums prove nothing about their parts. So the first trouble ends the chain, and what is missing is read from every source as
//! ever: that tells here, by CRCs, whose fault it was. A chain that gave wrong sums is found by the root like any wrong
//! source, and no later round has one.

use super::{Pending, RepairJob};
use crate::client::source::fragment_key;
use crate::limits::CHAIN_HOPS_MAX;
use crate::node::Body;
use crate::time::Millis;
use crate::wire::node::{Field, Hop, Place};
use crate::wire::{CallError, NodeReply, NodeRequest};
use std::collections::BTreeMap;

/// A chain that was asked for a slice.
#[derive(Debug)]
pub(super) struct Chain {
    target: u16,
    /// Index and place of each hop, in the order asked.
    hops: Vec<(u16, Place)>,
}

impl Chain {
    /// Payload that its hops read for so many bytes of sums.
    pub(super) fn read_bytes(&self, sum_bytes: usize) -> u64 {
        sum_bytes as u64 * self.hops.len() as u64
    }
}

impl RepairJob {
    /// Asks a chain for a slice, once. False where the sources are to be read from here.
    pub(super) fn ask_chain(&mut self, offset: u64) -> bool {
        if !self.spec.chain || self.tally.chain_fault.is_some() || self.round > 1 {
            return false;
        }
        let Some(slice) = self.slices.get(&offset).filter(|slice| slice.have.is_empty()) else { return false };
        if slice.is_chained {
            return true;
        }
        let Some((target, hops)) = self.hops(offset) else { return false };
        let range = self.range_at(offset);
        let chain = Chain { target, hops: hops.iter().map(|hop| (hop.fragment.index, hop.place.clone())).collect() };
        let deadline = self.config.call_deadline;
        let request = NodeRequest::Combine {
            field: Field::Gf256,
            offset,
            // Ranges are slices at most.
            bytes: u32::try_from(range.end - range.start).unwrap_or(u32::MAX),
            // The first hop has to say in time which one was silent.
            patience: Millis(deadline.0 - deadline.0 / 10),
            hops,
        };
        if let Some(slice) = self.slices.get_mut(&offset) {
            slice.is_chained = true;
        }
        let to = chain.hops[0].1.clone();
        self.call(&to, request, Body::new(), deadline, Pending::Sums { slice: offset, chain });
        true
    }

    /// The hops for a slice and the fragment they make; none where there is no chain to be had.
    fn hops(&self, offset: u64) -> Option<(u16, Vec<Hop>)> {
        let (target, shares) = self.recipe.as_ref()?.chain()?;
        let hop = |(index, coefficient): &(u16, u8)| {
            let place = self.sources.pick(*index, true)?.clone();
            let fragment = fragment_key(self.spec.extent, &self.entry(*index)?.identity);
            Some(Hop { place, fragment, coefficients: vec![*coefficient] })
        };
        let mut hops: Vec<Hop> = shares.iter().map(hop).collect::<Option<_>>()?;
        // Slice by slice another one is asked, so that none of them sends all that leaves the chain.
        let turn = offset / self.layout.as_ref()?.slice_bytes.max(1) % (hops.len() as u64).max(1);
        hops.rotate_left(usize::try_from(turn).ok()?);
        (2..=CHAIN_HOPS_MAX).contains(&hops.len()).then_some((target, hops))
    }

    /// The sums are the target's piece, or the chain is at its end.
    pub(super) fn take_sums(&mut self, offset: u64, chain: Chain, result: Result<(NodeReply, Body), CallError>) {
        let range = self.range_at(offset);
        let reason = match result {
            Ok((NodeReply::Combined, sums)) if sums.len() as u64 == range.end - range.start => {
                let is_wanted = self.slices.get(&offset).is_some_and(|slice| slice.is_chained && !slice.decoded);
                if is_wanted {
                    self.tally.chained_bytes += sums.len() as u64;
                    self.used.extend(chain.hops.into_iter().map(|(index, place)| ((index, place.disk), place)));
                    self.send_pieces(offset, BTreeMap::from([(chain.target, sums)]));
                }
                return;
            }
            Ok((NodeReply::HopFailed { disk, fragment, refusal }, _)) => {
                format!("fragment {} on {disk}: {refusal}", fragment.index)
            }
            other => super::refused(other),
        };
        self.tally.chain_fault.get_or_insert(reason);
        for slice in self.slices.values_mut() {
            slice.is_chained = false;
        }
    }
}
