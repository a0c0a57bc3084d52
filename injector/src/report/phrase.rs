//! Words and numbers that several forms share.

use std::{borrow::Cow, collections::BTreeSet};

use nix::errno::Errno;

use super::{
    known::{AT, Chain, NotFound},
    model::{Config, OddFailure, Report, SiteRow, Times},
};
use crate::foreign::{masked, steers};
use crate::journal::{
    Counts, FindingFailure, Signature,
    record::{Call, Kernel, Level, Syscall},
};
use crate::symbols::{Line, Lines};

/// `1,321`.
pub(super) fn number(number: impl TryInto<u64>) -> String {
    let digits = number.try_into().unwrap_or(u64::MAX).to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 finding`, `2 findings`.
pub(super) fn plural(count: usize, word: &str) -> String {
    format!("{} {word}{}", number(count as u64), if count == 1 { "" } else { "s" })
}

/// Text from the kernel or from tasks, without what a terminal would obey.
pub(super) fn printable(text: &str) -> Cow<'_, str> {
    let bad = |c: char| steers(c) && c != '\t' && c != '\n';
    if text.contains(bad) { Cow::Owned(text.replace(bad, "?")) } else { Cow::Borrowed(text) }
}

/// The same where a newline would end what is said.
pub(super) fn one_line(text: &str) -> Cow<'_, str> {
    masked(text)
}

/// `1,321 sites seen, 1,204 failed, 97 masked, 20 unreached`.
pub(super) fn counts(counts: &Counts) -> String {
    let Counts { seen, failed, masked, unreached, left, elsewhere } = *counts;
    let mut text = format!("{} seen, {} failed", plural(seen, "site"), number(failed as u64));
    for (count, word) in [(masked, "masked"), (unreached, "unreached")] {
        text += &format!(", {} {word}", number(count as u64));
    }
    for (count, word) in [(left, "not failed yet"), (elsewhere, "of other shards")] {
        if count > 0 {
            text += &format!(", {} {word}", number(count as u64));
        }
    }
    text
}

/// `the kernel's own fault injection failed 3 allocations during the sweep`, and what that means; none if it failed none.
pub(super) fn kernel_injected(report: &Report) -> Option<String> {
    (report.kernel_injected > 0).then(|| {
        let allocations = plural(usize::try_from(report.kernel_injected).unwrap_or(usize::MAX), "allocation");
        format!(
            "the kernel's own fault injection failed {allocations} during the sweep; findings may come from that: switch it off"
        )
    })
}

/// `no findings`, `3 findings`, `3 findings, 2 of them known`.
pub(super) fn findings(report: &Report) -> String {
    let known = report.findings.iter().filter(|found| found.known.is_some()).count();
    match report.findings.len() {
        0 => "no findings".to_owned(),
        1 if known == 1 => "1 finding, known".to_owned(),
        all if all == known => format!("{}, all known", plural(all, "finding")),
        all if known > 0 => format!("{}, {} of them known", plural(all, "finding"), number(known as u64)),
        all => plural(all, "finding"),
    }
}

/// `WARNING in f @ g: not found, though 2 sites were failed there (fixed?)`
pub(super) fn not_found(gone: &NotFound) -> String {
    let NotFound { known, sites_failed } = gone;
    let at = at(&known.chains);
    let line = known.line.map(|line| format!(":{line}")).unwrap_or_default();
    let why = match sites_failed {
        None => "not found (fixed?)".to_owned(),
        Some(0) => "not found, but no site of it was failed".to_owned(),
        Some(sites) => format!("not found, though {} failed there (fixed?)", were(*sites, "site")),
    };
    one_line(&format!("{}{at}: {why} [{}{line}]", known.title, known.file)).into_owned()
}

/// ` @ __proc_create < jbd2_journal_init_inode, …`; nothing where nobody knows.
pub(super) fn at(chains: &BTreeSet<Chain>) -> String {
    let chains: Vec<String> = chains.iter().map(ToString::to_string).collect();
    if chains.is_empty() { String::new() } else { AT.to_owned() + &chains.join(", ") }
}

/// `masked`, or `masked in 2 of 3 failures`.
pub(super) fn verdict(site: &SiteRow) -> Cow<'static, str> {
    let name = site.verdict.name();
    match site.agreeing {
        Some((agreeing, failures)) => Cow::Owned(format!("{name} in {agreeing} of {failures} failures")),
        None => Cow::Borrowed(name),
    }
}

/// `1 site was`, `2 sites were`.
fn were(count: usize, word: &str) -> String {
    format!("{} {}", plural(count, word), if count == 1 { "was" } else { "were" })
}

/// `588 of them without any failure: 573 failed or masked (97.4 %); the others came up only after failures`. None where there
/// is nothing to tell apart.
pub(super) fn inventory(all: &Counts, inventory: &Counts) -> Option<String> {
    if inventory.seen == 0 || inventory.seen == all.seen {
        return None;
    }
    let tested = inventory.failed + inventory.masked;
    let percent = tested as f64 / inventory.seen as f64 * 100.0;
    Some(format!(
        "{} of them without any failure: {} failed or masked ({percent:.1} %); the others came up only after failures",
        number(inventory.seen as u64),
        number(tested as u64)
    ))
}

/// `plain run 0.61 s (median of 3), sweep 18.4 s: 30 x plain, 14 ms a site`.
pub(super) fn times(times: &Times) -> String {
    let Times { plain, plain_runs, sweep, factor, ms_per_site } = *times;
    let mut text = match plain {
        Some(plain) if plain_runs > 1 => format!("plain run {plain:.2} s (median of {plain_runs}), "),
        Some(plain) => format!("plain run {plain:.2} s, "),
        None => String::new(),
    };
    text += &format!("sweep {}", duration(sweep));
    let factor = factor.map(|factor| format!("{factor:.1} x plain"));
    let each = ms_per_site.map(|ms| format!("{ms:.1} ms a site"));
    let both: Vec<String> = [factor, each].into_iter().flatten().collect();
    if !both.is_empty() {
        text += &format!(" ({})", both.join(", "));
    }
    text
}

fn duration(seconds: f64) -> String {
    if seconds < 120.0 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round() as u64;
    match (whole / 3600, whole / 60 % 60, whole % 60) {
        (0, minutes, seconds) => format!("{minutes} min {seconds:02} s"),
        (hours, minutes, _) => format!("{hours} h {minutes:02} min"),
    }
}

/// `Linux 6.12.117 #1 SMP`.
pub(super) fn kernel(kernel: &Kernel) -> String {
    format!("Linux {} {}", one_line(&kernel.release), one_line(&kernel.version))
}

/// `build id …, config …`, in full.
pub(super) fn kernel_hashes(kernel: &Kernel) -> String {
    let known = [("build id", &kernel.build_id), ("config", &kernel.config)];
    let known =
        known.into_iter().filter_map(|(name, hash)| hash.as_ref().map(|hash| format!("{name} {}", one_line(hash))));
    known.collect::<Vec<_>>().join(", ")
}

/// `sh ext4.sh run`.
pub(super) fn workload(config: &Config) -> String {
    let words = config.workload.command.iter().map(|word| shlex::try_quote(word).unwrap_or(Cow::Borrowed(word)));
    one_line(&words.collect::<Vec<_>>().join(" ")).into_owned()
}

/// `slab GFP_KERNEL order=0 size=96 cache=kmalloc-96 by mkdir`.
pub(super) fn allocation(site: Option<&SiteRow>, call: Option<&Call>) -> String {
    let mut text = site.map_or("?", SiteRow::hook).to_owned();
    if let Some(Call { gfp, order, size, cache, comm }) = call {
        text += &format!(" {gfp} order={order} size={size}");
        if let Some(cache) = cache {
            text += &format!(" cache={cache}");
        }
        text += &format!(" by {comm}");
    }
    one_line(&text).into_owned()
}

/// `ENOMEM`, `3`.
pub(super) fn result(result: i64) -> String {
    let errno = i32::try_from(-result).ok().filter(|errno| (1..4096).contains(errno)).map(Errno::from_raw);
    match errno {
        Some(errno) if errno != Errno::UnknownErrno => format!("{errno:?}"),
        _ => result.to_string(),
    }
}

/// `openat() = ENOMEM`.
pub(super) fn syscall(call: &Syscall) -> String {
    let name = one_line(&call.name);
    match call.result {
        Some(value) => format!("{name}() = {}", result(value)),
        None => format!("{name}()"),
    }
}

/// A frame with its place in the sources, if that is known, and before it what was inlined there.
pub(super) fn frame<'a>(lines: &Lines, frame: &'a str) -> (Vec<String>, Cow<'a, str>) {
    let Some((own, inlined)) = lines.get(frame).and_then(|lines| lines.split_last()) else {
        return (Vec::new(), one_line(frame));
    };
    let place = |Line { file, line, .. }: &Line| one_line(&format!("{file}:{line}")).into_owned();
    let inlined = inlined.iter().map(|line| format!("{} {} (inlined)", one_line(&line.function), place(line)));
    (inlined.collect(), Cow::Owned(format!("{} {}", one_line(frame), place(own))))
}

/// A line of a splat that tells people nothing that they look for first: registers, code bytes, what machine it is.
fn is_detail(line: &str) -> bool {
    const PREFIXES: [&str; 10] = [
        "Code: ",
        "Hardware name: ",
        "Modules linked in: ",
        "PGD ",
        "FS: ",
        "CS: ",
        "CR2: ",
        "DR0: ",
        "Tainted: ",
        " ? ",
    ];
    let register = line.as_bytes().first() == Some(&b'R')
        && line.split_once(": ").is_some_and(|(name, value)| {
            matches!(name.len(), 2 | 3) && name != "RIP" && value.split(' ').next().is_some_and(is_hexadecimal)
        });
    register
        || line.starts_with("RSP: ")
        || PREFIXES.iter().any(|prefix| line.starts_with(prefix))
        || line.starts_with("RIP: 0033:")
}

fn is_hexadecimal(text: &str) -> bool {
    text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The telling lines of a splat, at most `lines`, and how many were left out.
pub(super) fn excerpt(splat: &str, lines: usize) -> (Vec<&str>, usize) {
    let all: Vec<&str> = splat.trim_end().lines().collect();
    let telling: Vec<&str> = all.iter().copied().filter(|line| !is_detail(line)).take(lines).collect();
    let left_out = all.len() - telling.len();
    (telling, left_out)
}

/// How a finding's failure was made: `at hit 2, in write() = ENOMEM, at the retry level`.
pub(super) fn manner(failure: &FindingFailure) -> String {
    let mut all = Vec::new();
    if failure.hit > 1 {
        all.push(format!("at hit {}", failure.hit));
    }
    if let Some(call) = &failure.syscall {
        all.push(format!("in {}", syscall(call)));
    }
    match &failure.level {
        Some(level) if *level != Level::RECORD => all.push(format!("at the {} level", one_line(&level.to_string()))),
        _ => {}
    }
    all.join(", ")
}

/// `22 of 24 tries`.
pub(super) fn tries(reproduced: u32, tries: u32) -> String {
    if tries == 0 {
        return "not tried alone yet".to_owned();
    }
    format!("{reproduced} of {tries} {}", if tries == 1 { "try" } else { "tries" })
}

/// `EIO from openat()`, and what came when the call was repeated.
pub(super) fn odd(odd: &OddFailure) -> String {
    let mut text = odd.error.clone();
    if let Some(call) = &odd.syscall {
        text += &format!(" from {}()", call.name);
    }
    if let Some(then) = &odd.then {
        text += &format!(", {then} when retried");
    }
    one_line(&text).into_owned()
}

/// `, shards 0/2 1/2`; nothing where there are none.
pub(super) fn shards(report: &Report) -> String {
    let shards = report.sweeps.iter().filter_map(|sweep| sweep.shard);
    let shards: BTreeSet<String> = shards.map(|shard| format!(" {}/{}", shard.index, shard.count)).collect();
    if shards.is_empty() { String::new() } else { format!(", shards{}", shards.into_iter().collect::<String>()) }
}

/// Why a site was not tested, if it was not.
pub(super) fn skipped<'a>(report: &'a Report, signature: Signature, site: &'a SiteRow) -> Option<Cow<'a, str>> {
    use super::model::CoverageClass;
    match site.kept {
        CoverageClass::Unreached => Some(one_line(site.unreached.as_deref().unwrap_or("unreached"))),
        CoverageClass::Left if is_elsewhere(report, signature) => Some(Cow::Borrowed("of another shard")),
        CoverageClass::Left => Some(Cow::Borrowed("not failed yet")),
        CoverageClass::Finding | CoverageClass::Error | CoverageClass::Clean | CoverageClass::Masked => None,
    }
}

fn is_elsewhere(report: &Report, signature: Signature) -> bool {
    !report.sweeps.iter().any(|sweep| sweep.shard.is_none_or(|shard| shard.has(signature)))
}
