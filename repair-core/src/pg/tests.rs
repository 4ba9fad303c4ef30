//! The owner against fake members and a catalog that loses answers.

mod counts;
mod life;
mod memory;
mod schedules;
mod storm;
mod upkeep;
mod world;
