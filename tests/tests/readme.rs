//! Runs every `injector` command of the README and the guide, word for word.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use injector_tests::worker::{Options, PidNamespace};
use injector_tests::{Cgroup, Worker};

const README: &str = include_str!("../../README.md");
const GUIDE: &str = include_str!("../../docs/guide.md");
/// How long a run may take until it is armed, or until it ends if it has a command or a duration.
const LIMIT: Duration = Duration::from_secs(60);

fn commands(text: &'static str) -> impl Iterator<Item = &'static str> {
    // To build a module takes headers, which the guest does not have. The stock kernels' tests load one.
    text.lines().filter_map(|line| line.strip_prefix("$ sudo ")).filter(|line| !line.starts_with("injector module "))
}

#[test]
fn there_are_commands() {
    let readme: Vec<&str> = commands(README).collect();
    assert!(readme.contains(&"injector --gfp NOFS --order-lt 4 --prob 0.01"), "the main job, exactly so: {readme:?}");
    let guide: Vec<&str> = commands(GUIDE).collect();
    assert!(guide.len() >= 26, "{guide:?}");
}

fn program(path: &str, script: &str) {
    std::fs::write(path, format!("#!/bin/sh\n{script}\n")).expect("a file in /tmp");
    std::fs::set_permissions(path, Permissions::from_mode(0o755)).expect("our own file");
}

/// What the commands name: a container's cgroup, and a process in a PID namespace of its own, whose id Docker would tell.
struct Named {
    container: Cgroup,
    process: Worker,
}

impl Named {
    fn new() -> Self {
        let process = Worker::start_with(Options { pid_namespace: PidNamespace::New, ..Options::default() });
        program("/tmp/docker", &format!("echo {}", process.pid()));
        Self { container: Cgroup::new(&format!("docker-{:0<64}.scope", "3f2a9c")), process }
    }

    fn remove(self) {
        self.process.end();
        self.container.remove();
    }
}

#[test]
fn each_command_works() {
    let named = Named::new();
    for command in commands(README).chain(commands(GUIDE)) {
        let ends_by_itself = command.contains(" -- ") || command.contains("--duration");
        let errors = injector_tests::daemon::scratch("readme-stderr");
        let file = std::fs::File::create(&errors).expect("a file in /tmp");
        let mut child = Command::new("sh")
            .args(["-c", &format!("PATH=/tmp:$PATH; exec {command}")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .expect("sh");
        let text = || std::fs::read_to_string(&errors).unwrap_or_default();
        let start = Instant::now();
        let mut asked = false;
        let status = loop {
            if let Some(status) = child.try_wait().expect("our child") {
                break status;
            }
            assert!(start.elapsed() < LIMIT, "`{command}` goes on after {LIMIT:?}: {}", text());
            if !ends_by_itself && !asked && text().contains("injector: armed") {
                // SAFETY: our own child, not waited for yet.
                assert_eq!(unsafe { libc::kill(child.id() as i32, libc::SIGINT) }, 0);
                asked = true;
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        let text = text();
        assert!(text.contains("injector: armed"), "`{command}`: {status}: {text}");
        // A command under injection may fail, and then its status is passed on; the injector's own are 1 to 3.
        let of_the_command = command.contains(" -- ") && text.contains("exit status of the command");
        assert!(status.success() || of_the_command || command.contains("--output"), "`{command}`: {status}: {text}");
        println!("{command}: {status}");
    }
    named.remove();
}
