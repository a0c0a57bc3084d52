//! What the injector needs, as a list: name, found or not, and what to do about it.
//!
//! `injector check` prints the list; the same list runs before every run, before anything is loaded.

mod container;
mod feature;
mod hook;
mod module;

use std::collections::BTreeSet;
use std::fmt;

use nix::unistd::geteuid;
use serde::Serialize;

use crate::exit::has_exit_code;
use crate::kernel::features::{Feature, NeededBy};
use crate::kernel::gfp::Source;
use crate::kernel::hooks::{FOR_OVERRIDES, FOR_TRAMPOLINES, Injectable, LIST};
use crate::kernel::{Facts, KernelError, KernelFiles, Survey};
use crate::plan::{Backend, Hook, Plan, Target};

/// Version of the JSON that [`Checklist::to_json`] writes.
pub const SCHEMA: u32 = 1;

const CAP_SYS_ADMIN: u64 = 1 << 21;
const CAP_BPF: u64 = 1 << 39;
/// Where a kernel with kprobes says which number they have among perf's kinds of events.
const KPROBE_EVENTS: &str = "sys/bus/event_source/devices/kprobe/type";
/// What to do where this kernel can't be helped.
const GUEST: &str = "or boot the guest: cargo xtask run";

/// Whether a prerequisite is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Presence {
    /// It is there.
    Found,
    /// It is not there.
    Missing,
    /// This machine does not tell. The run goes on; if the prerequisite is missing, what needs it reports an error.
    Unknown,
}

/// One prerequisite.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Its name.
    pub name: String,
    /// Its presence.
    pub state: Presence,
    /// Whether the run needs it.
    pub required: bool,
    /// What was found.
    pub detail: String,
    /// What to do if it is missing.
    pub remedy: Option<String>,
}

/// What a run needs that not every run needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needs {
    /// The hooks that it attaches to.
    pub hooks: Vec<Hook>,
    /// Hooks that are checked too, and may be missing.
    pub also: Vec<Hook>,
    /// Whether its target is a cgroup, or a command, which gets one.
    pub cgroup: bool,
    /// Whether it knows which system call a failure happens in.
    pub syscalls: bool,
    /// Whether it follows system calls or tasks.
    pub tracepoints: bool,
    /// Whether it is one of a sweep's.
    pub sweep: bool,
    /// How hooks are attached.
    pub backend: Backend,
}

/// The process that wants to inject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Effective user id.
    pub uid: u32,
    /// Effective capabilities; `None`: proc does not tell.
    pub capabilities: Option<u64>,
    /// PID namespace as proc names it; `None`: proc does not tell.
    pub pid_namespace: Option<String>,
    /// Cgroup namespace, likewise.
    pub cgroup_namespace: Option<String>,
}

/// The prerequisites of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checklist {
    /// The kernel's release.
    pub kernel: String,
    /// All prerequisites.
    pub checks: Vec<Check>,
}

/// The kernel or the machine lacks something that is needed: a line for each, with its remedy.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct MissingPrerequisites(String);

has_exit_code!(MissingPrerequisites => MISSING);

impl Needs {
    /// What a run with default options needs, and the other hooks that it could name.
    #[must_use]
    pub fn all() -> Self {
        let also = Hook::NAMED.into_iter().filter(|hook| !Hook::MEMORY.contains(hook)).collect();
        Self { hooks: Hook::MEMORY.to_vec(), also, ..Self::none() }
    }

    /// What every run needs.
    #[must_use]
    pub fn none() -> Self {
        Self {
            hooks: Vec::new(),
            also: Vec::new(),
            cgroup: false,
            syscalls: false,
            tracepoints: false,
            sweep: false,
            backend: Backend::Auto,
        }
    }

    /// What a sweep's runs need.
    #[must_use]
    pub fn of_sweep(plan: &Plan) -> Self {
        Self { tracepoints: true, sweep: true, ..Self::of(plan) }
    }

    /// What this run needs.
    #[must_use]
    pub fn of(plan: &Plan) -> Self {
        let Target { cgroups, containers, command, .. } = &plan.target;
        let cgroup = command.is_some() || !cgroups.is_empty() || !containers.is_empty();
        let hooks: BTreeSet<Hook> = plan.rules.iter().flat_map(|rule| rule.hooks.iter().copied()).collect();
        Self {
            hooks: hooks.into_iter().collect(),
            cgroup,
            syscalls: plan.outcome || plan.rules.iter().any(|rule| !rule.filter.syscalls.is_empty()),
            tracepoints: plan.outcome || plan.target.follow,
            backend: plan.backend,
            ..Self::none()
        }
    }
}

impl Caller {
    /// This process.
    #[must_use]
    pub fn this(files: &KernelFiles) -> Self {
        let status = files.read_text("proc/self/status").unwrap_or_default();
        let capabilities = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
        Self {
            uid: geteuid().as_raw(),
            capabilities: capabilities.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()),
            pid_namespace: files.link("proc/self/ns/pid"),
            cgroup_namespace: files.link("proc/self/ns/cgroup"),
        }
    }
}

impl Check {
    fn found(name: &str, detail: impl Into<String>) -> Self {
        Self { name: name.to_owned(), state: Presence::Found, required: true, detail: detail.into(), remedy: None }
    }

    fn missing(name: &str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        let (name, detail, remedy) = (name.to_owned(), detail.into(), Some(remedy.into()));
        Self { name, state: Presence::Missing, required: true, detail, remedy }
    }

    fn unknown(name: &str, detail: impl Into<String>) -> Self {
        Self { state: Presence::Unknown, ..Self::found(name, detail) }
    }

    fn required_if(self, required: bool) -> Self {
        Self { required, ..self }
    }

    fn stops(&self) -> bool {
        self.required && self.state == Presence::Missing
    }
}

/// Checks all prerequisites.
#[must_use]
pub fn run(files: &KernelFiles, survey: &Survey, caller: &Caller, needs: &Needs) -> Checklist {
    // The kernel's own error injection is needed by hooks that the module does not make.
    let by_module = |hook: &Hook| module::makes(survey, needs.backend, *hook);
    let own = !needs.hooks.iter().all(by_module);
    // Where there is a choice: what can only be attached by a kprobe is refused when that is known.
    let kprobes = match needs.backend {
        Backend::Auto => own && !survey.ways.fmod_ret,
        Backend::FmodRet | Backend::Module => false,
        Backend::Kprobe => true,
    };
    let mut checks = vec![
        root(caller),
        container::pid_namespace(caller),
        version(survey),
        lockdown(files),
        types(survey),
        symbols(survey),
        tracefs(files, survey),
        debugfs(files).required_if(own),
        error_injection(files, &survey.injectable).required_if(own),
        option(
            survey,
            "CONFIG_FUNCTION_ERROR_INJECTION",
            survey.injectable.as_ref().is_ok_and(|list| !list.is_empty()),
        )
        .required_if(own),
        option(survey, FOR_OVERRIDES, survey.features.has(Feature::Override)).required_if(kprobes),
        option(survey, "CONFIG_KPROBES", files.exists(KPROBE_EVENTS)).required_if(kprobes),
        trampolines(survey).required_if(needs.backend == Backend::FmodRet),
        module::check(files, survey, needs),
        // Without it there are no such programs.
        option(survey, "CONFIG_BPF_EVENTS", survey.features.has(Feature::KernelMemory)),
        gfp(survey),
    ];
    checks.extend(feature::checks(&survey.features, |needed_by| match needed_by {
        NeededBy::EveryRun => true,
        NeededBy::Kprobes => kprobes,
        NeededBy::Trampolines => needs.backend == Backend::FmodRet,
        NeededBy::Cgroups => needs.cgroup,
        NeededBy::SystemCalls => needs.syscalls,
        NeededBy::Tracepoints => needs.tracepoints,
        NeededBy::Sweeps => needs.sweep,
        NeededBy::Nothing => false,
    }));
    let required = needs.hooks.iter().map(|hook| (hook, true));
    for (hook, required) in required.chain(needs.also.iter().map(|hook| (hook, false))) {
        if by_module(hook) {
            checks.push(module::hook(survey, *hook).required_if(required));
        } else {
            checks.extend(hook::checks(survey, *hook).map(|check| check.required_if(required)));
        }
    }
    checks.push(container::cgroup(files).required_if(needs.cgroup));
    checks.push(container::cgroup_namespace(caller).required_if(needs.cgroup));
    let kernel = survey.release.as_ref().map_or_else(|_| "unknown".to_owned(), ToString::to_string);
    Checklist { kernel, checks }
}

/// Reads the kernel's facts. Every run starts with this.
///
/// # Errors
/// Something that the run needs is missing.
pub fn prerequisites(files: &KernelFiles, needs: &Needs) -> Result<Facts, MissingPrerequisites> {
    let mut survey = Survey::quick(files);
    if module::load(files, &survey, needs).map_err(|error| MissingPrerequisites(error.to_string()))? {
        survey = Survey::quick(files);
    }
    let report = run(files, &survey, &Caller::this(files), needs);
    if !report.is_ok() {
        return Err(MissingPrerequisites(report.complaint()));
    }
    survey.into_facts().map_err(|error| MissingPrerequisites(error.to_string()))
}

/// The functions that can be made to fail here, for those who only want to see them.
///
/// # Errors
/// The list is not there or can't be read.
pub fn injectable(files: &KernelFiles, caller: &Caller) -> Result<Injectable, MissingPrerequisites> {
    let injectable = Injectable::read(files);
    let mut checks = vec![root(caller), debugfs(files), error_injection(files, &injectable)];
    match injectable {
        Ok(list) if !list.is_empty() => Ok(list),
        _ => {
            // Other users don't see whether it is there.
            if checks[0].stops() {
                checks.truncate(1);
            }
            Err(MissingPrerequisites(Checklist { kernel: String::new(), checks }.complaint()))
        }
    }
}

fn root(caller: &Caller) -> Check {
    let name = "root";
    if caller.uid != 0 {
        return Check::missing(name, format!("user id {}", caller.uid), "run it as root: sudo injector …");
    }
    let lacks = |capability| caller.capabilities.is_some_and(|all| all & capability == 0);
    if lacks(CAP_SYS_ADMIN) || lacks(CAP_BPF) {
        let remedy = "run it outside of the container, or give the container CAP_SYS_ADMIN and CAP_BPF";
        return Check::missing(name, "root without CAP_SYS_ADMIN or CAP_BPF", remedy);
    }
    Check::found(name, "user id 0")
}

/// For whoever reads the list: what a kernel can do is asked, its version says little.
fn version(survey: &Survey) -> Check {
    let name = "kernel version";
    match &survey.release {
        Ok(release) => Check::found(name, release.as_str()),
        Err(error) => Check::unknown(name, error.to_string()),
    }
}

fn lockdown(files: &KernelFiles) -> Check {
    let name = "lockdown";
    let Ok(text) = files.read_text("sys/kernel/security/lockdown") else {
        return Check::found(name, "off (the kernel does not have it, or does not show it)");
    };
    // The mode in brackets is the current one. `integrity` forbids nothing that the injector does.
    let mode = text.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map_or("unknown", |(mode, _)| mode);
    if mode == "confidentiality" {
        let remedy = format!("boot without lockdown=confidentiality, {GUEST}");
        return Check::missing(name, "confidentiality: kprobes and reading kernel memory are forbidden", remedy);
    }
    Check::found(name, mode)
}

fn types(survey: &Survey) -> Check {
    let name = "BTF";
    let types = match &survey.types {
        Ok(types) => types,
        Err(error) => {
            return Check::missing(
                name,
                error.to_string(),
                format!("use a kernel with CONFIG_DEBUG_INFO_BTF=y, {GUEST}"),
            );
        }
    };
    let needed = [
        ("task_struct.flags", types.offsets.task_flags),
        ("kmem_cache.object_size", types.offsets.cache_object_size),
        ("kmem_cache.name", types.offsets.cache_name),
    ];
    let absent: Vec<&str> = needed.iter().filter(|(_, offset)| offset.is_none()).map(|(member, _)| *member).collect();
    if absent.is_empty() {
        return Check::found(name, "/sys/kernel/btf/vmlinux");
    }
    Check::missing(name, format!("no {}", absent.join(", ")), format!("use a kernel that the injector knows, {GUEST}"))
}

fn symbols(survey: &Survey) -> Check {
    let name = "kallsyms";
    let addresses = match &survey.addresses {
        Ok(addresses) => addresses,
        Err(error) => {
            return Check::missing(name, error.to_string(), format!("use a kernel with CONFIG_KALLSYMS=y, {GUEST}"));
        }
    };
    if addresses.are_hidden() {
        let remedy = "run it as root; if you do: sysctl kernel.kptr_restrict=1";
        return Check::missing(name, KernelError::HiddenAddresses.to_string(), remedy);
    }
    let text = ["_stext", "_etext", "__irqentry_text_start", "__softirqentry_text_start"];
    match text.into_iter().find(|symbol| addresses.get(symbol).is_none()) {
        Some(symbol) => {
            let remedy = format!("use a kernel with CONFIG_KALLSYMS_ALL=y, {GUEST}");
            Check::missing(name, format!("this kernel has no symbol {symbol}"), remedy)
        }
        None => Check::found(name, "/proc/kallsyms"),
    }
}

fn tracefs(files: &KernelFiles, survey: &Survey) -> Check {
    let name = "tracefs";
    let at =
        ["sys/kernel/tracing", "sys/kernel/debug/tracing"].into_iter().find(|at| files.exists(format!("{at}/events")));
    let check = match at {
        Some(at) => Check::found(name, format!("/{at}")),
        None => Check::missing(name, "not mounted", "mount -t tracefs tracefs /sys/kernel/tracing"),
    };
    // Kernels since 6.9 have in BTF what is read here.
    let elsewhere = survey.gfp.as_ref().is_ok_and(|gfp| gfp.source() == Source::Btf);
    check.required_if(!elsewhere)
}

fn debugfs(files: &KernelFiles) -> Check {
    let name = "debugfs";
    if files.exists(LIST) {
        return Check::found(name, "/sys/kernel/debug");
    }
    match files.mounts().into_iter().find(|mount| mount.fs == "debugfs") {
        Some(mount) if mount.at.ends_with("sys/kernel/debug") => Check::found(name, "/sys/kernel/debug"),
        Some(mount) => Check::missing(
            name,
            format!("mounted on {}, not on /sys/kernel/debug", mount.at.display()),
            "mount -t debugfs debugfs /sys/kernel/debug",
        ),
        None => Check::missing(name, "not mounted", "mount -t debugfs debugfs /sys/kernel/debug"),
    }
}

fn error_injection(files: &KernelFiles, injectable: &Result<Injectable, KernelError>) -> Check {
    let name = "error injection list";
    if debugfs(files).stops() {
        return Check::unknown(name, "can't tell without debugfs");
    }
    let remedy = format!("use a kernel with CONFIG_FUNCTION_ERROR_INJECTION=y, {GUEST}");
    match injectable {
        Ok(list) if list.is_empty() => Check::missing(name, format!("/{LIST} is empty"), remedy),
        Ok(list) => Check::found(name, format!("{} functions", list.len())),
        Err(error) => Check::missing(name, error.to_string(), remedy),
    }
}

/// Whether calls can be replaced by fmod_ret: half of a kprobe's cost.
fn trampolines(survey: &Survey) -> Check {
    let name = "fmod_ret";
    let all = FOR_TRAMPOLINES.join(", ");
    match &survey.options {
        // What it needs of eBPF is a check of its own.
        Ok(options) if FOR_TRAMPOLINES.iter().all(|option| options.is_on(option)) => Check::found(name, all),
        Ok(options) => {
            let remedy = format!("use --backend kprobe, or a kernel with {all}, {GUEST}");
            Check::missing(name, format!("{all} are not all on in {}", options.source()), remedy)
        }
        Err(error) => Check::unknown(name, error.to_string()),
    }
}

/// `evident`: something else already shows that it is on.
fn option(survey: &Survey, option: &str, evident: bool) -> Check {
    match &survey.options {
        Ok(options) if options.is_on(option) => Check::found(option, options.source()),
        _ if evident => Check::found(option, "the kernel behaves so"),
        Ok(options) => {
            let detail = format!("off in {}", options.source());
            Check::missing(option, detail, format!("use a kernel with {option}=y, {GUEST}"))
        }
        Err(error) => Check::unknown(option, error.to_string()),
    }
}

fn gfp(survey: &Survey) -> Check {
    let name = "GFP bits";
    match &survey.gfp {
        Ok(bits) => {
            let nofail = bits.bit("NOFAIL").unwrap_or_default();
            Check::found(
                name,
                format!("{} flags from {}, NOFAIL = {nofail:#x}", bits.flags().count(), bits.source().name()),
            )
        }
        Err(error) => Check::missing(
            name,
            error.to_string(),
            format!("mount -t tracefs tracefs /sys/kernel/tracing (CONFIG_FTRACE, CONFIG_EVENT_TRACING), {GUEST}"),
        ),
    }
}

impl Checklist {
    /// Whether everything that the run needs is there.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        !self.checks.iter().any(Check::stops)
    }

    /// What the run needs and is missing.
    pub fn missing(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(|check| check.stops())
    }

    /// One line for each prerequisite that is missing, with its remedy; for the error of a run.
    #[must_use]
    pub fn complaint(&self) -> String {
        let line = |check: &Check| {
            let remedy = check.remedy.as_deref().unwrap_or_default();
            format!("  {}: {}; {remedy}", check.name, check.detail)
        };
        let lines: Vec<String> = self.missing().map(line).collect();
        format!("this kernel can't be injected into, or not from here:\n{}", lines.join("\n"))
    }

    /// The list as one line of JSON.
    ///
    /// # Errors
    /// None in practice: all keys are texts.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        #[derive(Serialize)]
        struct Json<'a> {
            schema: u32,
            r#type: &'static str,
            kernel: &'a str,
            ok: bool,
            checks: &'a [Check],
        }
        let Self { kernel, checks } = self;
        serde_json::to_string(&Json { schema: SCHEMA, r#type: "check", kernel, ok: self.is_ok(), checks })
    }
}

impl fmt::Display for Checklist {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.checks.iter().map(|check| check.name.chars().count()).max().unwrap_or(0);
        for check in &self.checks {
            let word = match (check.state, check.required) {
                (Presence::Found, _) => "ok",
                (Presence::Missing, true) => "missing",
                (Presence::Missing, false) => "absent",
                (Presence::Unknown, _) => "unknown",
            };
            writeln!(f, "{word:<7}  {:<width$}  {}", check.name, check.detail)?;
            if let Some(remedy) = &check.remedy {
                writeln!(f, "{:<7}  {:<width$}  -> {remedy}", "", "")?;
            }
        }
        match self.missing().count() {
            0 => writeln!(f, "\nEverything is there: kernel {} can be injected into.", self.kernel),
            n => writeln!(f, "\n{n} missing: kernel {} can't be injected into as it is.", self.kernel),
        }
    }
}
