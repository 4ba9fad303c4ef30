//! What happened, line by line: all of it as a hash, the end of it as text.

use super::queue::Instant;
use std::collections::VecDeque;
use std::fmt::{self, Write};

/// A trace.
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    lines: VecDeque<String>,
    lines_max: usize,
    text: String,
    prints: bool,
}

impl Trace {
    /// A trace that keeps its last lines, and prints all of them where asked to.
    pub fn new(lines_max: usize, prints: bool) -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, lines: VecDeque::new(), lines_max, text: String::new(), prints }
    }

    /// One more line.
    pub fn line(&mut self, now: Instant, what: fmt::Arguments<'_>) {
        self.text.clear();
        // Writing to a string does not fail.
        let _ = write!(self.text, "{:5}.{:06} {what}", now.0 / 1_000_000, now.0 % 1_000_000);
        for byte in self.text.bytes() {
            // FNV-1a.
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if self.prints {
            eprintln!("{}", self.text);
        }
        let mut line =
            if self.lines.len() == self.lines_max { self.lines.pop_front().unwrap_or_default() } else { String::new() };
        line.clear();
        line.push_str(&self.text);
        self.lines.push_back(line);
    }

    /// Hash of all lines.
    pub const fn hash(&self) -> u64 {
        self.hash
    }

    /// The last lines.
    pub fn last(&self) -> Vec<String> {
        self.lines.iter().cloned().collect()
    }
}
