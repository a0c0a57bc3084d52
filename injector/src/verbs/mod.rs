//! One file per verb: each does what was asked for, writes the outcome, and has an exit code. What several of them need is in
//! [`guests`], [`journals`] and [`reports`].

mod campaign;
mod check;
mod completions;
mod ctl;
mod diff;
mod export;
mod guests;
mod hooks;
mod journals;
mod log;
mod manual;
mod merge;
mod minimize;
mod module;
mod plan;
mod replay;
mod report;
mod reports;
mod run;
mod sites;
mod step;
mod sweep;
mod workloads;

pub use {
    campaign::campaign, check::check, completions::completions, ctl::ctl, diff::diff, export::export, hooks::hooks,
    log::log, manual::manual, merge::merge, minimize::minimize, module::module, plan::plan, replay::replay,
    report::report, run::run, sites::sites, step::step, sweep::sweep, workloads::workloads,
};
