mod files;
mod fold;
mod merging;
mod panics;
pub mod samples;
