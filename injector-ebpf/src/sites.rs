//! Which sites fail, one by one: the policy of a sweep. Every call in scope counts at its site, whether it is failed or not.

use injector_common::{
    attempt::{Attempt, Candidate, Choice, MAX_NAMED, PHASES},
    config::{LEVEL_ATTEMPT, LEVEL_MULTI, LEVEL_RUN, LIVE_ALLOWED, LIVE_HIT, LIVE_LEVEL, ON},
    counters::Counters,
    decide,
    record::{CONTEXT_TASK, SITE_AFTER_FAILURE, SITE_AGAIN, SITE_KTHREAD, SITE_PAGE_FAULT, SiteRecord},
};

use crate::{
    calls,
    maps::{self, SITES, Scratch, config},
    record,
    types::Walk,
};

/// Counts a call at its site, and says whether it fails. None when the site can't be counted.
#[inline(always)]
pub fn choose(
    walk: &Walk,
    task_flags: u32,
    context: u32,
    scratch: &mut Scratch,
    counters: &mut Counters,
) -> Option<bool> {
    let level = maps::live(LIVE_LEVEL)?;
    let hit = maps::live(LIVE_HIT)? as u32;
    let mut attempt = None;
    let mut anywhere = level == LEVEL_RUN;
    if level == LEVEL_ATTEMPT || level == LEVEL_MULTI {
        if context == CONTEXT_TASK && task_flags & decide::PF_KTHREAD == 0 {
            attempt = attempt_of_current();
        } else {
            anywhere = level == LEVEL_MULTI;
        }
    }
    let after_failure = attempt.as_ref().is_some_and(|attempt| attempt.failed > 0);

    if SITES.get_ptr(walk.signature).is_none() {
        scratch.site.flags = if task_flags & decide::PF_KTHREAD != 0 { SITE_KTHREAD } else { 0 }
            | if walk.page_fault != 0 { SITE_PAGE_FAULT } else { 0 }
            | if after_failure { SITE_AFTER_FAILURE } else { 0 };
        scratch.site.allowed = allowed(walk)?;
        if !record::new_site(walk.signature, scratch) {
            counters.sites_full += 1;
            return None;
        }
    }
    let site = SITES.get_ptr_mut(walk.signature)?;
    // SAFETY: a valid entry; other CPUs count in it at the same time, so only where one too few would matter is the
    // counting atomic.
    let site = unsafe { &mut *site };
    maps::fetch_add(&raw mut site.hits, 1);
    // In a whole run nobody knows whether a failure led here.
    if !after_failure && level != LEVEL_RUN {
        site.clean = site.clean.saturating_add(1);
    }
    match &mut attempt {
        Some(attempt) if site.attempt != attempt.number => {
            site.attempt = attempt.number;
            site.attempt_hits = 1;
        }
        Some(_) => site.attempt_hits += 1,
        None if anywhere => site.attempt_hits += 1,
        None => {}
    }
    let Some(attempt) = attempt else {
        return Some(anywhere && site.allowed > 0 && site.attempt_hits >= hit && take(site));
    };
    let candidate = Candidate {
        signature: walk.signature,
        allowed: site.allowed,
        attempt_hits: site.attempt_hits,
        clean: site.clean,
        known: site.flags & SITE_AGAIN != 0,
    };
    let choice = attempt.choose(&candidate, hit, config!(persistent) == ON);
    let fails = match choice {
        Choice::Pass => false,
        Choice::Fresh => {
            attempt.fresh += 1;
            false
        }
        Choice::Repeat => true,
        Choice::Fail | Choice::FailAgain => take(site),
    };
    if fails {
        if attempt.failed == 0 {
            attempt.hit = site.attempt_hits;
            attempt.repeated = u32::from(matches!(choice, Choice::Repeat | Choice::FailAgain));
        }
        if (attempt.failed as usize) < MAX_NAMED {
            attempt.sites[attempt.failed as usize & (MAX_NAMED - 1)] = walk.signature;
        }
        attempt.failed += 1;
    }
    Some(fails)
}

/// How many failures a site may have that nothing was said about.
#[inline(always)]
fn allowed(walk: &Walk) -> Option<u64> {
    let shards = u64::from(config!(shard_count));
    let other_shard = shards > 1 && walk.signature % shards != u64::from(config!(shard_index));
    if walk.page_fault != 0 || other_shard { Some(0) } else { maps::live(LIVE_ALLOWED) }
}

/// The row of a site, which is made if there is none, with as many failures as a site may have.
#[inline(always)]
pub fn row(walk: &Walk, scratch: &mut Scratch, counters: &mut Counters) -> Option<&'static mut SiteRecord> {
    if SITES.get_ptr(walk.signature).is_none() {
        scratch.site.flags = 0;
        scratch.site.allowed = config!(per_site);
        if !record::new_site(walk.signature, scratch) {
            counters.sites_full += 1;
            return None;
        }
    }
    // SAFETY: a valid entry; what several CPUs write to is atomic.
    Some(unsafe { &mut *SITES.get_ptr_mut(walk.signature)? })
}

/// Gives a failure back that did not happen.
#[inline(always)]
pub fn give_back(site: &mut SiteRecord) {
    maps::fetch_add(&raw mut site.allowed, 1);
}

/// Takes one of the site's failures: two CPUs can't both have the last one.
#[inline(always)]
pub fn take(site: &mut SiteRecord) -> bool {
    if maps::fetch_add(&raw mut site.allowed, -1) as i64 > 0 {
        return true;
    }
    give_back(site);
    false
}

/// The open attempt of the current task.
#[inline(always)]
fn attempt_of_current() -> Option<&'static mut Attempt> {
    let slot = calls::slot_of_current()?;
    let phase = slot.phase as usize;
    if phase >= PHASES {
        return None;
    }
    let attempt = &mut slot.attempts[phase & (PHASES - 1)];
    (attempt.limit > 0).then_some(attempt)
}
