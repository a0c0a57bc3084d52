//! Which report a line begins, and its title.

use std::sync::LazyLock;

use regex::{Captures, Match, Regex, RegexSet};

use super::{
    frame::pattern,
    head::Head,
    heads::{HEADS, MESSAGES},
};

/// Lines in the report of a fault that say better what it was. With KASAN, an access to NULL faults at its shadow's address.
static DETAILS: &[(&str, &str)] = &[
    (r"^KASAN: (?:probably |maybe )?([a-z-]+) in range", "KASAN: $1"), /* mm/kasan/report.c kasan_non_canonical_hook */
];

/// What a failed allocation legally leads to. These lines, and the stacks and tables behind them, are no complaints; they end
/// an open report.
static NOISE: &[(&str, &str)] = &[
    (r"page allocation (?:failure|stalls)", "mm/page_alloc.c warn_alloc, with a call trace and Mem-Info"),
    (r"vmalloc error: size |vmalloc_node_range for size ", "mm/vmalloc.c, through warn_alloc"),
    (r"^SLUB: Unable to allocate memory on ", "mm/slub.c slab_out_of_memory"),
    (r"^FAULT_INJECTION: ", "lib/fault-inject.c fail_dump, with a call trace at verbose 2"),
    (r"^Huh VM_FAULT_OOM leaked out to the #PF handler", "mm/oom_kill.c pagefault_out_of_memory"),
    (r" invoked oom-killer: |^oom-kill:|^oom_reaper: |^Out of memory|Memory cgroup out of memory", "mm/oom_kill.c"),
    (
        r"^XFS \([^)]*\): Internal error xfs_trans_cancel ",
        "fs/xfs/xfs_trans.c: a transaction that had begun is given up",
    ),
    (r"^BUG: MAX_\w+ too low!", "kernel/locking/lockdep.c: lockdep's own tables are full"),
    (r"possible memory deadlock size ", "fs/xfs/xfs_message.c, fs/xfs/kmem.c: XFS tries again"),
    (r": \d+ callbacks suppressed", "lib/ratelimit.c"),
    (r"\bBUG: memory leak$", "what scripts put before the text of /sys/kernel/debug/kmemleak"),
];

/// The reasons of a panic that only end what another report began.
static CONSEQUENCES: &str = r"^kernel panic: (?:Fatal exception|panic_on_warn|.*: panic_on_warn|scheduling while atomic|kernel stack overflow|kasan\.fault|hung_task|softlockup|RCU Stall|Hard LOCKUP|Oopsed too often|Attempted to kill|Aiee, killing)";

/// A line that is the first of a report.
#[derive(Debug)]
pub(crate) struct Found {
    pub head: &'static Head,
    /// Without the function.
    pub title: String,
    /// The function that the line names.
    pub function: Option<String>,
}

struct Table {
    heads: &'static [Head],
    set: RegexSet,
    each: Vec<Regex>,
}

impl Table {
    fn new(heads: &'static [Head]) -> Self {
        let each: Vec<Regex> = heads.iter().map(|head| pattern(head.line)).collect();
        Self { heads, set: set(heads.iter().map(|head| head.line)), each }
    }

    fn find(&self, line: &str) -> Option<Found> {
        let index = self.set.matches(line).iter().next()?;
        let (head, captures) = (&self.heads[index], self.each[index].captures(line)?);
        let title = title(head.title, &captures);
        let function = captures.name("f").or(captures.name("g")).map(|function| function.as_str().to_owned());
        Some(Found { head, title, function })
    }
}

fn set<'a>(patterns: impl Iterator<Item = &'a str>) -> RegexSet {
    RegexSet::new(patterns).expect("patterns of the oracle")
}

static HEADS_TABLE: LazyLock<Table> = LazyLock::new(|| Table::new(HEADS));
static MESSAGES_TABLE: LazyLock<Table> = LazyLock::new(|| Table::new(MESSAGES));
static DETAILS_TABLE: LazyLock<Vec<(Regex, &str)>> =
    LazyLock::new(|| DETAILS.iter().map(|(line, title)| (pattern(line), *title)).collect());
static NOISE_SET: LazyLock<RegexSet> = LazyLock::new(|| set(NOISE.iter().map(|(line, _)| *line)));
static CONSEQUENCE: LazyLock<Regex> = LazyLock::new(|| pattern(CONSEQUENCES));

/// The report that a line is the first of.
pub(crate) fn find(line: &str) -> Option<Found> {
    HEADS_TABLE.find(line)
}

/// What a WARN() says.
pub(crate) fn message(line: &str) -> Option<Found> {
    MESSAGES_TABLE.find(line)
}

/// A better title for the fault in whose report the line stands.
pub(crate) fn detail(line: &str) -> Option<String> {
    DETAILS_TABLE.iter().find_map(|(pattern, title)| Some(self::title(title, &pattern.captures(line)?)))
}

/// Fills in `$n` (a name) as it is, and `$1` and `$2` (free text) without what varies.
fn title(template: &str, captures: &Captures) -> String {
    let group = |group: Option<Match<'_>>| group.map_or("", |text| text.as_str()).to_owned();
    let mut title = template.replace("$n", &group(captures.name("n")));
    for (sign, index) in [("$1", 1), ("$2", 2)] {
        if title.contains(sign) {
            title = title.replace(sign, &stable(&group(captures.get(index))));
        }
    }
    title
}

/// Whether a line is what a failed allocation legally leads to.
pub(crate) fn is_noise(line: &str) -> bool {
    NOISE_SET.is_match(line)
}

/// Whether a panic of that title only ends what another report began.
pub(crate) fn is_consequence(title: &str) -> bool {
    CONSEQUENCE.is_match(title)
}

/// Longest title before the function, in characters.
const LONGEST: usize = 120;

static VARYING: LazyLock<[(Regex, &'static str); 5]> = LazyLock::new(|| {
    [
        // comm/pid, comm[pid], comm:pid
        (pattern(r"[^\s/\[:]+(?:/\d+(?:/0x[0-9a-f]+|/\d+)*|\[\d+\]|:\d+)"), "TASK"),
        (pattern(r"0x[0-9a-fA-F]+|\b[0-9a-f]{8,}\b"), "ADDRESS"),
        (pattern(r"[+-]?\d+(?:\.\d+)?"), "N"),
        (pattern(r"\s+"), " "),
        (pattern(r"[\s.,:;!]+$"), ""),
    ]
});

/// A text without what varies: tasks, addresses, numbers.
fn stable(text: &str) -> String {
    let mut text: String = text.chars().filter(|c| !c.is_control()).collect();
    for (pattern, instead) in VARYING.iter() {
        text = pattern.replace_all(&text, *instead).into_owned();
    }
    if let Some((end, _)) = text.char_indices().nth(LONGEST) {
        text.truncate(end);
    }
    text
}
