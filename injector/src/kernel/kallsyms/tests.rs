#![expect(clippy::single_range_in_vec_init, reason = "lists of ranges are what is compared")]

use super::*;
use std::fs;

const TEXT: &str = "\
0000000000000000 A fixed_percpu_data
0000000000001000 A pcpu_hot
ffffffff81000000 T _stext
ffffffff81000000 T _text
ffffffff81000010 t __pfx_nfs4_do_open
ffffffff81000020 t nfs4_do_open
ffffffff81000100 t nfs4_do_open.isra.0
ffffffff81000200 T xfs_alloc
ffffffff81000200 T xfs_alloc_alias
ffffffff81000300 t xfs_free
ffffffff81000400 T ext4_map
ffffffff81000500 T _etext
ffffffff81000500 R rodata
ffffffff82000000 D __per_cpu_offset
ffffffffc0002000 t nfs_late\t[nfs]
ffffffffc0001000 t nfs_early\t[nfs]
ffffffffc0002040 d nfs_data\t[nfs]
ffffffffc0009000 t last\t[sunrpc]
";

/// Those of a kernel with these symbols, and the directory that they are in.
pub(super) fn files(text: &str) -> (tempfile::TempDir, KernelFiles) {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("proc")).unwrap();
    fs::write(root.path().join("proc/kallsyms"), text).unwrap();
    let files = KernelFiles::new(root.path());
    (root, files)
}

fn kallsyms() -> Kallsyms {
    let (_root, files) = files(TEXT);
    Kallsyms::read(&files).unwrap()
}

fn patterns(texts: &[&str]) -> Vec<StackPattern> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn addresses() {
    let (_root, files) = files(TEXT);
    let names = ["_stext", "pcpu_hot", "__per_cpu_offset", "absent"];
    let addresses = Addresses::read(&files, &names, &["nfs4_do_open", "xfs"], |_| false).unwrap();
    assert!(!addresses.are_hidden());
    assert_eq!(addresses.get("_stext"), Some(0xffff_ffff_8100_0000));
    assert_eq!(addresses.get("pcpu_hot"), Some(0x1000));
    assert_eq!(addresses.get("__per_cpu_offset"), Some(0xffff_ffff_8200_0000));
    assert_eq!(addresses.get("absent"), None);
    assert_eq!(addresses.clones_of("nfs4_do_open").collect::<Vec<_>>(), ["nfs4_do_open.isra.0"]);
    assert_eq!(addresses.clones_of("xfs").count(), 0);
}

#[test]
fn copies_are_asked_for_by_their_usual_names() {
    let all = with_clones(&["_stext"], &["f"]);
    assert_eq!(all, ["_stext", "f.isra.0", "f.constprop.0", "f.constprop.0.isra.0"]);
}

#[test]
fn reading_ends_when_enough_is_found() {
    let (_root, files) = files(TEXT);
    let enough = |found: &Addresses| found.get("_etext").is_some();
    let addresses = Addresses::read(&files, &["_stext", "_etext", "__per_cpu_offset"], &[], enough).unwrap();
    assert!(addresses.get("_stext").is_some());
    assert_eq!(addresses.get("__per_cpu_offset"), None);
}

#[test]
fn hidden_addresses() {
    let (_root, files) = files("0000000000000000 T _stext\n0000000000000000 t f\n");
    let addresses = Addresses::read(&files, &["_stext"], &[], |_| false).unwrap();
    assert!(addresses.are_hidden());
    assert_eq!(addresses.get("_stext"), None);
    assert!(matches!(Kallsyms::read(&files), Err(KernelError::HiddenAddresses)));
}

#[test]
fn lookups() {
    let symbols = kallsyms();
    let at = |address| symbols.lookup(address).map(|symbol| (symbol.name, symbol.offset, symbol.module));
    assert_eq!(at(0xffff_ffff_8100_0000), Some(("_stext", 0, None)));
    assert_eq!(at(0xffff_ffff_8100_0021), Some(("nfs4_do_open", 1, None)));
    assert_eq!(at(0xffff_ffff_8100_02ff), Some(("xfs_alloc", 0xff, None)));
    assert_eq!(at(0xffff_ffff_c000_1004), Some(("nfs_early", 4, Some("nfs"))));
    assert_eq!(at(0xffff_ffff_c000_203f), Some(("nfs_late", 0x3f, Some("nfs"))));
    assert_eq!(at(0xffff_ffff_c000_2040), None, "data is no function");
    assert_eq!(at(0xffff_ffff_c000_9001), Some(("last", 1, Some("sunrpc"))));
    assert_eq!(at(0xffff_ffff_d000_0000), None);
    assert_eq!(at(0x10), None);
}

#[test]
fn a_return_address_belongs_to_the_call_before_it() {
    let symbols = kallsyms();
    let symbol = symbols.lookup_return(0xffff_ffff_8100_0300).unwrap();
    assert_eq!((symbol.name, symbol.offset), ("xfs_alloc", 0x100));
}

#[test]
fn ranges_are_merged() {
    let symbols = kallsyms();
    assert_eq!(symbols.ranges(&patterns(&["xfs_*"])).unwrap(), [0xffff_ffff_8100_0200..0xffff_ffff_8100_0400]);
    assert_eq!(
        symbols.ranges(&patterns(&["nfs4_do_open", "ext4_map"])).unwrap(),
        [0xffff_ffff_8100_0020..0xffff_ffff_8100_0200, 0xffff_ffff_8100_0400..0xffff_ffff_8100_0500]
    );
    // The padding before the next function is that of the function before it, so that neighbours merge.
    assert_eq!(symbols.ranges(&patterns(&["_stext"])).unwrap(), [0xffff_ffff_8100_0000..0xffff_ffff_8100_0020]);
    assert_eq!(symbols.ranges(&patterns(&["[nfs]"])).unwrap(), [0xffff_ffff_c000_1000..0xffff_ffff_c000_2040]);
    assert_eq!(symbols.ranges(&[]).unwrap(), []);
}

#[test]
fn pieces_of_functions_and_addresses() {
    let symbols = kallsyms();
    let ranges = |texts: &[&str]| symbols.ranges(&patterns(texts)).unwrap();
    assert_eq!(ranges(&["nfs4_do_open+0x10-0x40"]), [0xffff_ffff_8100_0030..0xffff_ffff_8100_0060]);
    assert_eq!(ranges(&["nfs_late+0-0x40"]), [0xffff_ffff_c000_2000..0xffff_ffff_c000_2040]);
    // Two pieces that touch are one range; the compiler's copies have other offsets.
    assert_eq!(
        ranges(&["nfs4_do_open+0x20-0x30", "ext4_map+0-1", "nfs4_do_open+0x10-0x20"]),
        [0xffff_ffff_8100_0030..0xffff_ffff_8100_0050, 0xffff_ffff_8100_0400..0xffff_ffff_8100_0401]
    );
    assert_eq!(
        ranges(&["0xffffffff81000080-0xffffffff81000280", "xfs_alloc"]),
        [0xffff_ffff_8100_0080..0xffff_ffff_8100_0300]
    );
    assert_eq!(ranges(&["0xffffffffc0009010-0xffffffffc0009011"]), [0xffff_ffff_c000_9010..0xffff_ffff_c000_9011]);
}

#[test]
fn pieces_of_functions_and_addresses_that_are_not_there() {
    let symbols = kallsyms();
    let message = |text| symbols.ranges(&patterns(&[text])).unwrap_err().to_string();
    assert_eq!(
        message("nfs4_do_open+0x10-0xe1"),
        "`nfs4_do_open+0x10-0xe1` does not lie in nfs4_do_open, which is 0xe0 bytes long on this kernel"
    );
    assert_eq!(
        message("nfs4_do_opne+0x10-0x20"),
        "no kernel function is called `nfs4_do_opne` (it may be inlined); did you mean nfs4_do_open, nfs4_do_open.isra.0?"
    );
    // Below all, data, above all.
    for text in ["0x10-0x20", "0xffffffffc0002040-0xffffffffc0002080", "0xffffffffd0000000-0xffffffffd0000001"] {
        assert_eq!(
            message(text),
            format!("no kernel code lies at `{text}`; addresses change with every boot, unless it is with nokaslr")
        );
    }
}

#[test]
fn near_misses() {
    let symbols = kallsyms();
    let message = |text| symbols.ranges(&patterns(&[text])).unwrap_err().to_string();
    assert_eq!(
        message("nfs4_do_opne"),
        "no kernel function is called `nfs4_do_opne` (it may be inlined); did you mean nfs4_do_open, nfs4_do_open.isra.0?"
    );
    assert_eq!(message("xsf_*"), "no kernel function matches `xsf_*`; did you mean xfs_*?");
    assert_eq!(
        message("[nfss]"),
        "no module `nfss` is loaded; if it is built into the kernel, use a glob: `nfss_*`; did you mean [nfs]?"
    );
    assert_eq!(
        message("[btrfs]"),
        "no module `btrfs` is loaded; if it is built into the kernel, use a glob: `btrfs_*`"
    );
}
