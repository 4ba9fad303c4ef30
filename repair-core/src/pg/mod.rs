//! The owner of one placement group: the commit protocol of the service.
//!
//! It claims the group, fences its members, proves a list, and from then on changes the list one transaction at a time: prepare
//! on the members, compare and write the row, tell the members. What a silent transaction did is *unknown* until the row says so
//! or a later write has killed it. See `docs/design/0004-service.md`.

pub mod effect;

pub use effect::{
    CallId, CreateResult, DeleteResult, Need, PgConfig, PgEffect, PgEvent, PgOutcome, SlotView, Standing, Ticket,
    Versioned,
};
