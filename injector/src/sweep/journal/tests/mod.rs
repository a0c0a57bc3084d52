mod files;
mod fold;
mod merging;
mod panics;
mod samples;
