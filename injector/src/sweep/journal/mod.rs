//! The append-only record of a sweep. What is about to be failed is in it, synced, before it is armed.

pub mod record;

pub use record::{Record, Signature};
