mod files;
mod fold;
mod merging;
mod samples;
