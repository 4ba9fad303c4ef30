//! The `ninefold` command: files to fragments and back, and the demo of the main job.
//!
//! [`files`] moves bytes between files and fragments, verified on both sides, in bounded memory; [`pack`] puts many small
//! files into one stream; [`demo`] runs the whole on folders that stand for fault domains; [`cli`] is what a user types.
//! Codes, plans and the fragment format are `ec_core`'s: nothing here knows a field or a byte layout.

#![forbid(unsafe_code)]

pub mod cli;
pub mod demo;
pub mod files;
pub mod pack;
