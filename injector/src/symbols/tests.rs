//! With files that the C compiler makes here, and with the project's own kernels where they were built.

use std::{fs, process::Command};

use super::*;
use crate::plan::SourceLine;

/// A stand-in for a kernel: `start_kernel` says where the sources are, as in the real one.
const MAIN: &str = r#"
extern void sink(int);
void other(int);
static inline __attribute__((always_inline)) void inner(int x)
{
	sink(x + 1); /* inner */
}
static inline __attribute__((always_inline)) void outer(int x)
{
	inner(x * 3); /* outer */
}
__attribute__((noipa)) static void unlike(int x)
{
	sink(x); /* unlike of main */
}
__attribute__((noipa)) void single(int x)
{
	outer(x * 5); /* single */
	__asm__ volatile("");
}
void start_kernel(void)
{
	single(1);
	unlike(2);
	other(3);
	for (;;)
		;
}
"#;

const OTHER: &str = r#"
extern void sink(int);
__attribute__((noipa)) static void unlike(int x)
{
	__asm__ volatile("nop; nop; nop; nop; nop; nop; nop; nop; nop");
	sink(x); /* unlike of other */
}
void other(int x)
{
	unlike(x + 7);
	__asm__ volatile("");
}
__attribute__((noipa)) void sink(int x)
{
	__asm__ volatile("" ::"r"(x));
}
"#;

/// As of a module: functions in two sections, both of which start at 0.
const MODULE: &str = r#"
extern void sink(int);
__attribute__((noipa)) void module_work(int x)
{
	sink(x + 1); /* work */
	__asm__ volatile("");
}
__attribute__((noipa, section(".init.text"))) void module_start(int x)
{
	__asm__ volatile("nop");
	sink(x + 2); /* start */
	__asm__ volatile("");
}
"#;

struct Tree {
    directory: tempfile::TempDir,
}

impl Tree {
    fn new() -> Self {
        let tree = Self { directory: tempfile::tempdir().unwrap() };
        for (name, text) in [("init/main.c", MAIN), ("kernel/other.c", OTHER), ("module/work.c", MODULE)] {
            let path = tree.path(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        tree.compile(
            &["-nostdlib", "-static", "-no-pie", "-Wl,-e,start_kernel,--build-id=sha1"],
            "vmlinux",
            &["init/main.c", "kernel/other.c"],
        );
        tree.compile(&["-c"], "work.ko", &["module/work.c"]);
        tree
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn compile(&self, options: &[&str], output: &str, sources: &[&str]) {
        let mut cc = Command::new("cc");
        cc.current_dir(self.directory.path());
        cc.args(["-g", "-O2", "-ffreestanding", "-fno-pie", "-fno-optimize-sibling-calls", "-fno-ipa-icf"]);
        let status = cc.args(options).args(["-o", output]).args(sources).status().unwrap();
        assert!(status.success(), "{cc:?}");
    }

    fn build_id(&self) -> String {
        let file = File::open(&self.path("vmlinux")).unwrap();
        Image::parse(&file).unwrap().build_id().unwrap()
    }

    fn search(&self) -> LineSources {
        LineSources {
            vmlinux: Some(self.path("vmlinux")),
            files: KernelFiles::new(self.path("nowhere")),
            ..LineSources::default()
        }
    }

    /// Frames at every call in a function, of each function of that name.
    fn frames(&self, file: &str, function: &str, suffix: &str) -> Vec<String> {
        let file = File::open(&self.path(file)).unwrap();
        let image = Image::parse(&file).unwrap();
        let functions = image.functions(&BTreeSet::from([function])).remove(function).unwrap();
        let offsets = functions.iter().flat_map(|one| {
            let length = one.range.end - one.range.start;
            let after_call = |offset: u64| image.is_after_call(one, one.range.start + offset).unwrap_or(false);
            (1..=length).filter(move |offset| after_call(*offset) && !after_call(offset + 1))
        });
        offsets.map(|offset| format!("{function}+{offset:#x}{suffix}")).collect()
    }

    fn lines(&self, frames: &[String], search: &LineSources) -> Result<Lines, LinesError> {
        let frames = frames.iter().map(String::as_str).collect();
        lines(&frames, Kernel { release: "6.12", build_id: Some(&self.build_id()) }, search)
    }
}

/// What it says of one frame, and where the source has the comments.
fn said(lines: &[Line]) -> Vec<String> {
    lines
        .iter()
        .map(|line| {
            let mark = if line.inlined { " (inlined)" } else { "" };
            format!("{} {}:{}{mark}", line.function, line.file, line.line)
        })
        .collect()
}

fn number(source: &str, comment: &str) -> usize {
    source.lines().position(|line| line.contains(&format!("/* {comment} */"))).unwrap() + 1
}

#[test]
fn inlined_functions_come_first() {
    let tree = Tree::new();
    let frames = tree.frames("vmlinux", "single", "");
    assert_eq!(frames.len(), 1, "{frames:?}");
    let lines = tree.lines(&frames, &tree.search()).unwrap();
    let line = |comment| number(MAIN, comment);
    assert_eq!(
        said(&lines[&frames[0]]),
        [
            format!("inner init/main.c:{} (inlined)", line("inner")),
            format!("outer init/main.c:{} (inlined)", line("outer")),
            format!("single init/main.c:{}", line("single")),
        ]
    );
}

#[test]
fn functions_of_the_same_name_are_told_apart_by_their_calls_or_not_at_all() {
    let tree = Tree::new();
    let frames = tree.frames("vmlinux", "unlike", "");
    assert_eq!(frames.len(), 2, "{frames:?}");
    let lines = tree.lines(&frames, &tree.search()).unwrap();
    let found: BTreeSet<String> = frames.iter().flat_map(|frame| said(&lines[frame])).collect();
    let main = format!("unlike init/main.c:{}", number(MAIN, "unlike of main"));
    let other = format!("unlike kernel/other.c:{}", number(OTHER, "unlike of other"));
    assert_eq!(found, BTreeSet::from([main, other]));

    // No call is there in either of them; it is not known where this is.
    let neither = ["unlike+0x1".to_owned()];
    assert!(tree.lines(&neither, &tree.search()).unwrap().is_empty());
}

#[test]
fn of_two_functions_with_a_call_at_the_same_place_nothing_is_said() {
    let tree = Tree::new();
    fs::write(tree.path("kernel/other.c"), OTHER.replace("nop; nop; nop; nop; nop; nop; nop; nop; nop", "")).unwrap();
    let options = ["-nostdlib", "-static", "-no-pie", "-Wl,-e,start_kernel,--build-id=sha1"];
    tree.compile(&options, "vmlinux", &["init/main.c", "kernel/other.c"]);
    let frames = tree.frames("vmlinux", "unlike", "");
    assert_eq!(frames.iter().collect::<BTreeSet<_>>().len(), 1, "{frames:?}");
    assert!(tree.lines(&frames, &tree.search()).unwrap().is_empty());
}

#[test]
fn what_is_no_place_in_a_function_is_left_out() {
    let tree = Tree::new();
    let frames =
        ["single+0x4000", "single+0x0", "no_such_function+0x4", "0xffffffff81000000", "single+0x4 [sunrpc]", ""];
    let frames = frames.map(str::to_owned);
    assert_eq!(tree.lines(&frames, &tree.search()).unwrap(), Lines::new());
}

#[test]
fn sections_of_a_module_lie_apart() {
    let tree = Tree::new();
    let mut frames = tree.frames("work.ko", "module_work", " [work]");
    frames.extend(tree.frames("work.ko", "module_start", " [work]"));
    assert_eq!(frames.len(), 2, "{frames:?}");
    let lines = tree.lines(&frames, &tree.search()).unwrap();
    let expected = [("module_work", "work"), ("module_start", "start")];
    for (frame, (function, comment)) in frames.iter().zip(expected) {
        assert_eq!(said(&lines[frame]), [format!("{function} module/work.c:{}", number(MODULE, comment))]);
    }
}

#[test]
fn a_module_from_other_sources_says_nothing() {
    let tree = Tree::new();
    let mut frames = tree.frames("work.ko", "module_work", " [work]");
    assert_eq!(tree.lines(&frames, &tree.search()).unwrap().len(), 1);
    // One frame that does not fit, and nothing in the file can be believed.
    frames.push("module_start+0x1 [work]".to_owned());
    assert_eq!(tree.lines(&frames, &tree.search()).unwrap(), Lines::new());
    frames.pop();

    // Two builds that both fit, and say different things.
    fs::create_dir(tree.path("again")).unwrap();
    fs::write(tree.path("module/work.c"), format!("/* longer */\n{MODULE}")).unwrap();
    tree.compile(&["-c"], "again/work.ko", &["module/work.c"]);
    assert_eq!(tree.lines(&frames, &tree.search()).unwrap(), Lines::new());
    let known = LineSources { modules: vec![tree.path("work.ko")], ..tree.search() };
    assert_eq!(tree.lines(&frames, &known).unwrap().len(), 1);
}

#[test]
fn a_named_file_must_be_of_the_kernel_and_an_unnamed_one_is_passed_over() {
    let tree = Tree::new();
    let frames = tree.frames("vmlinux", "single", "");
    let frames: BTreeSet<&str> = frames.iter().map(String::as_str).collect();
    let (build_id, named) = (tree.build_id(), tree.search());
    let beside = LineSources { image: Some(tree.path("bzImage")), vmlinux: None, ..named.clone() };
    let of = |build_id| Kernel { release: "6.12", build_id };

    for search in [&named, &beside] {
        assert_eq!(lines(&frames, of(Some(&build_id)), search).unwrap().len(), 1);
    }
    let error = lines(&frames, of(Some("12ab")), &named).unwrap_err().to_string();
    let expected =
        format!("vmlinux is of another kernel: its build id is {build_id}, that of the kernel under test 12ab");
    assert!(error.ends_with(&expected), "{error}");
    assert!(lines(&frames, of(Some("12ab")), &beside).unwrap().is_empty());
    // Unknown: only the user can know.
    assert_eq!(lines(&frames, of(None), &named).unwrap().len(), 1);
    assert!(lines(&frames, of(None), &beside).unwrap().is_empty());
    // Nothing to show.
    assert!(lines(&BTreeSet::new(), of(Some(&build_id)), &named).unwrap().is_empty());
    assert!(lines(&BTreeSet::new(), of(Some("12ab")), &named).is_err());
}

#[test]
fn a_named_file_that_can_not_be_used() {
    let tree = Tree::new();
    fs::write(tree.path("text"), "no ELF").unwrap();
    fs::write(tree.path("empty"), "").unwrap();
    assert!(Command::new("strip").arg("-g").arg(tree.path("work.ko")).status().unwrap().success());
    for (name, expected) in [
        ("gone", "can't read"),
        (".", "not a file"),
        ("text", "not a vmlinux"),
        ("empty", "not a vmlinux"),
        ("work.ko", "no debug information"),
    ] {
        let search = LineSources { vmlinux: Some(tree.path(name)), ..tree.search() };
        let error = search.check(None).unwrap_err().to_string();
        assert!(error.contains(expected) && !error.contains('\n'), "{name}: {error}");
    }
}

#[test]
fn compressed_debug_information() {
    let tree = Tree::new();
    let frames = tree.frames("vmlinux", "single", "");
    let plain = tree.lines(&frames, &tree.search()).unwrap();
    for file in ["vmlinux", "work.ko"] {
        let mut objcopy = Command::new("objcopy");
        assert!(objcopy.arg("--compress-debug-sections=zlib").arg(tree.path(file)).status().unwrap().success());
    }
    assert_eq!(tree.lines(&frames, &tree.search()).unwrap(), plain);
    let frames = tree.frames("work.ko", "module_start", " [work]");
    assert_eq!(tree.lines(&frames, &tree.search()).unwrap().len(), 1);
}

/// The kernels that the project has built on this machine.
fn kernels() -> Vec<PathBuf> {
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let Some(cache) = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or(home) else { return Vec::new() };
    let entries = fs::read_dir(cache.join("injector/kernels")).into_iter().flatten().flatten();
    let entries = entries.filter(|entry| !entry.file_name().to_string_lossy().ends_with(".building"));
    entries.map(|entry| entry.path().join("vmlinux")).filter(|path| path.is_file()).collect()
}

/// Calls all over a real kernel and its modules, compared with what binutils say.
#[test]
fn real_kernels() {
    let kernels = kernels();
    if kernels.is_empty() {
        eprintln!("skipped: cargo xtask kernel has built none here");
    }
    for vmlinux in kernels {
        let names = ["vfs_write", "ext4_fill_super", "xfs_log_mount", "tcp_v4_connect", "do_syscall_64", "nfs_readdir"];
        compare(&vmlinux, &names, None);
        let modules = places::modules(&vmlinux, &LineSources::default(), "", &BTreeSet::from(["injector_test"]));
        for module in modules.values().flatten() {
            compare(module, &["injector_test_allocate", "injector_test_run", "injector_test_write"], Some(".text"));
        }
    }
}

fn compare(path: &Path, names: &[&str], section: Option<&str>) {
    let file = File::open(path).unwrap();
    let image = Image::parse(&file).unwrap();
    assert!(image.has_debug_information(), "{}", path.display());
    let sections = image.debug_sections().unwrap();
    let dwarf = Dwarf::new(&sections, "").unwrap();
    let mut compared = 0;
    for (name, functions) in image.functions(&names.iter().copied().collect()) {
        for function in functions.iter().filter(|function| section.is_none_or(|name| image.is_in(function, name))) {
            let range = &function.range;
            // Not every such byte ends a call, but every address has a line.
            let returns: Vec<u64> =
                (range.start + 1..=range.end).filter(|at| image.is_after_call(function, *at).unwrap()).collect();
            let said: Vec<Vec<Line>> = returns.iter().map(|at| dwarf.lines(at - 1, name).unwrap_or_default()).collect();
            let base = image.base_of(function);
            let addresses: Vec<u64> = returns.iter().map(|at| at - 1 - base).collect();
            for ((address, ours), theirs) in addresses.iter().zip(&said).zip(binutils(path, section, &addresses)) {
                let ours: Vec<String> =
                    ours.iter().map(|line| format!("{} {}:{}", line.function, line.file, line.line)).collect();
                let same = ours.len() == theirs.len()
                    && ours.iter().zip(&theirs).all(|(ours, theirs)| same_place(ours, theirs));
                assert!(same, "{} {name} {address:#x}: {ours:?} {theirs:?}", path.display());
                compared += 1;
            }
        }
    }
    assert!(compared > 0, "{}: nothing was compared", path.display());
    eprintln!("{}: {compared} places compared", path.display());
}

/// The same but for how much of the path is said.
fn same_place(ours: &str, theirs: &str) -> bool {
    let (Some((function, place)), Some((their_function, their_place))) = (ours.split_once(' '), theirs.split_once(' '))
    else {
        return false;
    };
    function == their_function && their_place.ends_with(place.trim_start_matches("./"))
}

/// `function file:line` of each address, as addr2line of binutils has them.
fn binutils(path: &Path, section: Option<&str>, addresses: &[u64]) -> Vec<Vec<String>> {
    let mut command = Command::new("addr2line");
    command.args(["-a", "-f", "-i", "-e"]).arg(path);
    if let Some(section) = section {
        command.args(["-j", section]);
    }
    let output = command.args(addresses.iter().map(|address| format!("{address:#x}"))).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut all: Vec<Vec<String>> = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.starts_with("0x") {
            all.push(Vec::new());
        } else if let (Some(last), Some(place)) = (all.last_mut(), lines.next()) {
            let place = place.split_once(" (discriminator").map_or(place, |(place, _)| place);
            last.push(format!("{line} {place}"));
        }
    }
    all
}

/// The line of a call, in the function itself and in what is inlined into it.
#[test]
fn calls_on_a_line() {
    let tree = Tree::new();
    let build_id = tree.build_id();
    let kernel = Kernel { release: "6.12", build_id: Some(&build_id) };
    let on = |file: &str, line: usize| {
        let line = SourceLine { file: file.to_owned(), line: u32::try_from(line).unwrap() };
        calls(&line, kernel, &tree.search())
    };
    let frame = tree.frames("vmlinux", "single", "").remove(0);
    let (_, offset) = frame.split_once("+0x").unwrap();
    let offset = u64::from_str_radix(offset, 16).unwrap();
    let expected = format!("single+{:#x}-{offset:#x}", offset - 1);
    for comment in ["inner", "outer", "single"] {
        let pieces = on("init/main.c", number(MAIN, comment)).unwrap();
        assert!(pieces.iter().any(|piece| piece.as_str() == expected), "{comment}: {pieces:?}");
        assert!(pieces.iter().all(|piece| piece.bare() == "single"), "{comment}: {pieces:?}");
    }
    // The other file has a function of that name, too.
    let pieces = on("init/main.c", number(MAIN, "unlike of main")).unwrap();
    assert!(pieces.iter().all(|piece| piece.bare() == "unlike"), "{pieces:?}");

    let nearest = number(MAIN, "inner");
    assert!(matches!(on("init/main.c", 1), Err(NoCalls::NoCall { nearest: near, .. }) if near[0] as usize == nearest));
    assert!(matches!(on("main.c", nearest), Err(NoCalls::NoFile { .. })));
    assert!(matches!(on("module/work.c", nearest), Err(NoCalls::NoFile { .. })));
    let other = Kernel { release: "6.12", build_id: Some("00") };
    let line = SourceLine { file: "init/main.c".to_owned(), line: 1 };
    assert!(matches!(calls(&line, other, &tree.search()), Err(NoCalls::Lines { .. })));
    let unnamed = LineSources { vmlinux: None, ..tree.search() };
    assert!(matches!(calls(&line, kernel, &unnamed), Err(NoCalls::NoVmlinux { .. })));
}
