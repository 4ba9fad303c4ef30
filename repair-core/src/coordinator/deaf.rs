//! Time in which nobody was heard, because this process was not running: stopped, its machine paused, or busy with one event.
//!
//! Silence says something only where somebody listened. So the coordinator has a pulse, several in the time a disk may be silent; where
//! it does not come, whatever is waited for from others is waited for so much longer.

use super::{Coordinator, Timer};
use crate::time::{Millis, Time};

/// Pulses in the time after which a disk that is silent is suspected.
const PULSES: u64 = 4;

impl Coordinator {
    fn pulse_every(&self) -> Millis {
        Millis((self.config.suspect_after.0 / PULSES).max(1))
    }

    pub(super) fn pulse(&mut self) {
        self.after(self.pulse_every(), Timer::Pulse);
    }

    /// The time of an event. Between two there is never more than a pulse, unless this process was kept from running.
    pub(super) fn time_passes(&mut self, now: Time) {
        let gap = now.since(self.now);
        self.now = self.now.max(now);
        if self.boot.has_begun() && gap.0 > 2 * self.pulse_every().0 {
            self.was_deaf(gap);
        }
    }

    /// Whether connections end for no other reason than that nobody here has answered for a while: what that says of a node, its
    /// silence will say.
    pub(super) fn was_deaf_lately(&self) -> bool {
        self.deaf_at.is_some_and(|at| at + self.config.suspect_after > self.now)
    }

    fn was_deaf(&mut self, span: Millis) {
        self.deaf_at = Some(self.now);
        for disk in self.disks.values_mut() {
            disk.health.was_not_listened_to(self.now, span);
        }
        for put in self.puts.values_mut() {
            put.was_not_listened_to(self.now, span);
        }
        let text = format!("nothing was done for {} ms; nobody's silence in that time counts", span.0);
        self.note("daemon_paused", text, vec![("paused_ms", span.0.to_string())]);
    }
}
