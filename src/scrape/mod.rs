//! Scraping, without the sockets: when, what the samples mean, and what is reported about it.
//!
//! [`schedule`] says when a target is due, [`session`] turns the bytes of one response into one
//! [`crate::frame::Frame`], [`report`] keeps what a person and a dashboard want to know. [`target`] is what the
//! configuration says of a target; `labels` builds a sample's label set, `staleness` decides which samples count and
//! which series are tracked.
//!
//! Nothing here does I/O, reads a clock, or allocates after construction. A target that floods, lies or drips harms
//! only its own frame, which is empty and says `up` 0 if anything was wrong.

mod carried;
mod convert;
mod labels;
pub mod report;
pub mod schedule;
pub mod session;
mod staleness;
pub mod target;

pub use labels::LabelBuilder;
pub use report::{Counters, Health, HealthState, Outcome, Reports, ScrapeError};
pub use schedule::{Due, Schedule};
pub use session::{Session, SessionSize, Shared};
pub use target::{Limits, Target};
