//! The one path that every hook takes: facts, filters, guards, policy, record, verdict. Cheap things first.

use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, bpf_get_prandom_u32, bpf_ktime_get_ns, generated},
    programs::ProbeContext,
};
use aya_log_ebpf::{debug, warn};
use injector_common::{
    config::{
        GfpTest, LIVE_ARMED, LIVE_BUDGET, LIVE_DEADLINE, LIVE_THRESHOLD, MAX_GFP_ALTERNATIVES, MAX_GFP_NEGATED, ON,
    },
    counters::Counters,
    decide::{self, ALWAYS},
    record::{CACHE_NAME_LEN, CONTEXT_TASK, CONTEXT_UNKNOWN},
};

use crate::{
    kernel_memory,
    maps::{self, config},
    record,
    site::{self, Walk},
    task,
};

/// The name of the cache that caches are made from (create_boot_cache() in kmem_cache_init(), mm/slub.c, 6.12).
const BOOTSTRAP_CACHE: &[u8; 11] = b"kmem_cache\0";

/// A call, as the hook's arguments have it.
pub struct Call {
    /// `HOOK_*`.
    pub hook: u32,
    /// Flags asked for.
    pub gfp: u32,
    /// Address of the slab cache; 0 for the page hook.
    pub cache: u64,
    /// Order asked for; not known yet for a slab call.
    pub order: u32,
    /// What the caller gets if the call is failed.
    pub error: i32,
}

/// What else is known of a call that will be failed.
pub struct Facts {
    /// Flags less what the task's scope takes away.
    pub effective_gfp: u32,
    /// Order asked for, or needed.
    pub order: u32,
    /// Object size in bytes; 0 for the page hook.
    pub size: u32,
    /// `CONTEXT_*`.
    pub context: u32,
    /// CLOCK_MONOTONIC nanoseconds.
    pub time: u64,
    /// Site signature.
    pub site: u64,
}

/// Fails the call if it is to be failed.
#[inline(always)]
pub fn run(ctx: &ProbeContext, call: &Call) {
    if decide(ctx, call).is_some() {
        // SAFETY: a kprobe's registers, at the entry of a function that the kernel lists as injectable.
        unsafe { generated::bpf_override_return(ctx.regs, call.error as u64) };
    }
}

/// Some when the call is to be failed, which then has been recorded.
#[inline(always)]
fn decide(ctx: &ProbeContext, call: &Call) -> Option<()> {
    let counters = maps::counters(call.hook)?;
    if maps::live(LIVE_ARMED)? == 0 {
        counters.disarmed += 1;
        return None;
    }
    counters.calls += 1;

    // Filters.
    let effective_gfp = match_gfp(call.gfp, counters)?;
    let scratch = maps::scratch()?;
    let (order, size) = match_order(call, counters, scratch)?;
    let pid = (bpf_get_current_pid_tgid() >> 32) as u32;
    let mut context = CONTEXT_UNKNOWN;
    let kinds = config!(target.kinds);
    if kinds != 0 {
        if !task::is_target(kinds, pid) {
            return None;
        }
        context = task::context(scratch);
        if context == CONTEXT_UNKNOWN {
            counters.unreadable += 1;
            warn!(ctx, "the preempt count can't be read");
            return None;
        }
        if context != CONTEXT_TASK {
            counters.bystander += 1;
            return None;
        }
    }
    let stack_filtered = config!(stack_any_len) != 0 || config!(stack_none_len) != 0;
    // Not an Option: its undefined halves would be spilled, and the verifier refuses to read what was not written.
    let mut walk = Walk::NONE;
    if stack_filtered {
        walk = walk_stack(ctx, call, scratch, counters)?;
        if walk.none != 0 || (config!(stack_any_len) != 0 && walk.any == 0) {
            return None;
        }
    }
    counters.matches += 1;

    // Guards: what no option can switch off.
    if call.gfp & config!(gfp_bits.nofail) != 0 {
        counters.suppressed_nofail += 1;
        return None;
    }
    let own = pid == config!(own_pid);
    if own || (pid == 1 && config!(init_allowed) != ON) {
        // Unless it is an interrupt on top of the task; in doubt it is not.
        let context = task::context(scratch);
        if context == CONTEXT_TASK || context == CONTEXT_UNKNOWN {
            if own {
                counters.suppressed_own += 1;
            } else {
                counters.suppressed_init += 1;
            }
            return None;
        }
    }

    // Policy.
    let threshold = maps::live(LIVE_THRESHOLD)?;
    // SAFETY: returns a number.
    if threshold < ALWAYS && !decide::coin(unsafe { bpf_get_prandom_u32() }, threshold) {
        counters.passed += 1;
        return None;
    }
    // SAFETY: returns a number.
    let time = unsafe { bpf_ktime_get_ns() };
    if time > maps::live(LIVE_DEADLINE)? {
        counters.expired += 1;
        return None;
    }

    // The rest of the facts, for the last guard and the record.
    let mut cache = [0; CACHE_NAME_LEN];
    if call.cache != 0 {
        let name = kernel_memory::member::<u64>(call.cache, config!(offsets.cache_name));
        if name.and_then(|name| kernel_memory::string(name, &mut cache)).is_none() {
            counters.unreadable += 1;
            warn!(ctx, "the name of cache {:x} can't be read", call.cache);
            return None;
        }
        if starts_with(&cache, BOOTSTRAP_CACHE) {
            counters.suppressed_bootstrap += 1;
            return None;
        }
    }
    if walk.len == 0 {
        walk = walk_stack(ctx, call, scratch, counters)?;
    }
    if context == CONTEXT_UNKNOWN {
        context = task::context(scratch);
    }
    context = scratch.opaque(context);

    // Record.
    let budget = maps::live(LIVE_BUDGET)?;
    if budget != u64::MAX && !record::take_budget(budget) {
        counters.exhausted += 1;
        return None;
    }
    if !record::count_site(walk.signature, scratch) {
        if budget != u64::MAX {
            record::give_budget_back();
        }
        counters.sites_full += 1;
        warn!(ctx, "the table of sites is full");
        return None;
    }
    counters.failures += 1;
    if walk.unknown != 0 {
        counters.unknown_code += 1;
    }
    let facts = Facts { effective_gfp, order, size, context, time, site: walk.signature };
    if config!(events) == ON && !record::send(call, &facts, &cache) {
        counters.lost += 1;
    }
    debug!(ctx, "failed hook {} gfp {:x} site {:x}", call.hook, call.gfp, walk.signature);
    Some(())
}

/// The effective flags, if some `--gfp` value accepts the call.
#[inline(always)]
fn match_gfp(gfp: u32, counters: &mut Counters) -> Option<u32> {
    let (io, fs) = (config!(gfp_bits.io), config!(gfp_bits.fs));
    let len = config!(gfp_len);
    let scoped = config!(gfp_effective) == ON;
    if len != 0
        && scoped
        && !(0..MAX_GFP_ALTERNATIVES).any(|i| (i as u32) < len && !decide::gfp_hopeless(gfp, alternative(i), io | fs))
    {
        return None;
    }
    let Some(task_flags) = task::flags() else {
        counters.unreadable += 1;
        return None;
    };
    let effective = decide::effective_gfp(gfp, task_flags, io, fs);
    let looked_at = if scoped { effective } else { gfp };
    let accepted = len == 0
        || (0..MAX_GFP_ALTERNATIVES).any(|i| {
            (i as u32) < len
                && decide::gfp_matches(looked_at, alternative(i), {
                    let negated_len = config!(gfp[i].negated_len);
                    (0..MAX_GFP_NEGATED).take_while(move |j| (*j as u32) < negated_len).map(move |j| GfpTest {
                        mask: config!(gfp[i].negated[j].mask),
                        value: config!(gfp[i].negated[j].value),
                    })
                })
        });
    accepted.then_some(effective)
}

#[inline(always)]
fn alternative(i: usize) -> GfpTest {
    GfpTest { mask: config!(gfp[i].test.mask), value: config!(gfp[i].test.value) }
}

/// Order and object size (0 for the page hook), if the order filter accepts the call.
#[inline(always)]
fn match_order(call: &Call, counters: &mut Counters, scratch: &mut maps::Scratch) -> Option<(u32, u32)> {
    let mut order = call.order;
    let mut size = 0;
    if call.cache != 0 {
        let Some(object_size) = kernel_memory::member::<u32>(call.cache, config!(offsets.cache_object_size)) else {
            counters.unreadable += 1;
            return None;
        };
        size = object_size;
        order = scratch.opaque(decide::order_of_size(size));
    }
    let accepted = config!(order_on) != ON || (order >= config!(order_min) && order <= config!(order_max));
    accepted.then_some((order, size))
}

#[inline(always)]
fn walk_stack(ctx: &ProbeContext, call: &Call, scratch: &mut maps::Scratch, counters: &mut Counters) -> Option<Walk> {
    let walk = site::walk(ctx, call.hook, scratch);
    if walk.is_none() {
        counters.unreadable += 1;
        warn!(ctx, "there is no stack");
    }
    walk
}

#[inline(always)]
fn starts_with(name: &[u8; CACHE_NAME_LEN], prefix: &[u8; 11]) -> bool {
    let mut i = 0;
    while i < prefix.len() {
        if name[i] != prefix[i] {
            return false;
        }
        i += 1;
    }
    true
}
