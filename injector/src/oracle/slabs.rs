//! Growth of slab caches: what a kernel without kmemleak can show of a leak, when the same failure is repeated.
//!
//! # What the numbers of `/proc/slabinfo` mean in SLUB
//! `active_objs` is all objects minus the free ones *on the nodes' partial lists* (`get_slabinfo` in mm/slub.c). A slab that
//! a CPU holds is on no list, so each of its free objects counts as active. One CPU can hold its current slab and, with
//! CONFIG_SLUB_CPU_PARTIAL, some partial ones (by object size: 6, 24, 52 or 120 objects, times two, in whole slabs:
//! `set_cpu_partial`). So without any leak, two readings can differ by [`Cache::slack`] = CPUs × objects per slab × (1 + these
//! slabs): for the 96-byte objects of a 4-KiB slab on two CPUs, 84 without partial slabs and 588 with them. Where a node has
//! more than 10,000 partial slabs, the kernel estimates.
//!
//! [`SlabReader`] makes the numbers exact instead: it empties what is reclaimable and asks every cache to shrink, which
//! also takes the slabs away from the CPUs, and objects out of KASAN's quarantine. It needs sysfs' `slab` directory.
//!
//! # What is a leak
//! One reading more after half of the repeats: [`leaks`] wants each half to have lost an object for each repeat. A cache that
//! fills up once and then stays, grows in the first half only.
//!
//! # What this does not see
//! Pages that are no slabs: kmalloc above 8 KiB, alloc_pages(), vmalloc(). The counters of free pages (`nr_free_pages`) are
//! no help: page cache, per-CPU page lists, page tables and stacks of whatever else runs move them by hundreds of pages,
//! and a leak of one page for each of twenty repeats drowns in that. kmemleak sees all but alloc_pages().

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::FileExt,
};

use super::{Complaint, Kind};
use crate::kernel::{KernelError, KernelFiles};

const FILE: &str = "proc/slabinfo";
const DIRECTORY: &str = "sys/kernel/slab";

/// RCU frees in portions: after a grace period, what was freed is not free yet. No call waits for that (rcu_barrier() is the
/// kernel's own), so it is read until the numbers fall no more, but not more often than this.
const ROUNDS: usize = 20;

/// The counts of one slab cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cache {
    /// Objects that are in use, as far as the kernel knows.
    pub active: u64,
    /// Objects in all its slabs.
    pub total: u64,
    /// Bytes of an object, with what the kernel keeps beside it.
    pub size: u64,
    /// Objects in a slab.
    pub per_slab: u64,
}

impl Cache {
    /// By how many objects two readings can differ though nothing was lost, when the CPUs keep their slabs.
    #[must_use]
    pub fn slack(&self, cpus: u64, cpu_partial: bool) -> u64 {
        // set_cpu_partial and slub_set_cpu_partial in mm/slub.c, 6.1 and 6.12
        let objects: u64 = match self.size {
            4096.. => 6,
            1024.. => 24,
            256.. => 52,
            _ => 120,
        };
        let partial = if cpu_partial { (objects * 2).div_ceil(self.per_slab.max(1)) } else { 0 };
        cpus.saturating_mul(self.per_slab).saturating_mul(1 + partial)
    }
}

/// The counts of all slab caches at some moment, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slabs(pub BTreeMap<String, Cache>);

impl Slabs {
    /// The numbers as they are.
    ///
    /// # Errors
    /// The file can't be read: it is root's, and there only with CONFIG_SLUB_DEBUG (before 6.8 with any SLUB).
    pub fn read(files: &KernelFiles) -> Result<Self, KernelError> {
        Ok(Self::parse(&files.read_text(FILE)?))
    }

    fn active(&self) -> u64 {
        self.0.values().fold(0, |sum, cache| sum.saturating_add(cache.active))
    }

    /// `# name <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables …` (`cache_show` in
    /// mm/slab_common.c). A name may have blanks in it, so numbers are counted from the colon.
    fn parse(text: &str) -> Self {
        let cache = |line: &str| {
            let (before, _) = line.split_once(" : tunables ")?;
            let mut fields = before.rsplit(' ').filter(|field| !field.is_empty());
            let mut number = || fields.next()?.parse::<u64>().ok();
            let (_pages, per_slab, size, total, active) = (number()?, number()?, number()?, number()?, number()?);
            let mut name: Vec<&str> = fields.collect();
            name.reverse();
            (!name.is_empty()).then(|| (name.join(" "), Cache { active, total, size, per_slab }))
        };
        Self(text.lines().filter(|line| !line.starts_with('#')).filter_map(cache).collect())
    }
}

/// Reads the slab caches' counts after the per-CPU slabs were emptied, so that they are exact.
///
/// Whoever measures makes objects himself, and a CPU that allocates takes a slab again. So the files stay open, the caches
/// that a write to sysfs uses (small kmalloc) come last, and of several rounds the smallest number of each cache counts: a
/// CPU's slab only ever adds.
#[derive(Debug)]
pub struct SlabReader {
    files: KernelFiles,
    numbers: File,
    shrink: BTreeMap<Order, File>,
}

/// By which caches are shrunk: kmalloc last, and of that the smallest.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Order(bool, Reverse<usize>, Reverse<String>);

impl Order {
    fn of(name: String) -> Self {
        Self(name.starts_with("kmalloc"), Reverse(name.len()), Reverse(name))
    }
}

impl SlabReader {
    /// For the kernel below a root.
    ///
    /// # Errors
    /// `/proc/slabinfo` can't be opened.
    pub fn new(files: KernelFiles) -> Result<Self, KernelError> {
        Ok(Self { numbers: files.open(FILE)?, files, shrink: BTreeMap::new() })
    }

    /// The numbers after everything that could be freed was: what is reclaimable (dentries and inodes too: the next access to
    /// a file is slower), and what waits for RCU. Takes three rounds, more where there is much to free.
    ///
    /// # Errors
    /// A file is not there: proc, or sysfs' `slab`.
    pub fn read(&mut self) -> Result<Slabs, KernelError> {
        self.find_caches()?;
        // Dentries and inodes, and what kfree_rcu() has collected: all shrinkers run.
        // The first 4 of a boot makes it silent, or the kernel's log would have a line for each reading.
        write(&self.files, "proc/sys/vm/drop_caches", "4")?;
        write(&self.files, "proc/sys/vm/drop_caches", "2")?;
        let mut last = self.round()?;
        for _ in 0..ROUNDS {
            let next = self.round()?;
            let done = next.active() >= last.active();
            last = next;
            if done {
                break;
            }
        }
        let check = self.round()?;
        for (name, cache) in &mut last.0 {
            if let Some(check) = check.0.get(name) {
                cache.active = cache.active.min(check.active);
            }
        }
        Ok(last)
    }

    /// Gives back every slab without objects: who allocates next needs a new one, and comes to the sites of that.
    ///
    /// # Errors
    /// sysfs' `slab` is not there.
    pub fn empty(&mut self) -> Result<(), KernelError> {
        self.find_caches()?;
        self.shrink();
        Ok(())
    }

    fn shrink(&mut self) {
        // A cache that is gone refuses.
        self.shrink.retain(|_, file| file.write_at(b"1", 0).is_ok());
    }

    /// The numbers after a grace period, without slabs that a CPU holds.
    fn round(&mut self) -> Result<Slabs, KernelError> {
        grace_period();
        self.shrink();
        let mut text = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            match self.numbers.read_at(&mut buffer, text.len() as u64) {
                Ok(0) => break,
                Ok(length) => text.extend_from_slice(&buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(KernelError::File { path: self.files.path(FILE), error }),
            }
        }
        Ok(Slabs::parse(&String::from_utf8_lossy(&text)))
    }

    fn find_caches(&mut self) -> Result<(), KernelError> {
        let directory = self.files.path(DIRECTORY);
        let entries = fs::read_dir(&directory).map_err(|error| KernelError::File { path: directory, error })?;
        for entry in entries.flatten() {
            let order = Order::of(entry.file_name().to_string_lossy().into_owned());
            // Caches of the same kind are one, under several names: links.
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) && !self.shrink.contains_key(&order) {
                let file = fs::OpenOptions::new().write(true).open(entry.path().join("shrink"));
                // one that is just being destroyed can't be opened
                self.shrink.extend(file.ok().map(|file| (order, file)));
            }
        }
        Ok(())
    }
}

/// A cache that grew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Growth {
    /// The name of the slab cache.
    pub cache: String,
    /// By how many objects.
    pub objects: u64,
    /// By how many bytes.
    pub bytes: u64,
}

/// The caches that grew from one reading to the next.
#[must_use]
pub fn growth(before: &Slabs, after: &Slabs) -> Vec<Growth> {
    let grown = |(name, cache): (&String, &Cache)| {
        let objects = cache.active.saturating_sub(before.0.get(name).map_or(0, |before| before.active));
        (objects > 0).then(|| Growth { cache: name.clone(), objects, bytes: objects.saturating_mul(cache.size) })
    };
    after.0.iter().filter_map(grown).collect()
}

/// The caches that lost an object or more with each of `repeats` repeats of a failure: readings from before, from after
/// half of the repeats, and from after all of them.
///
/// `slack` says by how many objects a cache may have grown besides: 0 for readings of [`SlabReader`], else
/// [`Cache::slack`]. To see a loss of one object each, there must be more repeats than twice that.
#[must_use]
pub fn leaks(readings: [&Slabs; 3], repeats: u64, slack: impl Fn(&Cache) -> u64) -> Vec<Growth> {
    let [before, middle, after] = readings;
    let half = (repeats / 2).max(1);
    let lost = |from: &Slabs, to: &Slabs, growth: &Growth| {
        let active = |slabs: &Slabs| slabs.0.get(&growth.cache).map_or(0, |cache| cache.active);
        let slack = to.0.get(&growth.cache).map_or(0, &slack);
        active(to).saturating_sub(active(from)) >= half.saturating_add(slack)
    };
    let all = growth(before, after).into_iter();
    all.filter(|growth| lost(before, middle, growth) && lost(middle, after, growth)).collect()
}

impl Growth {
    /// As a complaint about a failure that was repeated so often. A cache's name alone does not say who: `site` is the
    /// function in which the allocation was failed, and belongs to the title.
    #[must_use]
    pub fn complaint(&self, site: &str, repeats: u64) -> Complaint {
        let Self { cache, objects, bytes } = self;
        Complaint {
            kind: Kind::Leak,
            title: format!("leak from {cache} after a failure in {site}"),
            splat: format!(
                "{cache} grew by {objects} objects ({bytes} bytes) in {repeats} repeats of the same failure"
            ),
        }
    }
}

fn write(files: &KernelFiles, path: &str, text: &str) -> Result<(), KernelError> {
    let path = files.path(path);
    let write = || fs::OpenOptions::new().write(true).open(&path)?.write_all(text.as_bytes());
    write().map_err(|error| KernelError::File { path: path.clone(), error })
}

/// Waits until what was freed through RCU before is freed.
fn grace_period() {
    const MEMBARRIER_CMD_GLOBAL: libc::c_int = 1;
    // SAFETY: takes two numbers and touches no memory of this process. It is synchronize_rcu() (kernel/sched/membarrier.c).
    // Where the kernel has no such call, nothing happens, and a few objects may still be counted.
    let _ = unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXT: &str = "\
slabinfo - version: 2.1
# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables <limit> <batchcount> <sharedfactor> : slabdata <active_slabs> <num_slabs> <sharedavail>
ext4_inode_cache       0      0   1088   30    8 : tunables    0    0    0 : slabdata      0      0      0
with a blank          12     42     96   42    1 : tunables    0    0    0 : slabdata      1      1      0
kmalloc-96           700    714     96   42    1 : tunables    0    0    0 : slabdata     17     17      0
";

    fn slabs(active: u64) -> Slabs {
        Slabs([("c".to_owned(), Cache { active, total: 1000, size: 96, per_slab: 42 })].into())
    }

    #[test]
    fn parsed() {
        let slabs = Slabs::parse(TEXT);
        assert_eq!(slabs.0.keys().collect::<Vec<_>>(), ["ext4_inode_cache", "kmalloc-96", "with a blank"]);
        assert_eq!(slabs.0["kmalloc-96"], Cache { active: 700, total: 714, size: 96, per_slab: 42 });
        assert_eq!(slabs.0["with a blank"].active, 12);
    }

    #[test]
    fn grown() {
        let after = Slabs::parse(&TEXT.replace("700", "705").replace("     0      0   1088", "     2     30   1088"));
        let grown = growth(&Slabs::parse(TEXT), &after);
        let one = |cache: &str, objects, bytes| Growth { cache: cache.to_owned(), objects, bytes };
        assert_eq!(grown, [one("ext4_inode_cache", 2, 2176), one("kmalloc-96", 5, 480)]);
        assert_eq!(growth(&after, &Slabs::parse(TEXT)), []);
        assert_eq!(growth(&Slabs::default(), &slabs(3))[0].objects, 3, "a new cache");
    }

    #[test]
    fn slack_is_what_the_cpus_can_hold() {
        let cache = Cache { active: 0, total: 0, size: 96, per_slab: 42 };
        assert_eq!(cache.slack(2, false), 84);
        assert_eq!(cache.slack(2, true), 588);
        assert_eq!(Cache { size: 4096, per_slab: 8, ..cache }.slack(1, true), 8 * 3);
    }

    #[test]
    fn a_leak_goes_on_and_a_cache_that_fills_up_does_not() {
        let found = |active: [u64; 3], slack: u64| {
            let readings = active.map(slabs);
            leaks([&readings[0], &readings[1], &readings[2]], 20, |_| slack).first().map(|growth| growth.objects)
        };
        assert_eq!(found([100, 110, 120], 0), Some(20));
        assert_eq!(found([100, 120, 140], 0), Some(40), "two objects each");
        assert_eq!(found([100, 142, 142], 0), None, "filled up once");
        assert_eq!(found([100, 100, 120], 0), None, "something else, later");
        assert_eq!(found([100, 109, 120], 0), None, "less than one each");
        assert_eq!(found([100, 110, 120], 84), None, "could be a CPU's slab");
        assert_eq!(found([120, 110, 100], 0), None);
    }

    #[test]
    fn the_title_has_no_numbers() {
        let complaint = Growth { cache: "dentry".to_owned(), objects: 20, bytes: 3840 }.complaint("foo", 20);
        assert_eq!(complaint.title, "leak from dentry after a failure in foo");
        assert!(complaint.splat.contains("20 objects (3840 bytes) in 20 repeats"));
    }

    #[test]
    fn settling_shrinks_every_cache_once() {
        let root = tempfile::tempdir().unwrap();
        let files = KernelFiles::new(root.path());
        assert!(SlabReader::new(files.clone()).unwrap_err().to_string().contains("proc/slabinfo"));
        for directory in ["proc/sys/vm", "sys/kernel/slab/:0000096"] {
            fs::create_dir_all(root.path().join(directory)).unwrap();
        }
        for (path, text) in [("proc/sys/vm/drop_caches", "0"), (FILE, TEXT), ("sys/kernel/slab/:0000096/shrink", "")] {
            fs::write(files.path(path), text).unwrap();
        }
        let mut reader = SlabReader::new(files.clone()).unwrap();
        std::os::unix::fs::symlink(":0000096", files.path("sys/kernel/slab/kmalloc-96")).unwrap();
        assert_eq!(reader.read().unwrap(), Slabs::parse(TEXT));
        assert_eq!(files.read_text("proc/sys/vm/drop_caches").unwrap(), "2");
        assert_eq!(files.read_text("sys/kernel/slab/:0000096/shrink").unwrap(), "1");
    }

    #[test]
    fn small_kmalloc_is_shrunk_last() {
        let mut names = ["kmalloc-8", "filp", "kmalloc-96", "kmalloc-8k", "kmalloc-cg-8", ":0000096"];
        names.sort_by_key(|name| Order::of((*name).to_owned()));
        assert_eq!(names, [":0000096", "filp", "kmalloc-cg-8", "kmalloc-96", "kmalloc-8k", "kmalloc-8"]);
    }

    proptest! {
        #[test]
        fn never_panics(text in "([a-z:# ]{0,8}( +[0-9]{1,25}){0,6}( : tunables )?\n|\\PC{0,30}\n){0,6}") {
            Slabs::parse(&text);
        }

        #[test]
        fn no_leak_without_growth(active in 0u64..1000, repeats in 1u64..100) {
            let (more, less) = (slabs(active + 1), slabs(active));
            prop_assert!(leaks([&more, &less, &less], repeats, |_| 0).is_empty());
        }
    }
}
