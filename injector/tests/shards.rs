//! A sweep in shards on CI systems: the scripts of deploy/ are called as these call them. The `injector` that they find here
//! only records how it was called, and leaves the journal that the test gave it.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Duration,
};

use injector::journal::{self, State};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

/// What `injector` is here. $STUB/leaves.I, if there is one, is the journal that shard I leaves.
const STUB: &str = r#"#!/bin/sh
verb=$1
{ echo "$verb"; for word; do echo "[$word]"; done; } >>"$STUB/called.$$"
while [ $# -gt 0 ]; do
	case $1 in
	--shard) shard=$2 ;;
	--journal | --output) file=$2 ;;
	--) break ;;
	esac
	shift
done
case $verb in
merge) echo merged >"$file" ;;
report) echo the report ;;
sweep)
	from=$STUB/leaves.${shard%/*}
	if [ -e "$from" ]; then cat "$from" >>"$file"; fi
	if [ -e "$STUB/sleeps" ]; then
		trap 'exit 4' TERM
		echo up >"$STUB/up"
		while :; do sleep 0.05; done
	fi
	;;
esac
exit "$(cat "$STUB/code.$verb" 2>/dev/null || echo 0)"
"#;

struct CiSystem {
    directory: TempDir,
}

impl CiSystem {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let ci = Self { directory };
        fs::create_dir(ci.path("results")).expect("made");
        fs::create_dir(ci.path("bin")).expect("made");
        fs::write(ci.path("bin/injector"), STUB).expect("written");
        fs::set_permissions(ci.path("bin/injector"), fs::Permissions::from_mode(0o755)).expect("set");
        ci
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn leaves(&self, shard: u32, journal: &str) {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/journals").join(journal);
        fs::copy(from, self.path(&format!("leaves.{shard}"))).expect("copied");
    }

    fn ends_with(&self, verb: &str, code: i32) {
        fs::write(self.path(&format!("code.{verb}")), code.to_string()).expect("written");
    }

    /// A process that the CI system starts, with these variables only.
    fn command(&self, script: &str, variables: &[(&str, &str)], arguments: &[&str]) -> Command {
        let mut command = Command::new(deploy(script));
        let path = format!("{}:{}", self.path("bin").display(), std::env::var("PATH").expect("a path"));
        command.env_clear().env("PATH", path).env("STUB", self.directory.path()).envs(variables.iter().copied());
        command.arg(self.path("results")).args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, script: &str, variables: &[(&str, &str)], arguments: &[&str]) -> (i32, String) {
        ended(&self.command(script, variables, arguments).output().expect("it can be run"))
    }

    /// How `injector` was called, in all processes, with the directory's name left out.
    fn calls(&self) -> Vec<String> {
        let mut all: Vec<String> = fs::read_dir(self.directory.path())
            .expect("a directory")
            .map(|entry| entry.expect("an entry").path())
            .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("called.")))
            .map(|path| fs::read_to_string(path).expect("read"))
            .map(|call| call.lines().skip(1).collect::<Vec<_>>().join(" "))
            .map(|call| call.replace(&format!("{}/", self.directory.path().display()), ""))
            .collect();
        all.sort();
        all
    }
}

fn deploy(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(name)
}

fn ended(output: &Output) -> (i32, String) {
    let text = [&output.stdout[..], &output.stderr].concat();
    (output.status.code().expect("it was not killed"), String::from_utf8(text).expect("UTF-8"))
}

const COMMAND: [&str; 6] = ["--vm", "/kernel/bzImage", "--", "/workloads/ext4.sh", "all", "two words"];

fn called(shard: &str, journal: &str, resume: &str) -> String {
    format!(
        "[sweep] [--shard] [{shard}] [--journal] [results/{journal}]{resume} [--vm] [/kernel/bzImage] [--] [/workloads/ext4.sh] [all] [two words]"
    )
}

/// As the Indexed Job does it: the pods side by side, each with its index; then the merge.
#[test]
fn an_indexed_job() {
    let ci = CiSystem::new();
    for shard in 0..2 {
        ci.leaves(shard, &format!("ext4-{shard}-of-2.jsonl"));
    }
    let pods: Vec<_> = ["0", "1"]
        .iter()
        .map(|index| {
            let variables = [("JOB_COMPLETION_INDEX", *index), ("SHARDS", "2")];
            ci.command("run-shard.sh", &variables, &COMMAND).spawn().expect("it can be run")
        })
        .collect();
    for (index, pod) in pods.into_iter().enumerate() {
        let output = pod.wait_with_output().expect("it ends");
        assert_eq!(ended(&output), (0, format!("run-shard: shard {index}/2 is done\n")));
    }
    assert_eq!(ci.calls(), [called("0/2", "sweep.0.jsonl", ""), called("1/2", "sweep.1.jsonl", "")]);

    let journals = ["sweep.0.jsonl", "sweep.1.jsonl"].map(|name| ci.path("results").join(name));
    let journals = journals.map(|path| journal::read(&path).expect("a journal"));
    let counts = State::of(&journal::merge(&journals).expect("shards of one sweep")).counts();
    assert_eq!((counts.seen, counts.left, counts.elsewhere), (9, 0, 0));
}

#[test]
fn other_ci_systems() {
    for (variables, shard) in [
        ([("SHARD", "3"), ("SHARDS", "4")], "3/4"),
        ([("CI_NODE_INDEX", "1"), ("CI_NODE_TOTAL", "4")], "0/4"),
        ([("CI_NODE_INDEX", "4"), ("CI_NODE_TOTAL", "4")], "3/4"),
    ] {
        let ci = CiSystem::new();
        assert_eq!(ci.run("run-shard.sh", &variables, &COMMAND).0, 0);
        let journal = format!("sweep.{}.jsonl", &shard[..1]);
        assert_eq!(ci.calls(), [called(shard, &journal, "")]);
    }
}

#[test]
fn a_pod_that_is_started_again_goes_on() {
    for left in ["sweep.1.jsonl", "sweep.1.jsonl.0-of-2"] {
        let ci = CiSystem::new();
        fs::write(ci.path("results").join(left), "").expect("written");
        let variables = [("JOB_COMPLETION_INDEX", "1"), ("SHARDS", "2")];
        assert_eq!(ci.run("run-shard.sh", &variables, &COMMAND).0, 0);
        assert_eq!(ci.calls(), [called("1/2", "sweep.1.jsonl", " [--resume]")], "{left}");
    }
}

#[test]
fn codes() {
    let variables = [("SHARD", "0"), ("SHARDS", "2")];
    let run = |journal: Option<&str>, code: i32| {
        let ci = CiSystem::new();
        if let Some(journal) = journal {
            ci.leaves(0, journal);
        }
        ci.ends_with("sweep", code);
        ci.run("run-shard.sh", &variables, &COMMAND)
    };
    // Findings don't make a CI system retry.
    assert_eq!(run(Some("nfs.jsonl"), 1), (0, "run-shard: shard 0/2 is done, with findings\n".to_owned()));
    assert_eq!(run(Some("nfs.jsonl"), 5), (0, "run-shard: shard 0/2 is done; it failed no site\n".to_owned()));
    // Findings so far, but the sweep has not come to its end.
    assert_eq!(run(None, 1).0, 1);
    for code in [2, 3, 4, 70, 74, 75] {
        assert_eq!(run(Some("nfs.jsonl"), code).0, code);
    }
}

#[test]
fn an_eviction_reaches_the_injector() {
    let ci = CiSystem::new();
    fs::write(ci.path("sleeps"), "").expect("written");
    let variables = [("JOB_COMPLETION_INDEX", "0"), ("SHARDS", "1")];
    let pod = ci.command("run-shard.sh", &variables, &COMMAND).spawn().expect("it can be run");
    while !ci.path("up").exists() {
        std::thread::sleep(Duration::from_millis(10));
    }
    kill(Pid::from_raw(i32::try_from(pod.id()).expect("a pid")), Signal::SIGTERM).expect("it is there");
    assert_eq!(ended(&pod.wait_with_output().expect("it ends")).0, 4);
}

#[test]
fn bad_environments() {
    let ci = CiSystem::new();
    for (variables, message) in [
        (&[][..], "the environment does not say which shard this is: set SHARD (from 0) and SHARDS"),
        (&[("SHARD", "0")], "the number of shards (SHARDS or CI_NODE_TOTAL) is ``; it must be a number"),
        (&[("SHARD", "4"), ("SHARDS", "4")], "shard 4 of 4: the first is 0, the last 3"),
        (&[("SHARD", "-1"), ("SHARDS", "4")], "SHARD is `-1`; it must be a number"),
        (&[("CI_NODE_INDEX", "0"), ("CI_NODE_TOTAL", "4")], "CI_NODE_INDEX-1 is `-1`; it must be a number"),
        (
            &[("JOB_COMPLETION_INDEX", "$(reboot)"), ("SHARDS", "4")],
            "JOB_COMPLETION_INDEX is `$(reboot)`; it must be a number",
        ),
    ] {
        let ended = ci.run("run-shard.sh", variables, &COMMAND);
        assert_eq!(ended, (2, format!("run-shard: {message}\n")));
    }
    assert_eq!(ci.calls(), Vec::<String>::new());
}

#[test]
fn merging() {
    let ci = CiSystem::new();
    for name in ["sweep.0.jsonl", "sweep.1.jsonl.0-of-2", "sweep.1.jsonl.1-of-2", "sweep.10.jsonl"] {
        fs::write(ci.path("results").join(name), "{}\n").expect("written");
    }
    // Of a shard that never started: as if it were not there.
    fs::write(ci.path("results/sweep.2.jsonl"), "").expect("written");
    let merge = |shards| {
        let ended = ci.run("merge-shards.sh", &[], &[shards]);
        let calls = ci.calls();
        for entry in fs::read_dir(ci.directory.path()).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.display().to_string().contains("called.") {
                fs::remove_file(path).expect("removed");
            }
        }
        (ended, calls)
    };
    let all = "[results/sweep.0.jsonl] [results/sweep.1.jsonl.0-of-2] [results/sweep.1.jsonl.1-of-2]";
    let report = "[report] [results/merged.jsonl] [--html] [results/report.html] [--junit] [results/report.xml]";
    let (ended, calls) = merge("2");
    assert_eq!(ended, (0, "the report\n".to_owned()));
    assert_eq!(calls, [&format!("[merge] [--output] [results/merged.jsonl] {all}"), report]);

    ci.ends_with("report", 1);
    assert_eq!(merge("2").0, (1, "the report\n".to_owned()));
    let (ended, calls) = merge("3");
    assert_eq!(ended, (2, "the report\nmerge-shards: no journal of shard 2\n".to_owned()));
    assert_eq!(calls.len(), 2);

    ci.ends_with("merge", 2);
    let (ended, calls) = merge("2");
    assert_eq!((ended.0, calls.len()), (2, 1));
}

fn documents(name: &str) -> Vec<serde_norway::Value> {
    let text = fs::read_to_string(deploy(name)).expect("the file");
    let documents = serde_norway::Deserializer::from_str(&text);
    documents.map(|document| serde::Deserialize::deserialize(document).expect("YAML")).collect()
}

#[test]
fn the_manifest() {
    let documents = documents("kubernetes/injector-sweep.yaml");
    let [claim, sweep, report] = &documents[..] else { panic!("three documents") };
    assert_eq!(claim["kind"], "PersistentVolumeClaim");
    assert_eq!(claim["spec"]["accessModes"][0], "ReadWriteMany");
    for job in [sweep, report] {
        assert_eq!((job["apiVersion"].as_str(), job["kind"].as_str()), (Some("batch/v1"), Some("Job")));
        let pod = &job["spec"]["template"]["spec"];
        // Jobs allow Never and OnFailure; failure policies need Never.
        assert_eq!(pod["restartPolicy"], "Never");
        assert_eq!(pod["volumes"][0]["persistentVolumeClaim"]["claimName"], claim["metadata"]["name"]);
        let container = &pod["containers"][0];
        assert_eq!(container["volumeMounts"][0]["name"], pod["volumes"][0]["name"]);
        assert_eq!(container["volumeMounts"][0]["mountPath"], container["command"][1]);
        let script = container["command"][0].as_str().expect("a script");
        let script = deploy(script.strip_prefix("/deploy/").expect("one of deploy/"));
        assert_ne!(fs::metadata(&script).expect("it is there").permissions().mode() & 0o111, 0);
    }
    let spec = &sweep["spec"];
    assert_eq!(spec["completionMode"], "Indexed");
    let shards = spec["completions"].as_u64().expect("a number");
    let container = &spec["template"]["spec"]["containers"][0];
    assert_eq!(container["env"][0]["name"], "SHARDS");
    assert_eq!(container["env"][0]["value"], shards.to_string());
    assert_eq!(report["spec"]["template"]["spec"]["containers"][0]["command"][2], shards.to_string());
    let rule = &spec["podFailurePolicy"]["rules"][0]["onExitCodes"];
    assert_eq!(rule["containerName"], container["name"]);

    // What the pod runs, run.
    let ci = CiSystem::new();
    let last = (shards - 1).to_string();
    let arguments: Vec<&str> =
        container["args"].as_sequence().expect("a list").iter().map(|word| word.as_str().expect("text")).collect();
    let count = shards.to_string();
    let variables = [("JOB_COMPLETION_INDEX", last.as_str()), ("SHARDS", count.as_str())];
    assert_eq!(ci.run("run-shard.sh", &variables, &arguments).0, 0);
    let call = &ci.calls()[0];
    assert!(call.starts_with(&format!("[sweep] [--shard] [{last}/{count}] ")), "{call}");
    assert!(call.contains(" [--vm] [/kernel/bzImage] [--] "), "{call}");
}

#[test]
fn the_workflow() {
    let documents = documents("github/injector-sweep.yml");
    let [workflow] = &documents[..] else { panic!("one document") };
    let (sweep, report) = (&workflow["jobs"]["sweep"], &workflow["jobs"]["report"]);
    let shards = sweep["strategy"]["matrix"]["shard"].as_sequence().expect("a list");
    let step = |job: &serde_norway::Value, what: &str| {
        let steps = job["steps"].as_sequence().expect("a list");
        let run = |step: &&serde_norway::Value| step["run"].as_str().is_some_and(|run| run.contains(what));
        steps.iter().find(run).cloned().expect("such a step")
    };
    let run = step(sweep, "deploy/run-shard.sh");
    assert_eq!(run["env"]["SHARD"], "${{ matrix.shard }}");
    assert_eq!(run["env"]["SHARDS"], "${{ strategy.job-total }}");
    assert_eq!(report["needs"], "sweep");
    let merge = step(report, "deploy/merge-shards.sh");
    let merge = merge["run"].as_str().expect("text");
    assert!(merge.trim_end().ends_with(&format!("deploy/merge-shards.sh results {}", shards.len())), "{merge}");

    // What each runner runs, run, in a checkout.
    let ci = CiSystem::new();
    let commands = run["run"].as_str().expect("text");
    std::os::unix::fs::symlink(deploy(""), ci.path("deploy")).expect("linked");
    for (index, shard) in shards.iter().enumerate() {
        assert_eq!(shard.as_u64(), Some(index as u64));
        let output = Command::new("sh")
            .args(["-ec", commands])
            .current_dir(ci.directory.path())
            .env("STUB", ci.directory.path())
            .envs([("SHARD", index.to_string()), ("SHARDS", shards.len().to_string())])
            .output()
            .expect("it can be run");
        assert_eq!(ended(&output), (0, format!("run-shard: shard {index}/{} is done\n", shards.len())));
    }
    assert_eq!(ci.calls().len(), shards.len());
}
