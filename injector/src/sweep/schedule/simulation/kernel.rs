//! The world at work: carries out what the scheduler says, and keeps a journal, as the injector does on a real kernel.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use injector_common::attempt::{Attempt, Candidate, Choice, MAX_NAMED};

use super::world::{Effect, World, mix};
use crate::{
    events::Context,
    exit::{Error, ExitCode, Result},
    journal::{
        Level, Record, Signature, State, Verdict,
        record::{Armed, Crash, CrashKind, Ended, Failed, Outcome, Place, RunEnd, Site, Trouble},
    },
    oracle::kmemleak::Leak,
    plan::Hook,
    sweep::{
        Stopped,
        drive::Runner,
        schedule::{Aim, Mode, Notice, RunResult, RunSpec, Traced},
    },
};

/// The journal as a file: what was written stays.
#[derive(Debug, Default)]
pub struct Disk {
    pub records: Vec<Record>,
    /// The boot ends before this record is written.
    pub cut: Option<usize>,
}

/// One boot of a world's kernel.
pub struct Boot<'a> {
    world: &'a World,
    pub disk: &'a mut Disk,
    state: State,
    /// The hook's table of sites.
    table: HashMap<Signature, Row>,
    order: Vec<Signature>,
    /// What was lost and not forgotten: by site.
    lost: BTreeSet<usize>,
    wedged: bool,
    /// How many runs there were in all boots.
    pub runs: &'a mut u64,
    attempts: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Row {
    allowed: u64,
    again: bool,
    clean: u32,
    attempt: u64,
    attempt_hits: u32,
}

/// How a system call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Returned {
    Well,
    Error(&'static str),
    /// The task is gone, or hangs.
    Never(RunEnd),
}

/// What a run has come to.
#[derive(Debug, Default)]
struct Progress {
    run: u32,
    level: Option<Level>,
    /// The site that fails first, where the run is of two.
    first: Option<Signature>,
    failed: BTreeSet<Signature>,
    /// Those of them that are in the journal.
    told: BTreeSet<Signature>,
    reached: BTreeSet<Signature>,
    hits: BTreeMap<Signature, u64>,
    end: Option<RunEnd>,
    /// Failures since the run began, latest first.
    recent: Vec<Signature>,
    /// Complaints of a run without a tracer, which are written when it has ended.
    complaints: Vec<(usize, Verdict)>,
}

impl<'a> Boot<'a> {
    pub fn new(world: &'a World, disk: &'a mut Disk, state: State, runs: &'a mut u64) -> Self {
        let (table, order, lost) = (HashMap::new(), Vec::new(), BTreeSet::new());
        Self { world, disk, state, table, order, lost, wedged: false, runs, attempts: 0 }
    }

    pub fn write(&mut self, record: Record) -> Result<()> {
        if self.disk.cut == Some(self.disk.records.len()) {
            self.disk.cut = None;
            return Err(Error::new(ExitCode::INTERNAL, "cut"));
        }
        self.state.apply(&record);
        self.disk.records.push(record);
        Ok(())
    }

    /// The path to a site: the failure that leads to it is on it, and the system call.
    fn stack(&self, site: usize) -> Vec<String> {
        let first = self.world.sites[site].behind;
        let plain = first.unwrap_or(site);
        let call = self.world.calls.iter().position(|call| call.contains(&plain)).unwrap_or_default();
        let path = std::iter::once(site).chain(first).map(|site| format!("function_{site}+0x1/0x2"));
        path.chain([format!("call_{call}+0x1/0x2")]).collect()
    }

    fn info(&self, site: usize, after: Option<Signature>) -> Site {
        let sim = &self.world.sites[site];
        Site {
            site: self.world.signature(site),
            hook: Hook::Slab,
            context: Context::Task,
            kthread: sim.place == Place::Kthread,
            module: format!("m{}", site % 3),
            place: sim.place,
            stack: self.stack(site),
            after,
            call: None,
        }
    }

    /// A site is reached for the first time in this boot.
    fn meet(&mut self, site: usize, aim: &Aim, after: Option<Signature>) -> Result<()> {
        let signature = self.world.signature(site);
        if self.table.contains_key(&signature) {
            return Ok(());
        }
        let page_fault = self.world.sites[site].place == Place::PageFault;
        let allowed = u64::from(!aim.is_named() && !page_fault);
        self.table.insert(signature, Row { allowed, ..Row::default() });
        self.order.push(signature);
        if self.state.site(signature).is_none_or(|site| site.info.is_none()) {
            self.write(Record::Site(self.info(site, after)))?;
        }
        Ok(())
    }

    /// What [`crate::sweep::runner`] tells the hook before a run.
    fn aim(&mut self, spec: &RunSpec) {
        let sites: Vec<Signature> = self.state.sites().keys().copied().collect();
        if let Aim::Each { again, .. } = &spec.aim {
            let noticed = self.world.sites.iter().enumerate().filter(|(_, site)| site.place.is_machinery());
            let noticed = noticed.map(|(site, _)| site).find(|site| again.contains(&self.world.signature(*site)));
            assert_eq!(noticed, None, "a failure that the workload notices is repeated for what comes after it");
        }
        for site in sites {
            let (allowed, again) = match &spec.aim {
                Aim::Nothing => continue,
                Aim::Each { again, repeats, .. } if again.contains(&site) => (*repeats, true),
                Aim::Each { known, .. } if known.contains(&site) => (spec.times, false),
                Aim::Named(named) if named.contains(&site) => (spec.times, false),
                Aim::Pair { first, then } if site == *first || site == *then => (1, false),
                Aim::Each { .. } | Aim::Named(_) | Aim::Pair { .. } => (0, false),
            };
            let row = self.table.entry(site).or_default();
            (row.allowed, row.again) = (allowed, again);
        }
    }

    fn complain(
        &mut self,
        run: &Progress,
        site: usize,
        verdict: Verdict,
        culprit: Option<(Signature, Option<Signature>)>,
        suspects: Vec<Signature>,
    ) -> Result<()> {
        let title = self.world.title(site);
        let splat = format!("{title}\n{}", self.stack(site).join("\n"));
        let (site, after) = culprit.map_or((None, None), |(site, after)| (Some(site), after));
        self.write(Record::Trouble(Trouble { run: run.run, verdict, title, splat, site, after, suspects }))
    }

    /// The machine goes down: who watches from outside writes it down.
    fn panic(&mut self, run: &Progress, site: usize) -> Error {
        let title = self.world.title(site);
        let crash = Crash { run: Some(run.run), kind: CrashKind::Panic, title, splat: String::new() };
        match self.write(Record::Crash(crash)) {
            Ok(()) => Error::new(ExitCode::INTERNAL, "the machine is down"),
            Err(cut) => cut,
        }
    }

    /// Fails a site, of which complaints name `culprit` or else `suspects`.
    fn fail(
        &mut self,
        run: &mut Progress,
        site: usize,
        culprit: Option<(Signature, Option<Signature>)>,
        suspects: &[Signature],
    ) -> Result<Returned> {
        let signature = self.world.signature(site);
        run.failed.insert(signature);
        run.recent.insert(0, signature);
        let warn = |boot: &mut Self, run: &mut Progress, verdict| {
            if run.level.is_none() {
                run.complaints.push((site, verdict));
                return Ok(());
            }
            boot.complain(run, site, verdict, culprit, suspects.to_vec())
        };
        Ok(match self.world.sites[site].effect {
            Effect::Clean => Returned::Error("ENOMEM"),
            Effect::Misreported => Returned::Error("EIO"),
            Effect::Masked => Returned::Well,
            Effect::Wedges => {
                self.wedged = true;
                Returned::Error("EROFS")
            }
            Effect::Warns => {
                warn(self, run, Verdict::Warning)?;
                Returned::Error("ENOMEM")
            }
            Effect::Leaks => {
                self.lost.insert(site);
                Returned::Error("ENOMEM")
            }
            Effect::Oopses => {
                warn(self, run, Verdict::Oops)?;
                Returned::Never(RunEnd::Damaged)
            }
            Effect::Hangs => {
                warn(self, run, Verdict::Hang)?;
                Returned::Never(RunEnd::Damaged)
            }
            Effect::Panics => return Err(self.panic(run, site)),
        })
    }

    /// What came of the failures of an attempt.
    fn outcomes(&mut self, run: &mut Progress, attempt: &Attempt, outcome: &Outcome) -> Result<()> {
        let named = (attempt.failed as usize).min(MAX_NAMED);
        let mut failures: Vec<(Signature, Option<Signature>)> = Vec::new();
        for site in attempt.sites[..named].iter().copied().map(Signature) {
            let first = failures.first().map(|(first, _)| *first);
            if first != Some(site) {
                failures.push((site, first.filter(|_| attempt.multi == 0 || first == run.first)));
            }
        }
        if attempt.repeated != 0 && failures.len() == 1 {
            run.told.insert(failures[0].0);
            return Ok(());
        }
        let last = failures.len().saturating_sub(1);
        for (i, (site, after)) in failures.into_iter().enumerate() {
            if i < last && attempt.multi == 0 {
                continue;
            }
            let outcome = if i < last { Outcome::Masked } else { outcome.clone() };
            self.failed(run, site, after, outcome)?;
        }
        Ok(())
    }

    fn failed(
        &mut self,
        run: &mut Progress,
        site: Signature,
        after: Option<Signature>,
        outcome: Outcome,
    ) -> Result<()> {
        run.told.insert(site);
        let level = run.level.clone().unwrap_or(Level::WHOLE);
        let (call, syscall) = (None, None);
        self.write(Record::Failed(Failed {
            run: run.run,
            site,
            after,
            hit: 1,
            times: 1,
            level,
            call,
            syscall,
            outcome,
        }))
    }

    /// One attempt at a system call.
    fn attempt(
        &mut self,
        run: &mut Progress,
        spec: &RunSpec,
        traced: Traced,
        call: &[usize],
        repeat: u64,
    ) -> Result<(Attempt, Returned)> {
        self.attempts += 1;
        let limit = if traced.limit > 0 { traced.limit.max(traced.depth) } else { 0 };
        let multi = u32::from(traced.several);
        let mut attempt = Attempt { limit, multi, repeat, number: self.attempts, ..Attempt::NONE };
        let mut queue: Vec<usize> = call.iter().rev().copied().collect();
        while let Some(site) = queue.pop() {
            let signature = self.world.signature(site);
            let known = attempt.failed == 1 || (attempt.failed > 0 && attempt.multi == 0);
            let first = known.then(|| Signature(attempt.sites[0]));
            self.meet(site, &spec.aim, first)?;
            run.reached.insert(signature);
            *run.hits.entry(signature).or_default() += 1;
            let row = self.table.get_mut(&signature).expect("it was met");
            row.clean += u32::from(attempt.failed == 0);
            if row.attempt == attempt.number {
                row.attempt_hits += 1;
            } else {
                (row.attempt, row.attempt_hits) = (attempt.number, 1);
            }
            let candidate = Candidate {
                signature: signature.0,
                allowed: row.allowed,
                attempt_hits: row.attempt_hits,
                clean: row.clean,
                known: row.again,
            };
            let choice = attempt.choose(&candidate, 1, false);
            match choice {
                Choice::Pass => continue,
                Choice::Fresh => {
                    attempt.fresh += 1;
                    continue;
                }
                Choice::Repeat => {}
                Choice::Fail | Choice::FailAgain => row.allowed -= 1,
            }
            if attempt.failed == 0 {
                attempt.hit = 1;
                attempt.repeated = u32::from(matches!(choice, Choice::Repeat | Choice::FailAgain));
            }
            attempt.sites[attempt.failed as usize % MAX_NAMED] = signature.0;
            attempt.failed += 1;
            // Only the last failure may be to blame, if the run names its sites or has one failure in an attempt.
            let certain = !traced.several || spec.aim.is_single();
            let first = (attempt.failed > 1).then(|| Signature(attempt.sites[0]));
            let first = first.filter(|first| attempt.multi == 0 || Some(*first) == run.first);
            let suspects: Vec<Signature> =
                std::iter::once(signature).chain(run.recent.iter().copied()).take(8).collect();
            let culprit = certain.then_some((signature, first));
            let returned = self.fail(run, site, culprit, if certain { &[] } else { &suspects })?;
            if self.wedged || matches!(returned, Returned::Never(_)) {
                return Ok((attempt, returned));
            }
            // What its handling reaches.
            let behind = (0..self.world.sites.len()).filter(|other| self.world.sites[*other].behind == Some(site));
            let behind: Vec<usize> = behind.collect();
            if returned == Returned::Well {
                queue.extend(behind);
            } else {
                let cleanup = self.attempt_on(run, spec, &mut attempt, &behind)?;
                return Ok((attempt, cleanup.unwrap_or(returned)));
            }
        }
        Ok((attempt, Returned::Well))
    }

    /// The error path of a failed system call.
    fn attempt_on(
        &mut self,
        run: &mut Progress,
        spec: &RunSpec,
        attempt: &mut Attempt,
        sites: &[usize],
    ) -> Result<Option<Returned>> {
        for &site in sites {
            let signature = self.world.signature(site);
            let first = Signature(attempt.sites[0]);
            self.meet(site, &spec.aim, (attempt.multi == 0 || attempt.failed == 1).then_some(first))?;
            run.reached.insert(signature);
            let row = self.table.get_mut(&signature).expect("it was met");
            (row.attempt, row.attempt_hits) = (attempt.number, 1);
            let candidate = Candidate {
                signature: signature.0,
                allowed: row.allowed,
                attempt_hits: 1,
                clean: row.clean,
                known: row.again,
            };
            match attempt.choose(&candidate, 1, false) {
                Choice::Pass => continue,
                Choice::Fresh => {
                    attempt.fresh += 1;
                    continue;
                }
                Choice::Repeat => {}
                Choice::Fail | Choice::FailAgain => row.allowed -= 1,
            }
            attempt.sites[attempt.failed as usize % MAX_NAMED] = signature.0;
            attempt.failed += 1;
            let several = attempt.multi != 0 && !spec.aim.is_single();
            let after = Some(first).filter(|first| attempt.multi == 0 || Some(*first) == run.first);
            let culprit = (!several).then_some((signature, after));
            let suspects: Vec<Signature> =
                std::iter::once(signature).chain(run.recent.iter().copied()).take(8).collect();
            let returned = self.fail(run, site, culprit, if several { &suspects } else { &[] })?;
            if returned != Returned::Well {
                return Ok(Some(returned));
            }
        }
        Ok(None)
    }

    /// A system call under the tracer, until it returns without a failure in it.
    fn traced_call(&mut self, run: &mut Progress, spec: &RunSpec, traced: Traced, call: &[usize]) -> Result<()> {
        let mut repeat = 0;
        loop {
            if self.wedged {
                return Ok(());
            }
            let (attempt, returned) = self.attempt(run, spec, traced, call, repeat)?;
            if attempt.failed == 0 {
                return Ok(());
            }
            match returned {
                Returned::Well => {
                    self.outcomes(run, &attempt, &Outcome::Masked)?;
                    return Ok(());
                }
                Returned::Error(error) => {
                    self.outcomes(run, &attempt, &Outcome::of_error(error.to_owned()))?;
                    repeat = if attempt.fresh > 0 && traced.depth > 1 { attempt.sites[0] } else { 0 };
                }
                Returned::Never(end) => {
                    run.end = Some(end);
                    return Ok(());
                }
            }
        }
    }

    fn traced(&mut self, run: &mut Progress, spec: &RunSpec, traced: Traced) -> Result<Option<i32>> {
        let number = *self.runs;
        for call in self.world.calls.clone() {
            let here = |place: &Place| -> Vec<usize> {
                let sites = call.iter().copied().filter(|site| self.world.sites[*site].place == *place);
                sites.filter(|site| self.world.comes_up(*site, number)).collect()
            };
            let (calls, execs) = (here(&Place::SystemCall), here(&Place::Exec));
            let faults = here(&Place::PageFault);
            let elsewhere = [here(&Place::Kthread), here(&Place::Interrupt)].concat();
            self.traced_call(run, spec, traced, &calls)?;
            // Copies make execve(): the failure of each is its own.
            let limit = if traced.copies { traced.limit } else { 0 };
            for sites in execs.iter().chain(&faults).map(std::slice::from_ref) {
                if run.end.is_none() {
                    self.traced_call(run, spec, Traced { limit, ..traced }, sites)?;
                }
            }
            let limit = if traced.several { traced.limit } else { 0 };
            for site in elsewhere {
                if run.end.is_some() {
                    break;
                }
                self.anywhere(run, spec, site, limit > 0, !spec.aim.is_single())?;
            }
            if self.wedged && run.end.is_none() {
                run.end = Some(RunEnd::Stuck);
                let error = "EROFS".to_owned();
                let uncertain = traced.several && !spec.aim.is_single();
                if let Some(site) = run.recent.first().copied().filter(|_| !uncertain) {
                    self.failed(run, site, None, Outcome::Wedged { error })?;
                } else {
                    let suspects = run.recent.iter().copied().take(8).collect();
                    let (title, splat) = (Outcome::wedged_title(&error), String::new());
                    let (verdict, site, after) = (Verdict::Wedged, None, None);
                    self.write(Record::Trouble(Trouble {
                        run: run.run,
                        verdict,
                        title,
                        splat,
                        site,
                        after,
                        suspects,
                    }))?;
                }
            }
            if run.end.is_some() {
                return Ok(None);
            }
        }
        Ok(Some(0))
    }

    /// A site outside of system calls; `may`: it may fail. None: it did not.
    fn anywhere(
        &mut self,
        run: &mut Progress,
        spec: &RunSpec,
        site: usize,
        may: bool,
        uncertain: bool,
    ) -> Result<Option<Returned>> {
        let signature = self.world.signature(site);
        self.meet(site, &spec.aim, None)?;
        run.reached.insert(signature);
        *run.hits.entry(signature).or_default() += 1;
        let row = self.table.get_mut(&signature).expect("it was met");
        row.clean += u32::from(spec.mode != Mode::Untraced);
        if !may || row.allowed == 0 {
            return Ok(None);
        }
        row.allowed -= 1;
        let suspects: Vec<Signature> = std::iter::once(signature).chain(run.recent.iter().copied()).take(8).collect();
        let culprit = (!uncertain).then_some((signature, None));
        let returned = self.fail(run, site, culprit, if culprit.is_some() { &[] } else { &suspects })?;
        if let Returned::Never(end) = returned {
            run.end = Some(end);
        } else if spec.mode != Mode::Untraced {
            self.failed(run, signature, None, Outcome::Masked)?;
        }
        Ok(Some(returned))
    }

    /// A run without a tracer. Of several failures nobody knows which one a complaint is of, so the run's are told at its end.
    fn untraced(&mut self, run: &mut Progress, spec: &RunSpec) -> Result<(Option<i32>, bool)> {
        let number = *self.runs;
        let before = self.state.suspicion().clone();
        let mut status = Some(0);
        let calls = self.world.calls.clone();
        'calls: for call in calls {
            for site in call {
                if !self.world.comes_up(site, number) {
                    continue;
                }
                let mut sites = vec![site];
                while let Some(site) = sites.pop() {
                    let failed = self.anywhere(run, spec, site, true, false)?;
                    if failed.is_some() {
                        sites.extend(
                            (0..self.world.sites.len()).filter(|other| self.world.sites[*other].behind == Some(site)),
                        );
                    }
                    let in_task = !matches!(self.world.sites[site].place, Place::Kthread | Place::Interrupt);
                    if run.end.is_some() {
                        break 'calls;
                    }
                    if matches!(failed, Some(Returned::Error(_))) && in_task {
                        status = Some(1);
                        if self.world.brittle {
                            break 'calls;
                        }
                    }
                    if self.wedged {
                        status = Some(1);
                        break 'calls;
                    }
                }
            }
        }
        let alone = if run.failed.len() == 1 { run.failed.first().map(|site| (*site, None)) } else { None };
        let suspects: Vec<Signature> = run.failed.iter().copied().filter(|_| alone.is_none()).collect();
        let complaints = std::mem::take(&mut run.complaints);
        let bad =
            run.end.is_some() || complaints.iter().any(|(site, _)| !before.is_confirmed(&self.world.title(*site)));
        for (site, verdict) in complaints {
            self.complain(run, site, verdict, alone, suspects.clone())?;
        }
        if !bad || run.failed.len() == 1 {
            for site in run.failed.clone() {
                let outcome = if status == Some(0) { Outcome::Masked } else { Outcome::ProgramFailed { status: 1 } };
                self.failed(run, site, None, outcome)?;
            }
        }
        Ok((status.filter(|_| run.end.is_none()), bad))
    }
}

impl Runner for Boot<'_> {
    fn state(&self) -> &State {
        &self.state
    }

    fn over(&self) -> Option<Stopped> {
        None
    }

    fn say(&mut self, _notice: Notice) {}

    fn idle(&mut self) -> Result<BTreeSet<Signature>> {
        let background = (0..self.world.background).map(|n| Signature(mix(self.world.seed ^ 0xb0 ^ n as u64)));
        Ok(background.collect())
    }

    fn run(&mut self, spec: &RunSpec) -> Result<RunResult> {
        *self.runs += 1;
        self.aim(spec);
        let number = self.state.next_run();
        let sites = spec.aim.named().map(<[_]>::to_vec);
        self.write(Record::Armed(Armed { run: number, level: spec.level.clone(), sites, first: spec.aim.first() }))?;
        let level = Some(spec.level.clone()).filter(|_| spec.mode != Mode::Untraced);
        let mut run = Progress { run: number, level, first: spec.aim.first(), ..Progress::default() };
        let (status, bad) = match spec.mode {
            Mode::Traced(traced) => {
                let status = self.traced(&mut run, spec, traced)?;
                // What no attempt told of.
                for site in run.failed.clone().difference(&run.told.clone()) {
                    self.failed(&mut run, *site, None, Outcome::Masked)?;
                }
                (status, false)
            }
            Mode::Untraced => self.untraced(&mut run, spec)?,
        };
        let end = run.end.unwrap_or_default();
        let reached = run.reached.iter().filter(|site| self.state.hits(**site) > 0).count();
        let hits = if spec.level == Level::RECORD { run.hits } else { BTreeMap::new() };
        self.write(Record::Ended(Ended { run: number, end, elapsed: 0.0, status, hits, kernel_injected: 0 }))?;
        Ok(RunResult { end, status, failed: run.failed, reached, order: self.order.clone(), bad })
    }

    fn reset(&mut self, _prove: bool) -> Result<bool> {
        self.wedged = false;
        Ok(true)
    }

    fn scan(&mut self) -> Result<Vec<Leak>> {
        let leak = |site: &usize| Leak {
            title: self.world.title(*site),
            objects: 1,
            bytes: 8,
            backtrace: self.stack(*site),
            example: String::new(),
        };
        Ok(self.lost.iter().map(leak).collect())
    }

    fn clear_leaks(&mut self) -> Result<()> {
        self.lost.clear();
        Ok(())
    }

    fn note(&mut self, record: &Record) -> Result<()> {
        self.write(record.clone())
    }
}
