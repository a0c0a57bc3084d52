//! The main job: NFS over loopback with the README's options. The workload ends, sites are in NFS or sunrpc code, the
//! kernel does not complain.

use std::process::ExitStatus;
use std::time::Duration;

use injector_tests::report::Site;
use injector_tests::{Injector, KernelLog, shell};

const WORKLOADS: &str = "/workloads";
const LIMIT: Duration = Duration::from_secs(240);

/// Functions of the NFS client and server and of sunrpc, by how their names begin: they are built in, so no module
/// name tells.
const NFS: &[&str] = &[
    "nfs_", "nfs3_", "nfs4_", "nfs41_", "nfs42_", "nfsd", "nlm", "rpc_", "rpcb_", "xprt_", "xs_", "svc_", "xdr_",
    "_nfs",
];

fn verb(script: &str, verb: &str) -> (ExitStatus, String) {
    let output = shell::output("/bin/sh", &[&format!("{WORKLOADS}/{script}"), verb], LIMIT);
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    (output.status, text.into_owned())
}

fn mount(script: &str) {
    let (status, text) = verb(script, "mount");
    assert!(status.success(), "{script} mount: {status}\n{text}");
}

/// The file operations, with failures: some of its steps may fail, but it comes to its end.
fn mix(script: &str) -> String {
    let (status, text) = verb(script, "mix");
    assert!(matches!(status.code(), Some(0 | 1)), "{script} mix: {status}\n{text}");
    text.lines().rfind(|line| line.contains(" steps, ")).unwrap_or_else(|| panic!("{script} mix: {text}")).to_owned()
}

/// Undoes the setup even when the test fails: the next one wants the same mount points.
struct Cleanup(&'static str);

impl Drop for Cleanup {
    fn drop(&mut self) {
        let _ = shell::output("/bin/sh", &[&format!("{WORKLOADS}/{}", self.0), "cleanup"], LIMIT);
    }
}

fn frames(site: &Site) -> String {
    site.stack.iter().take(4).cloned().collect::<Vec<_>>().join(" < ")
}

#[test]
fn nfs_over_loopback_with_the_readmes_options() {
    let mut log = KernelLog::from_now();
    let _cleanup = Cleanup("nfs.sh");
    mount("nfs.sh");
    let injector = Injector::start(&["--gfp", "NOFS", "--order-lt", "4", "--prob", "0.01"]);
    let mut said = String::new();
    for _ in 0..5 {
        said = mix("nfs.sh");
        if injector.output_so_far(Duration::from_millis(300), |_| false).matches("\"failure\"").count() >= 20 {
            break;
        }
    }
    let report = injector.stop();
    report.assert_accounts();
    log.assert_no_splat();
    println!("{} failures at {} sites; {}", report.total("failures"), report.sites().len(), said);
    let sites = report.sites();
    assert!(report.total("failures") > 0, "{}", report.summary);
    let ours: Vec<_> = sites.iter().filter(|site| NFS.iter().any(|prefix| site.has(prefix))).collect();
    for site in ours.iter().take(5) {
        println!("{:4} {}", site.count, frames(site));
    }
    assert!(!ours.is_empty(), "no site in NFS or sunrpc code: {:#?}", sites.iter().map(frames).collect::<Vec<_>>());
    for failure in &report.failures {
        assert!(failure["order"].as_u64().is_some_and(|order| order < 4), "{failure}");
        let effective = failure["effective_gfp"].as_str().unwrap_or_default();
        assert!(effective.contains("GFP_NOFS") || !effective.contains("GFP_KERNEL"), "{failure}");
    }
}

/// Failures that are the NFS client's and server's alone.
#[test]
fn nfs_code_alone_by_its_stack() {
    let mut log = KernelLog::from_now();
    let _cleanup = Cleanup("nfs.sh");
    mount("nfs.sh");
    let injector = Injector::start(&["--stack", "nfs_*", "--stack", "nfs4_*", "--stack", "rpc_*", "--prob", "0.02"]);
    mix("nfs.sh");
    let report = injector.stop();
    report.assert_accounts();
    log.assert_no_splat();
    assert!(report.total("failures") > 0, "{}", report.summary);
    for site in report.sites() {
        assert!(["nfs_", "nfs4_", "rpc_"].iter().any(|prefix| site.has(prefix)), "{:#?}", site.stack);
    }
}
