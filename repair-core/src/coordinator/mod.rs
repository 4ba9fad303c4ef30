//! The daemon whole: it owns placement groups, allocates and commits, keeps names, watches health, and orders repair.

pub mod effect;

pub use effect::{CoordinatorConfig, CoordinatorEffect, CoordinatorEvent, JobId, Note};
