//! The one path that every hook takes: facts, filters, guards, policy, record, verdict. Cheap things first.

use core::ffi::c_void;

use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_log_ebpf::{debug, warn};
use injector_common::{
    arch::{MAX_SYSCALLS, PAGE_SHIFT},
    config::{
        CONTEXTS_ALL, GLOB_CACHE, GfpTest, LIVE_ARMED, LIVE_BUDGET, LIVE_DEADLINE, MAX_GFP_ALTERNATIVES,
        MAX_GFP_NEGATED, ON,
    },
    counters::Counters,
    decide,
    hooks::{self, HOOKS},
    record::{CACHE_NAME_LEN, CONTEXT_TASK, CONTEXT_UNKNOWN, SiteRecord},
};

use crate::{
    arch, kernel_memory,
    maps::{self, Scratch, config},
    outcome, policy, record, site, sites, task,
    types::{Arguments, Call, Context, Facts, Prototype, Walk},
};

/// The name of the cache that caches are made from (create_boot_cache() in kmem_cache_init(), mm/slub.c, 6.12).
const BOOTSTRAP_CACHE: &[u8; 11] = b"kmem_cache\0";

/// What a call that is looked at returns instead of being made, if it is to be failed. This is the same for
/// every way to attach.
#[inline(always)]
pub fn verdict<A: Arguments>(ctx: &Context, arguments: &A, prototype: &Prototype) -> Option<i32> {
    let call = screen(arguments, prototype)?;
    let fails = decide(ctx.pointer, call.hook, call.gfp, call.order, call.subject) != 0;
    (fails && config!(dry_run) != ON).then(|| config!(hooks[call.hook as usize].error))
}

/// The call, when the cheap filters accept it: no kernel memory is read but the current task's flags, and nothing needs the
/// stack, so it stays in registers. An argument is read where it is needed: each that is kept across a helper is in a register
/// that the kernel saves and restores for every call.
#[inline(always)]
fn screen<A: Arguments>(arguments: &A, prototype: &Prototype) -> Option<Call> {
    let &Prototype { hook, arguments: hooks::Arguments { gfp, cache, order, size } } = prototype;
    let read = |argument: Option<usize>| argument.map_or(Some(0), |n| arguments.argument(n));
    let counters = maps::counters(hook)?;
    counters.calls += 1;
    if gfp.is_some() {
        match_gfp(read(gfp)? as u32, counters)?;
    } else if config!(gfp_len) != 0 {
        // A filter on what a call does not have never accepts it.
        return None;
    }
    if cache.is_none() && config!(cache_on) == ON {
        return None;
    }
    let has_size = cache.is_some() || order.is_some() || size.is_some();
    if !has_size && (config!(order_on) == ON || config!(size_on) == ON) {
        return None;
    }
    let subject = read(cache.or(size))?;
    let call = Call { hook, gfp: read(gfp)? as u32, subject, order: read(order)? as u32 };
    (order.is_none() || is_order_accepted(call.order)).then_some(call)
}

/// Whether the call fails, which the cheap filters have accepted; then it is recorded as a failure. A function of its own, so
/// that its registers and stack cost nothing when it isn't called.
#[inline(never)]
fn decide(pointer: *mut c_void, hook: u32, gfp: u32, order: u32, subject: u64) -> i32 {
    i32::from(decide_call(&Context { pointer }, &Call { hook, gfp, subject, order }).is_some())
}

#[inline(always)]
fn decide_call(ctx: &Context, call: &Call) -> Option<()> {
    if maps::live(LIVE_ARMED)? == 0 || call.hook as usize >= HOOKS {
        return None;
    }
    let counters = maps::counters(call.hook)?;

    // The other filters.
    let scratch = maps::scratch(call.hook)?;
    let call = &Call { subject: scratch.number(call.subject), ..*call };
    let Some(task_flags) = task::flags() else {
        counters.unreadable += 1;
        return None;
    };
    if !task::is_accepted(task_flags) {
        return None;
    }
    let effective_gfp = decide::effective_gfp(call.gfp, task_flags, config!(gfp_bits.io), config!(gfp_bits.fs));
    let (order, size) = match_size(call, counters, scratch)?;
    let mut cache = [0; CACHE_NAME_LEN];
    if config!(cache_on) == ON {
        read_cache(ctx, call, &mut cache, counters)?;
        if !task::is_name_accepted(GLOB_CACHE, &cache) {
            return None;
        }
    }
    let pid = task::pid();
    let mut context = match_context(ctx, scratch, counters)?;
    if config!(syscalls_on) == ON {
        let number = arch::syscall();
        if number >= MAX_SYSCALLS || config!(syscalls[number as usize / 64]) >> (number % 64) & 1 == 0 {
            return None;
        }
    }
    // Not an Option: its undefined halves would be spilled, and the verifier refuses to read what was not written.
    let mut walk = Walk::NONE;
    if Walk::is_wanted() {
        walk = walk_stack(ctx, call, scratch, counters)?;
        if walk.none == 0 {
            counters.stacks += 1;
        }
        if !walk.is_accepted() {
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

    // Policy, as far as it needs no site.
    let by_site = config!(seed_on) == ON || config!(per_site) != 0;
    if config!(sites_on) != ON {
        if !policy::is_its_turn(size)? {
            counters.passed += 1;
            return None;
        }
        if config!(seed_on) != ON && !policy::coin()? {
            counters.passed += 1;
            return None;
        }
    }
    // SAFETY: returns a number.
    let time = unsafe { bpf_ktime_get_ns() };
    if time > maps::live(LIVE_DEADLINE)? {
        counters.expired += 1;
        return None;
    }

    // The rest of the facts, for the last guard and the record.
    if call.hook == hooks::SLAB {
        if config!(cache_on) != ON {
            read_cache(ctx, call, &mut cache, counters)?;
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

    // Policy, the rest.
    let mut taken = None;
    if config!(sites_on) == ON {
        if !sites::choose(&walk, task_flags, context, scratch, counters)? {
            counters.passed += 1;
            return None;
        }
    } else {
        if by_site {
            let row = sites::row(&walk, scratch, counters)?;
            if config!(seed_on) == ON && !policy::seeded_coin(row)? {
                counters.passed += 1;
                return None;
            }
            taken = Some(row);
        }
        if config!(rate_on) == ON && !policy::is_due(time)? {
            counters.passed += 1;
            return None;
        }
        if config!(per_site) != 0
            && let Some(row) = &mut taken
            && !sites::take(row)
        {
            counters.passed += 1;
            return None;
        }
    }

    // Record.
    let budget = maps::live(LIVE_BUDGET)?;
    if budget != u64::MAX && !record::take_budget(budget) {
        give_back(taken);
        counters.exhausted += 1;
        return None;
    }
    if !record::count_site(walk.signature, scratch) {
        if budget != u64::MAX {
            record::give_budget_back();
        }
        give_back(taken);
        counters.sites_full += 1;
        warn!(ctx, "the table of sites is full");
        return None;
    }
    counters.failures += 1;
    if walk.unknown != 0 {
        counters.unknown_code += 1;
    }
    let error = config!(hooks[call.hook as usize].error);
    let facts = Facts { effective_gfp, order, size, context, error, time, site: walk.signature };
    if config!(events) == ON && !record::send(call, &facts, &cache) {
        counters.lost += 1;
    }
    if config!(outcome) == ON {
        outcome::remember(&walk, context, task_flags, scratch);
    }
    debug!(ctx, "failed hook {} gfp {:x} site {:x}", call.hook, call.gfp, walk.signature);
    Some(())
}

/// What a site has had taken, and no failure came of.
#[inline(always)]
fn give_back(taken: Option<&mut SiteRecord>) {
    if config!(per_site) != 0
        && let Some(row) = taken
    {
        sites::give_back(row);
    }
}

/// Some when the context is one that is asked for: `CONTEXT_*`, or [`CONTEXT_UNKNOWN`] where nobody wants to know.
#[inline(always)]
fn match_context(ctx: &Context, scratch: &mut Scratch, counters: &mut Counters) -> Option<u32> {
    if config!(contexts) == CONTEXTS_ALL {
        return Some(CONTEXT_UNKNOWN);
    }
    let context = task::context(scratch);
    if context == CONTEXT_UNKNOWN {
        counters.unreadable += 1;
        warn!(ctx, "the preempt count can't be read");
        return None;
    }
    let context = scratch.opaque(context);
    if config!(contexts) >> (context & 31) & 1 == 0 {
        counters.bystander += 1;
        return None;
    }
    if config!(softirqs) == ON && context == CONTEXT_TASK && !task::is_in_scope() {
        return None;
    }
    Some(context)
}

/// Reads the name of a slab call's cache.
#[inline(always)]
fn read_cache(ctx: &Context, call: &Call, name: &mut [u8; CACHE_NAME_LEN], counters: &mut Counters) -> Option<()> {
    let address = kernel_memory::member::<u64>(call.subject, config!(offsets.cache_name));
    let read = address.and_then(|address| kernel_memory::string(address, name));
    if read.is_none() {
        counters.unreadable += 1;
        warn!(ctx, "the name of cache {:x} can't be read", call.subject);
    }
    read
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

/// Order and size, if the filters on them accept the call.
#[inline(always)]
fn match_size(call: &Call, counters: &mut Counters, scratch: &mut Scratch) -> Option<(u32, u64)> {
    if call.hook == hooks::SLAB {
        let Some(size) = kernel_memory::member::<u32>(call.subject, config!(offsets.cache_object_size)) else {
            counters.unreadable += 1;
            return None;
        };
        let size = u64::from(size);
        let order = scratch.opaque(decide::order_of_size(size));
        return (is_order_accepted(order) && is_size_accepted(size)).then_some((order, size));
    }
    if call.hook == hooks::VMALLOC || call.hook == hooks::PERCPU {
        let order = scratch.opaque(decide::order_of_size(call.subject));
        return (is_order_accepted(order) && is_size_accepted(call.subject)).then_some((order, call.subject));
    }
    // The screen has seen to the order.
    let size = if call.hook == hooks::PAGE { 1 << (u64::from(call.order & 31) + u64::from(PAGE_SHIFT)) } else { 0 };
    is_size_accepted(size).then_some((call.order, size))
}

#[inline(always)]
fn is_order_accepted(order: u32) -> bool {
    config!(order_on) != ON || (order >= config!(order_min) && order <= config!(order_max))
}

#[inline(always)]
fn is_size_accepted(size: u64) -> bool {
    config!(size_on) != ON || (size >= config!(size_min) && size <= config!(size_max))
}

#[inline(always)]
fn walk_stack(ctx: &Context, call: &Call, scratch: &mut Scratch, counters: &mut Counters) -> Option<Walk> {
    let walk = site::walk(ctx, call.hook, config!(hooks[call.hook as usize].id), scratch);
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
