mod files;
mod fold;
mod merging;
pub mod samples;
