//! Lost memory, in the words of kmemleak (mm/kmemleak.c).

use super::{
    Complaint, Kind, frame,
    skip::{Culprit, Search},
};

/// A lost object.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// Where it is.
    pub address: u64,
    /// Bytes.
    pub size: u64,
    /// Name of the task that allocated it.
    pub comm: String,
    /// Its number.
    pub pid: u32,
    /// The kernel's clock at that time.
    pub jiffies: u64,
    /// Seconds since, where the kernel says it (before 6.8).
    pub age: Option<f64>,
    /// Who allocated it, innermost first, at most 16: `func+0x1/0x2 [module]`.
    pub backtrace: Vec<String>,
}

/// Lost objects that were allocated at the same place.
#[derive(Clone, Debug, PartialEq)]
pub struct Leak {
    /// `leak of 96 bytes in func`: one object's size, and who allocated it.
    pub title: String,
    /// How many objects.
    pub objects: usize,
    /// Their bytes together.
    pub bytes: u64,
    /// Who allocated them, innermost first: `func+0x1/0x2 [module]`.
    pub backtrace: Vec<String>,
    /// The first of them, as text.
    pub example: String,
}

impl From<Leak> for Complaint {
    fn from(leak: Leak) -> Self {
        let splat = format!("{} lost, {} bytes in all; the first:\n{}", count(leak.objects), leak.bytes, leak.example);
        Self { kind: Kind::Leak, title: leak.title, splat }
    }
}

fn count(objects: usize) -> String {
    if objects == 1 { "1 object".to_owned() } else { format!("{objects} objects") }
}

/// The objects in the text of the file (`print_unreferenced`, `hex_dump_object`). Dumps are passed over.
#[must_use]
pub fn parse(text: &str) -> Vec<Object> {
    let mut objects: Vec<Object> = Vec::new();
    let mut in_backtrace = false;
    for line in text.lines() {
        if let Some((address, size)) = header(line) {
            in_backtrace = false;
            let backtrace = Vec::new();
            objects.push(Object { address, size, comm: String::new(), pid: 0, jiffies: 0, age: None, backtrace });
            continue;
        }
        let Some(object) = objects.last_mut() else { continue };
        let line = line.trim();
        if let Some(task) = line.strip_prefix("comm \"") {
            let _ = comm(task, object);
        } else if line.starts_with("backtrace") {
            in_backtrace = true;
        } else if in_backtrace {
            object.backtrace.extend(symbol(line).map(str::to_owned));
        }
    }
    objects
}

/// `unreferenced object 0xffff888003bab360 (size 96):`; later kernels put ` (percpu)` behind `object`.
fn header(line: &str) -> Option<(u64, u64)> {
    let rest = line.strip_prefix("unreferenced object")?;
    let rest = rest.strip_prefix(" (percpu)").unwrap_or(rest);
    let (address, size) = rest.strip_prefix(" 0x")?.split_once(" (size ")?;
    Some((u64::from_str_radix(address, 16).ok()?, size.strip_suffix("):")?.parse().ok()?))
}

/// `comm "sh", pid 72, jiffies 4294894567 (age 8.123s)`, from behind the first quote; the age is gone in 6.8 and later. A
/// name may have quotes in it.
fn comm(text: &str, object: &mut Object) -> Option<()> {
    let (comm, rest) = text.rsplit_once("\", pid ")?;
    comm.clone_into(&mut object.comm);
    let (pid, rest) = rest.split_once(", jiffies ")?;
    object.pid = pid.parse().ok()?;
    let (jiffies, age) = rest.split_once(' ').unwrap_or((rest, ""));
    object.jiffies = jiffies.parse().ok()?;
    object.age = age.strip_prefix("(age ").and_then(|age| age.strip_suffix("s)")).and_then(|age| age.parse().ok());
    Some(())
}

/// A line of a backtrace, without the address that 6.1 puts before it: `[<000000005a1c6d2e>] func+0x1/0x2 [module]`.
fn symbol(line: &str) -> Option<&str> {
    let line = match line.strip_prefix("[<") {
        Some(rest) => rest.split_once(">]")?.1.trim_start(),
        None => line,
    };
    (!line.is_empty()).then_some(line)
}

/// Objects by the place that allocated them, in the order in which they were found.
#[must_use]
pub fn group(objects: &[Object]) -> Vec<Leak> {
    let mut groups: Vec<Vec<&Object>> = Vec::new();
    for object in objects {
        match groups.iter_mut().find(|group| group[0].backtrace == object.backtrace) {
            Some(group) => group.push(object),
            None => groups.push(vec![object]),
        }
    }
    groups.iter().map(|group| leak(group)).collect()
}

fn leak(objects: &[&Object]) -> Leak {
    let first = objects[0];
    let same_size = objects.iter().all(|object| object.size == first.size);
    let size = if same_size { format!("leak of {} bytes", first.size) } else { "leak".to_owned() };
    let mut culprit = Culprit::new(Search::Mistake);
    first.backtrace.iter().filter_map(|line| frame::function(line)).for_each(|function| culprit.see(function));
    let title = culprit.name().map_or_else(|| size.clone(), |function| format!("{size} in {function}"));
    let mut example = format!(
        "unreferenced object (size {}):\n  comm \"{}\", pid {}\n  backtrace:",
        first.size, first.comm, first.pid
    );
    for line in &first.backtrace {
        example.push_str("\n    ");
        example.push_str(line);
    }
    Leak {
        title,
        objects: objects.len(),
        bytes: objects.iter().fold(0, |sum, object| sum.saturating_add(object.size)),
        backtrace: first.backtrace.clone(),
        example,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn object(size: u64, backtrace: &[&str]) -> Object {
        Object {
            address: 1,
            size,
            comm: "sh".to_owned(),
            pid: 7,
            jiffies: 1,
            age: None,
            backtrace: backtrace.iter().map(|line| (*line).to_owned()).collect(),
        }
    }

    #[test]
    fn grouped_by_backtrace() {
        let one = ["__kmalloc_cache_noprof+0x1/0x2", "one+0x5/0x9 [m]", "main+0x1/0x2"];
        let two = ["kstrdup+0x1/0x2", "two.isra.0+0x5/0x9", "main+0x1/0x2"];
        let leaks = group(&[object(96, &one), object(8, &two), object(96, &one), object(16, &two)]);
        let summary: Vec<_> = leaks.iter().map(|leak| (&*leak.title, leak.objects, leak.bytes)).collect();
        assert_eq!(summary, [("leak of 96 bytes in one", 2, 192), ("leak in two", 2, 24)]);
        let complaint = Complaint::from(leaks[0].clone());
        assert_eq!(complaint.kind, Kind::Leak);
        assert_eq!(
            complaint.splat,
            "2 objects lost, 192 bytes in all; the first:\nunreferenced object (size 96):\n  comm \"sh\", pid 7\n  \
             backtrace:\n    __kmalloc_cache_noprof+0x1/0x2\n    one+0x5/0x9 [m]\n    main+0x1/0x2"
        );
    }

    #[test]
    fn odd_names_and_broken_text() {
        let text = "unreferenced object (percpu) 0x607ee1e01f4c (size 4):\n  comm \"a\", pid 1\", pid 12, jiffies 9\n\
                    unreferenced object 0xzz (size 4):\nunreferenced object 0x10 (size 8):\n  comm \"x\n  backtrace:\n";
        let objects = parse(text);
        assert_eq!(objects.len(), 2);
        assert_eq!((&*objects[0].comm, objects[0].pid, objects[0].size), ("a\", pid 1", 12, 4));
        assert_eq!(objects[1].address, 16);
    }

    proptest! {
        #[test]
        fn never_panics(text in "((unreferenced object 0x[0-9a-f]{1,20} \\(size [0-9]{1,25}\\):|  comm \"\\PC{0,5}\", pid [0-9]{1,12}|  backtrace:|    f\\+0x1/0x2|\\PC{0,20})\n){0,10}") {
            group(&parse(&text)).into_iter().map(Complaint::from).for_each(drop);
        }
    }
}
