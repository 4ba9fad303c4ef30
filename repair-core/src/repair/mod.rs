//! The rebuilding of one extent's lost fragments, all of them in one reading.
//!
//! A repair begins when a fragment is *needed* by a reachable disk. It reads as few bytes as the code allows, slice by slice, and
//! streams what it computes to the disks that need it. Each computes the root of what it received; only if that is the root on
//! record is it published. If not, the sources are read whole and held against their own roots, and what fails is named and left
//! out. A repair that finds itself old gives up without a trace.

//!
//! An *audit* asks what no repair can: whether fragments that are all there belong together. It repairs nothing.

pub mod audit;
mod compare;
pub mod effect;
pub mod job;
mod prove;
mod recipe;

pub use audit::AuditJob;
pub use effect::{AuditOutcome, AuditSpec, AuditVerdict, Finding, RepairOutcome, RepairSpec, Suspect};
pub use job::{RepairConfig, RepairJob};
pub(crate) use recipe::reads_of;
