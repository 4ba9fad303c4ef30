//! Simulation of Ninefold: what happens to data over time, on a desk.
//!
//! - [`exact`] runs the machines of the service themselves, with real bytes, on fake disks and a fake network in virtual time.

pub mod exact;
