//! What is left behind of a failure: a count in the histogram, which is exact, and an event, if there is room.

use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_get_smp_processor_id, generated};
use injector_common::{
    config::{ON, STATE_SPENT},
    record::{CACHE_NAME_LEN, COMM_LEN, Failure, SiteRecord},
};

use crate::{
    maps::{self, BPF_NOEXIST, EVENTS, SITES, Scratch, config, fetch_add},
    types::{Call, Facts},
};

/// Takes one failure from the budget. Adds first and compares then: two CPUs can't both take the last one.
#[inline(always)]
pub fn take_budget(limit: u64) -> bool {
    let Some(spent) = maps::add(STATE_SPENT, 1) else { return false };
    if spent < limit {
        return true;
    }
    give_budget_back();
    false
}

/// Gives a failure back that did not happen.
#[inline(always)]
pub fn give_budget_back() {
    // Either it is there, and was added to, or nothing was.
    let _ = maps::add(STATE_SPENT, -1);
}

/// Counts a failure at its site. False when the table is full.
#[inline(always)]
pub fn count_site(signature: u64, scratch: &mut Scratch) -> bool {
    if add_one(signature) {
        return true;
    }
    // Unless it is full, and unless another CPU was faster.
    new_site(signature, scratch) && add_one(signature)
}

/// Makes a row of the histogram for the stack that was walked last, and tells the user side. False when the table is full.
#[inline(always)]
pub fn new_site(signature: u64, scratch: &mut Scratch) -> bool {
    scratch.site.signature = signature;
    if SITES.insert(signature, &scratch.site, BPF_NOEXIST).is_err() {
        // Another CPU was faster?
        return SITES.get_ptr(signature).is_some();
    }
    if config!(events) == ON {
        // If there is no room, the user side asks the map.
        let _ = EVENTS.output::<SiteRecord>(&scratch.site, 0);
    }
    true
}

#[inline(always)]
fn add_one(signature: u64) -> bool {
    let Some(site) = SITES.get_ptr_mut(signature) else { return false };
    // SAFETY: a valid entry, and only its address is taken.
    fetch_add(unsafe { &raw mut (*site).count }, 1);
    true
}

/// Sends an event. False when the ring is full.
#[inline(always)]
pub fn send(call: &Call, facts: &Facts, cache: &[u8; CACHE_NAME_LEN]) -> bool {
    let Some(mut entry) = EVENTS.reserve::<Failure>(0) else { return false };
    let ids = bpf_get_current_pid_tgid();
    // SAFETY: each member is written once, in place; the helpers are given the size of what they fill.
    unsafe {
        let failure = entry.as_mut_ptr();
        (*failure).time = facts.time;
        (*failure).site = facts.site;
        (*failure).cgroup = generated::bpf_get_current_cgroup_id();
        (*failure).size = facts.size;
        (*failure).hook = call.hook;
        (*failure).gfp = call.gfp;
        (*failure).effective_gfp = facts.effective_gfp;
        (*failure).order = facts.order;
        (*failure).pid = (ids >> 32) as u32;
        (*failure).tid = ids as u32;
        (*failure).cpu = bpf_get_smp_processor_id();
        (*failure).context = facts.context;
        (*failure).error = facts.error;
        (*failure)._pad = 0;
        generated::bpf_get_current_comm((&raw mut (*failure).comm).cast(), COMM_LEN as u32);
        (*failure).cache = *cache;
    }
    entry.submit(0);
    true
}
