//! Leaks: what kmemleak finds after the passes, and whose failure lost it; or, without kmemleak, slab caches that grow when
//! the same failure is repeated.

use std::time::Instant;

use tracing::{debug, warn};

use super::{
    Verdict,
    journal::{
        Record, Signature,
        record::{Level, RunEnd, Scanned, Site, Trouble},
    },
    oracle::{
        Complaint,
        kmemleak::{Kmemleak, Leak},
    },
    search::{Search, Stopped},
};
use crate::{events::frames, exit::Result, kernel::KernelFiles, plan::sweep::Leaks};

/// At most so many sites are tried for a leak.
const SUSPECTS: usize = 8;

impl Search<'_> {
    fn kmemleak(&self) -> Option<Kmemleak> {
        let kmemleak = Kmemleak::new(KernelFiles::default());
        (self.plan.leaks != Leaks::Off && kmemleak.is_there()).then_some(kmemleak)
    }

    /// What was lost before the first failure is not ours.
    ///
    /// # Errors
    /// When kmemleak can't be asked.
    pub(super) fn forget_leaks(&self) -> Result<()> {
        if let Some(kmemleak) = self.kmemleak() {
            kmemleak.scan(Instant::now())?;
            kmemleak.clear()?;
        }
        Ok(())
    }

    /// What was lost since. For each place that lost something, the sites that lie closest to it are failed by
    /// themselves until one loses it again.
    ///
    /// # Errors
    /// When kmemleak can't be asked, or the journal can't be written.
    pub(super) fn leaks(&mut self) -> Result<Option<Stopped>> {
        let Some(kmemleak) = self.kmemleak() else { return Ok(None) };
        self.experiment.say(format_args!("looking for leaks"));
        // What an oops kept from being looked at is done again.
        let missed = self.experiment.notebook.missed_by_kmemleak();
        if !missed.is_empty()
            && let Some(stopped) = self.again_for_leaks(&missed)?
        {
            return Ok(Some(stopped));
        }
        let leaks = kmemleak.scan(Instant::now())?;
        self.experiment.sync(Record::Scanned(Scanned { leaks: leaks.len() }))?;
        for leak in &leaks {
            let suspects = self.close_to(leak);
            debug!(title = leak.title, suspects = suspects.len(), "leak");
            self.write_leak(leak.clone(), None, suspects)?;
        }
        for leak in leaks {
            if self.experiment.notebook.is_confirmed(&leak.title) {
                continue;
            }
            for site in self.close_to(&leak) {
                if self.experiment.is_over() {
                    return Ok(Some(self.over()));
                }
                kmemleak.clear()?;
                if let Some(stopped) = self.single(site)? {
                    return Ok(Some(stopped));
                }
                let again = kmemleak.scan(Instant::now())?;
                if let Some(again) = again.into_iter().find(|again| again.title == leak.title) {
                    self.write_leak(again, Some(site), Vec::new())?;
                    break;
                }
            }
        }
        kmemleak.clear()?;
        Ok(None)
    }

    /// What one run lost, for a replay.
    ///
    /// # Errors
    /// When kmemleak can't be asked, or the journal can't be written.
    pub(super) fn leaks_of_run(&mut self) -> Result<()> {
        let Some(kmemleak) = self.kmemleak() else { return Ok(()) };
        for leak in kmemleak.scan(Instant::now())? {
            self.write_leak(leak, None, Vec::new())?;
        }
        Ok(kmemleak.clear()?)
    }

    fn write_leak(&mut self, leak: Leak, site: Option<Signature>, suspects: Vec<Signature>) -> Result<()> {
        let Complaint { title, splat, .. } = leak.into();
        let run = self.experiment.notebook.next_run().saturating_sub(1);
        let trouble = Trouble { run, verdict: Verdict::Leak, title, splat, site, after: None, suspects };
        self.experiment.sync(Record::Trouble(trouble))
    }

    /// Sites that were failed on the path on which something was lost, the closest first.
    fn close_to(&self, leak: &Leak) -> Vec<Signature> {
        let functions: Vec<&str> = leak.backtrace.iter().map(|frame| frames::function(frame)).collect();
        let common =
            |site: &Site| site.stack.iter().filter(|frame| functions.contains(&frames::function(frame))).count();
        let notebook = &self.experiment.notebook;
        let failed = self.experiment.lab.sites().filter(|site| notebook.was_failed(site.site));
        let mut close: Vec<(usize, Signature)> = failed.map(|site| (common(site), site.site)).collect();
        close.sort_by_key(|(common, site)| (std::cmp::Reverse(*common), *site));
        close.into_iter().take(SUSPECTS).map(|(_, site)| site).collect()
    }

    /// Repeats each site's failure, and watches the slab caches.
    ///
    /// # Errors
    /// When the journal can't be written.
    pub(super) fn growth(&mut self) -> Result<Option<Stopped>> {
        if self.plan.leaks != Leaks::Slab || self.kmemleak().is_some() {
            return Ok(None);
        }
        self.experiment.say(format_args!("repeating each failure, to see slab caches grow"));
        let sites = self.experiment.notebook.repeatable_sites();
        let end = self.repeat(&sites)?;
        if end != RunEnd::Finished {
            warn!("the run that repeats failures did not end well: {end:?}");
        }
        self.stopped(end)
    }

    /// A leak again: one failure of the site where kmemleak is there, else as many as it takes to see a slab cache grow.
    ///
    /// # Errors
    /// When kmemleak can't be asked, or the journal can't be written.
    pub(super) fn leak_again(&mut self, sites: &[Signature], level: Level) -> Result<(RunEnd, Vec<String>)> {
        if self.kmemleak().is_some() {
            return self.trial(sites, level);
        }
        let end = self.repeat(sites)?;
        Ok((end, self.experiment.notebook.last_titles().to_vec()))
    }

    /// A pass that repeats the failures of these sites.
    fn repeat(&mut self, sites: &[Signature]) -> Result<RunEnd> {
        for site in sites {
            self.experiment.lab.allow(*site, super::pass::REPEATS)?;
        }
        let end = self.repeating_pass()?;
        for site in sites {
            self.experiment.lab.allow(*site, 0)?;
        }
        Ok(end)
    }
}
