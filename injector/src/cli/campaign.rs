//! `injector campaign`

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::sweep::{GuestArgs, GuestsError};
use super::{Exit, parse};
use crate::campaign::list::{self, Wanted};
use crate::campaign::{CampaignPlan, sweep};
use crate::exit::ExitCode;
use crate::plan::duration;
use crate::plan::sweep::Shard;
use crate::workloads;

const WORKLOADS: &str = "Workloads";

/// Sweep many workloads, one after the other, and make one report
///
/// Each workload has its journal and its own report in the directory: NAME.jsonl and NAME.txt. At the end report.txt and
/// report.json say what all of them found: each defect once, with the workloads that show it; what each workload covers; and what
/// could not run here, and why. The same command goes on with a campaign that ended early: sweeps that are over are left out,
/// others are resumed.
#[derive(Args)]
#[command(after_help = "Examples:
  All workloads of block devices, ten minutes each:
    injector campaign --tag block --budget-each 10m -o block --vm debian:7.3-amd64
  Two workloads, with an option for their sweeps:
    injector campaign md nvmet -o out --vm debian:7.3 -- --leaks off

Exit codes: 0 no defects but known ones; 1 defects; 2 wrong input; 4 interrupted, the same command goes on; \
5 no site was failed; 74 input or output failed; 75 this machine's kernel is damaged: boot it again, and give the same command")]
pub(super) struct CampaignArgs {
    /// Names or paths of workloads, or a list of them
    ///
    /// A list is a file with `workloads = [NAME…]`, or `tags = [TAG…]`, or both; its name ends with .toml.
    #[arg(value_name = "NAME|PATH", help_heading = WORKLOADS)]
    names: Vec<String>,

    /// The workloads with this tag; repeatable
    #[arg(long, value_name = "TAG", help_heading = WORKLOADS)]
    tag: Vec<String>,

    /// The directory with the catalogue of workloads [default: $INJECTOR_WORKLOADS, or where it is installed]
    #[arg(long, value_name = "DIR", help_heading = WORKLOADS)]
    workloads: Option<PathBuf>,

    /// The directory of the journals and the report
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,

    /// Begin no more sweeps after this time, and end the one that runs
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    budget: Option<Duration>,

    /// Stop each sweep after this time [default: what the workload's file says]
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    budget_each: Option<Duration>,

    /// Only this part of the workloads: I/N, with I from 0
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,

    /// Defects that are known: a journal, or a list; repeatable. See injector report --help
    #[arg(long, value_name = "FILE")]
    known: Vec<PathBuf>,

    /// Print the report as JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    guests: GuestArgs,

    /// Options of each sweep, as of injector sweep
    #[arg(last = true, value_name = "OPTION", allow_hyphen_values = true)]
    options: Vec<OsString>,
}

impl CampaignArgs {
    pub(super) fn into_plan(self) -> Result<CampaignPlan, Exit> {
        let Self { names, tag, workloads, output, budget, budget_each, shard, known, json, guests, options } = self;
        let wanted = Wanted { names, tags: tag };
        if wanted == Wanted::default() {
            return Err(super::refuse(
                "no workload is named; write names, or --tag TAG; injector workloads lists them",
            ));
        }
        let found = list::find(&wanted, workloads.as_deref()).map_err(|error| super::refuse_guests(&error.into()))?;
        let jobs = guests.jobs();
        let mut all = guests.arguments();
        if jobs != 1 {
            all.extend(["--jobs".into(), jobs.to_string().into()]);
        }
        if let Some(workloads) = workloads {
            all.extend(["--workloads".into(), workloads.into()]);
        }
        all.extend(options);
        let plan = CampaignPlan {
            workloads: found,
            directory: output,
            options: all,
            jobs,
            budget,
            budget_each,
            shard,
            known,
            json,
        };
        guests.into_guests(None).map_err(|error: GuestsError| super::refuse_guests(&error))?;
        // What is wrong with the options is said before the first sweep.
        if let Some(first) = plan.workloads.iter().find(|(_, file)| workloads::missing(file).is_none()) {
            let program = std::iter::once(OsString::from("injector"));
            let sweep = parse(program.chain(sweep::arguments(&plan, first, false, None)));
            if let Err(exit) = sweep
                && exit.code == ExitCode::USAGE
            {
                return Err(exit);
            }
        }
        Ok(plan)
    }
}
