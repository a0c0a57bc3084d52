//! The one path that every hook takes: facts, filters, guards, policy, record, verdict. Cheap things first.

use aya_ebpf::{
    bindings::pt_regs,
    helpers::{bpf_get_prandom_u32, bpf_ktime_get_ns, generated},
    programs::ProbeContext,
};
use aya_log_ebpf::{debug, warn};
use injector_common::{
    HOOK_SLAB,
    config::{
        GfpTest, LIVE_ARMED, LIVE_BUDGET, LIVE_DEADLINE, LIVE_THRESHOLD, MAX_GFP_ALTERNATIVES, MAX_GFP_NEGATED, ON,
    },
    counters::Counters,
    decide::{self, ALWAYS},
    record::{CACHE_NAME_LEN, CONTEXT_SOFTIRQ, CONTEXT_TASK, CONTEXT_UNKNOWN},
};

use crate::{
    kernel_memory,
    maps::{self, config},
    page, record,
    site::{self, Walk},
    sites, slab, task,
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
    if screen(call).is_none() {
        return;
    }
    let error = decide(ctx.regs, call.hook, call.gfp, call.order, call.cache);
    if error != 0 {
        // SAFETY: a kprobe's registers, at the entry of a function that the kernel lists as injectable.
        unsafe { generated::bpf_override_return(ctx.regs, error as u64) };
    }
}

/// Some when the cheap filters accept the call. This much runs for every allocation of the machine: no kernel memory is
/// read but the current task's flags, and nothing needs the stack, so it stays in registers.
#[inline(always)]
fn screen(call: &Call) -> Option<()> {
    let counters = maps::counters(call.hook)?;
    counters.calls += 1;
    if call.cache == 0 && !order_accepted(call.order) {
        return None;
    }
    match_gfp(call.gfp, counters)?;
    let kinds = config!(target.kinds);
    // In what context a call is made is found out later.
    (kinds == 0 || config!(softirqs) == ON || task::is_in_scope(kinds)).then_some(())
}

/// What the caller gets instead of the call, which the cheap filters have accepted and which is recorded as a failure then;
/// 0 when it is let go. A function of its own, so that its registers and stack cost nothing when it isn't called.
#[inline(never)]
fn decide(regs: *mut pt_regs, hook: u32, gfp: u32, order: u32, cache: u64) -> i32 {
    match decide_call(&ProbeContext { regs }, &Call { hook, gfp, cache, order }) {
        Some(()) => error_of(hook),
        None => 0,
    }
}

/// What a failed call returns.
#[inline(always)]
pub fn error_of(hook: u32) -> i32 {
    if hook == HOOK_SLAB { slab::ERROR } else { page::ERROR }
}

#[inline(always)]
fn decide_call(ctx: &ProbeContext, call: &Call) -> Option<()> {
    if maps::live(LIVE_ARMED)? == 0 {
        return None;
    }
    let counters = maps::counters(call.hook)?;

    // The other filters.
    let scratch = maps::scratch()?;
    let Some(task_flags) = task::flags() else {
        counters.unreadable += 1;
        return None;
    };
    let effective_gfp = decide::effective_gfp(call.gfp, task_flags, config!(gfp_bits.io), config!(gfp_bits.fs));
    let (order, size) = match_order(call, counters, scratch)?;
    let pid = task::pid();
    let mut context = CONTEXT_UNKNOWN;
    if config!(target.kinds) != 0 {
        context = task::context(scratch);
        if context == CONTEXT_UNKNOWN {
            counters.unreadable += 1;
            warn!(ctx, "the preempt count can't be read");
            return None;
        }
        if config!(softirqs) == ON {
            context = scratch.opaque(context);
            if context == CONTEXT_TASK && !task::is_in_scope(config!(target.kinds)) {
                return None;
            }
        }
        if context != CONTEXT_TASK && !(context == CONTEXT_SOFTIRQ && config!(softirqs) == ON) {
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
    if config!(sites_on) != ON && threshold < ALWAYS && !decide::coin(unsafe { bpf_get_prandom_u32() }, threshold) {
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
    scratch.site.context = context;

    if config!(sites_on) == ON && !sites::choose(&walk, task_flags, context, scratch, counters)? {
        counters.passed += 1;
        return None;
    }

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

/// A test of the `$i`th `--gfp` value.
macro_rules! gfp_test {
    ($i:ident, $test:ident) => {
        GfpTest { mask: config!(gfp[$i].$test.mask), value: config!(gfp[$i].$test.value) }
    };
}

/// Some when a `--gfp` value accepts the call.
#[inline(always)]
fn match_gfp(gfp: u32, counters: &mut Counters) -> Option<()> {
    let len = config!(gfp_len);
    if len == 0 {
        return Some(());
    }
    let mut looked_at = gfp;
    if config!(gfp_effective) == ON {
        let possible = |i: usize| decide::test(gfp, gfp_test!(i, necessary));
        if !(0..MAX_GFP_ALTERNATIVES).any(|i| (i as u32) < len && possible(i)) {
            return None;
        }
        let Some(task_flags) = task::flags() else {
            counters.unreadable += 1;
            return None;
        };
        looked_at = decide::effective_gfp(gfp, task_flags, config!(gfp_bits.io), config!(gfp_bits.fs));
    }
    let accepted = (0..MAX_GFP_ALTERNATIVES).any(|i| {
        (i as u32) < len
            && decide::gfp_matches(looked_at, gfp_test!(i, test), {
                let negated_len = config!(gfp[i].negated_len);
                (0..MAX_GFP_NEGATED).take_while(move |j| (*j as u32) < negated_len).map(move |j| GfpTest {
                    mask: config!(gfp[i].negated[j].mask),
                    value: config!(gfp[i].negated[j].value),
                })
            })
    });
    accepted.then_some(())
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
    order_accepted(order).then_some((order, size))
}

#[inline(always)]
fn order_accepted(order: u32) -> bool {
    config!(order_on) != ON || (order >= config!(order_min) && order <= config!(order_max))
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
