//! The protocol of Ninefold's service: who holds what, what is lost, what happens next.
//!
//! Everything here is a machine without IO: an event and the time come in by `handle(now, event)`, wishes go out by
//! `poll_effect()`. The daemon performs those wishes with sockets and disks, the simulator in virtual time with faults, so what
//! the simulator breaks is the code that ships. This crate cannot sleep, has no clock, no dice of its own, and no order left to
//! chance: maps that decisions walk over are ordered.
//!
//! | module | subject |
//! |---|---|
//! | [`id`], [`time`], [`rng`], [`limits`] | names of things, time and dice as values, declared limits |
//! | [`catalog`] | rows of the small consistent store, and its transactions |
//! | [`wire`] | frames, messages and their codec |
//! | [`topology`], [`placement`], [`health`], [`risk`] | where things may lie, who is alive, what is urgent |
//! | [`queue`], [`budget`], [`pace`], [`forecast`] | whose turn it is, what may be moved and how fast, when it will be done |
//! | [`lineage`], [`limping`] | which of two folders with one identity is the disk; which disk is far slower than its peers |
//! | [`ownership`] | which of several daemons is in charge: lease, standby, hand-over |
//! | [`shape`] | which files a record names |
//! | [`pg`] | the owner of one placement group: the commit protocol |
//! | [`node`] | a member: write protocol, journal, fencing |
//! | [`client`], [`repair`] | the transfers: put, get, rebuild |
//! | [`coordinator`] | the daemon whole: owners, allocation, names, health, repair |
//! | [`invariant`] | what must hold after every event, by name |

pub mod budget;
pub mod catalog;
pub mod client;
pub mod coordinator;
pub mod forecast;
pub mod health;
pub mod id;
pub mod invariant;
pub mod limits;
pub mod limping;
pub mod lineage;
pub mod node;
pub mod ownership;
pub mod pace;
pub mod pg;
pub mod placement;
pub mod queue;
pub mod repair;
pub mod risk;
pub mod rng;
pub mod shape;
pub mod time;
pub mod topology;
pub mod wire;
