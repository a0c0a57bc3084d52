//! Which matches are failed, where nothing is said of their sites one by one.

use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_get_prandom_u32};
use injector_common::{
    config::{LIVE_INTERVAL, LIVE_THRESHOLD, MAX_NTH, ON, STATE_BYTES, STATE_COUNTED, STATE_DUE, STATE_MATCHES},
    decide::{self, ALWAYS},
    record::SiteRecord,
};

use crate::maps::{self, STATE, TASKS, config};

/// Whether a match is one of those that the counting policies (`--skip`, `--space`, `--every`, `--nth`) fail.
#[inline(always)]
pub fn is_its_turn(size: u64) -> Option<bool> {
    let (skip, space, every) = (config!(skip), config!(space), config!(every));
    if skip != 0 && maps::add(STATE_MATCHES, 1)? < skip {
        return Some(false);
    }
    if space != 0 && maps::add(STATE_BYTES, size as i64)? < space {
        return Some(false);
    }
    let nth_len = config!(nth_len);
    if every == 0 && nth_len == 0 {
        return Some(true);
    }
    let before = if config!(nth_per_task) == ON { of_this_task()? } else { maps::add(STATE_COUNTED, 1)? };
    let number = before + 1;
    if every != 0 {
        return Some(number % every == 0);
    }
    Some((0..MAX_NTH).any(|i| (i as u32) < nth_len && config!(nth[i]) == number))
}

/// How many matches the current task has had before this one.
#[inline(always)]
fn of_this_task() -> Option<u64> {
    let tid = bpf_get_current_pid_tgid() as u32;
    if let Some(count) = TASKS.get_ptr_mut(tid) {
        return Some(maps::fetch_add(count, 1));
    }
    TASKS.insert(tid, 1, 0).ok()?;
    Some(0)
}

/// Whether the coin says fail.
#[inline(always)]
pub fn coin() -> Option<bool> {
    let threshold = maps::live(LIVE_THRESHOLD)?;
    // SAFETY: returns a number.
    Some(threshold >= ALWAYS || decide::coin(unsafe { bpf_get_prandom_u32() }, threshold))
}

/// Whether the coin of `--seed` says fail; this hit is counted at the site.
#[inline(always)]
pub fn seeded_coin(site: &mut SiteRecord) -> Option<bool> {
    let hit = maps::fetch_add(&raw mut site.hits, 1);
    Some(decide::coin(decide::seeded(config!(seed), site.signature, hit), maps::live(LIVE_THRESHOLD)?))
}

/// Whether a failure is due, if the rate is limited; then the next one is due later. When two CPUs ask at once, one fails.
#[inline(always)]
pub fn is_due(now: u64) -> Option<bool> {
    let interval = maps::live(LIVE_INTERVAL)?;
    let due = STATE.get_ptr_mut(STATE_DUE)?;
    // SAFETY: a valid entry; volatile keeps it one load.
    let before = unsafe { core::ptr::read_volatile(due) };
    let Some(next) = decide::next_due(before, now, interval) else { return Some(false) };
    Some(maps::replace(due, before, next))
}
