//! While a run goes on: the control socket, the metrics, the status on a terminal.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use injector_tests::daemon::{INJECTOR, scratch};
use injector_tests::terminal::OnTerminal;
use injector_tests::{Injector, Worker, bpf, refused, shell};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(30);

fn default_socket(injector: &Injector) -> PathBuf {
    format!("/run/injector/{}.sock", injector.pid()).into()
}

fn text(output: &[u8]) -> String {
    String::from_utf8_lossy(output).into_owned()
}

/// `injector ctl`, which must work.
fn ctl(arguments: &[&str]) -> String {
    let output = shell::output(INJECTOR, &[&["ctl"], arguments].concat(), LIMIT);
    assert!(output.status.success(), "ctl {arguments:?}: {}: {}", output.status, text(&output.stderr));
    assert!(output.stderr.is_empty(), "ctl {arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// `injector ctl`, which must be refused with a line that has all of `says`.
fn ctl_refused(arguments: &[&str], says: &[&str]) {
    assert_refused(&shell::output(INJECTOR, &[&["ctl"], arguments].concat(), LIMIT), says);
}

fn assert_refused(output: &Output, says: &[&str]) {
    let stderr = text(&output.stderr);
    assert_eq!((output.status.code(), stderr.lines().count()), (Some(2), 1), "{stderr}");
    assert!(output.stdout.is_empty(), "{}", text(&output.stdout));
    for word in says {
        assert!(stderr.contains(word), "{word:?} is missing: {stderr}");
    }
}

fn status(pid: &str) -> Value {
    serde_json::from_str(&ctl(&["--pid", pid, "status", "--json"])).expect("JSON")
}

fn failed(worker: &Worker) -> u64 {
    worker.run("kind=slab count=100").failed
}

#[test]
fn pause_stops_the_failures_and_resume_goes_on() {
    let worker = Worker::start();
    let arguments = ["--hook", "slab", "--pid", &worker.pid_arg(), "--control", "--ttl", "500ms"];
    let injector = Injector::start(&arguments);
    let pid = injector.pid().to_string();
    assert_eq!(failed(&worker), 100);
    assert!(ctl(&["--pid", &pid, "pause"]).starts_with("paused after"));
    assert_eq!(status(&pid)["state"], "paused");
    assert_eq!(failed(&worker), 0);
    // Longer than failures go on without a heartbeat.
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(failed(&worker), 0);
    assert!(ctl(&["--pid", &pid, "resume"]).starts_with("running for"));
    assert_eq!(failed(&worker), 100);
    let report = injector.stop();
    assert_eq!((report.total("failures"), report.total("matches")), (200, 200), "{}", report.summary);
    report.assert_accounts_with_lines();
}

#[test]
fn knobs_take_effect() {
    let worker = Worker::start();
    let injector = Injector::start(&["--hook", "slab", "--pid", &worker.pid_arg(), "--control"]);
    let pid = injector.pid().to_string();
    assert_eq!(failed(&worker), 100);
    let said = ctl(&["--pid", &pid, "set", "prob=0"]);
    assert!(said.contains("default: prob=0\n"), "{said}");
    assert_eq!(failed(&worker), 0);
    assert!(ctl(&["--pid", &pid, "set", "default.prob=100%"]).contains("default: prob=1\n"));
    assert_eq!(failed(&worker), 100);
    // One that can't be changed: then none is.
    ctl_refused(&["--pid", &pid, "set", "prob=0", "rate=10/s"], &["no rate"]);
    ctl_refused(&["--pid", &pid, "set", "prob=0", "other.prob=0"], &["`other`", "default"]);
    assert_eq!(failed(&worker), 100);
    let said = ctl(&["--pid", &pid, "set", "times=30"]);
    assert!(said.contains("times=30 (left)"), "{said}");
    assert_eq!(failed(&worker), 30);
    let report = injector.finish_well();
    assert_eq!((report.total("failures"), report.end()), (330, "budget"), "{}", report.summary);
    assert_eq!(report.hook("slab").get("passed"), 100, "{}", report.summary);
    report.assert_accounts_with_lines();
}

#[test]
fn of_several_rules_one_is_named() {
    const RULES: &str = r#"
        [[rule]]
        name = "small"
        hook = ["slab"]
        cache = ["injector_test_64"]
        prob = 1
        rate = "5/s"

        [[rule]]
        name = "big"
        hook = ["slab"]
        cache = ["injector_test_4k"]
        prob = 1
        "#;
    let plan = scratch("rules.toml");
    std::fs::write(&plan, RULES).expect("written");
    let worker = Worker::start();
    let arguments = ["--pid", &worker.pid_arg(), "--plan", plan.to_str().expect("UTF-8"), "--control"];
    let injector = Injector::start(&arguments);
    let failed = |cache: &str, count: u64| worker.run(&format!("kind=slab cache={cache} count={count}")).failed;
    ctl_refused(&["set", "prob=0"], &["small.prob=…", "big.prob=…"]);
    ctl_refused(&["set", "big.rate=7/s"], &["big", "no rate"]);
    let few = failed("injector_test_64", 1000);
    assert!((1..100).contains(&few), "{few}");
    assert_eq!(failed("injector_test_4k", 100), 100);
    let said = ctl(&["set", "big.prob=0", "small.rate=1000000/s"]);
    assert!(said.contains("small: prob=1 rate=1000000/s\n") && said.contains("big: prob=0\n"), "{said}");
    // The last failure's turn at the old rate is over.
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!((failed("injector_test_64", 100), failed("injector_test_4k", 100)), (100, 0));
    let status: Value = serde_json::from_str(&ctl(&["status", "--json"])).expect("JSON");
    let failures = [0, 1].map(|place| status["rules"][place]["hooks"][0]["failures"].as_u64());
    assert_eq!(failures, [Some(few + 100), Some(100)], "{status}");
    ctl(&["stop"]);
    let report = injector.finish_well();
    assert_eq!((report.end(), report.total("failures")), ("control", few + 200), "{}", report.summary);
    report.assert_accounts_with_lines();
}

#[test]
fn status_tells_the_counts_and_stop_ends_in_order() {
    let worker = Worker::start();
    let arguments =
        ["--prob", "0.5", "--times", "1000000", "--duration", "10m", "--pid", &worker.pid_arg(), "--control"];
    let mut injector = Injector::start(&arguments);
    let socket = default_socket(&injector);
    let said = injector.said();
    assert!(said.lines().any(|line| line == format!("injector: control: {}", socket.display())), "{said}");
    let slab = worker.run("kind=slab count=500").failed;
    let page = worker.run("kind=page count=300").failed;
    // The only run there is.
    let status: Value = serde_json::from_str(&ctl(&["status", "--json"])).expect("JSON");
    let rule = &status["rules"][0];
    let of = |hook: &str, name: &str| {
        let hooks = rule["hooks"].as_array().expect("hooks");
        hooks.iter().find(|entry| entry["hook"] == hook).expect("the hook")[name].as_u64()
    };
    assert_eq!((status["state"].as_str(), rule["name"].as_str()), (Some("running"), Some("default")), "{status}");
    assert_eq!((rule["prob"].as_f64(), rule["times_left"].as_u64()), (Some(0.5), Some(1_000_000 - slab - page)));
    assert_eq!((of("slab", "matches"), of("slab", "failures")), (Some(500), Some(slab)), "{status}");
    assert_eq!((of("page", "matches"), of("page", "failures")), (Some(300), Some(page)), "{status}");
    assert_eq!(status["delivered"].as_u64(), Some(slab + page), "{status}");
    let left = status["left_ns"].as_u64().expect("a duration") / 1_000_000_000;
    assert!((500..600).contains(&left), "{status}");
    let said = ctl(&["status"]);
    assert!(said.starts_with("running for ") && said.contains(&format!("{} failures", slab + page)), "{said}");
    println!("{said}");
    assert!(ctl(&["stop"]).starts_with("stopping after"));
    assert!(!socket.exists());
    let report = injector.finish_well();
    assert_eq!((report.end(), report.total("failures")), ("control", slab + page), "{}", report.summary);
    report.assert_accounts_with_lines();
}

#[test]
fn only_root_may() {
    let worker = Worker::start();
    let socket = scratch("control.sock");
    std::fs::remove_file(&socket).expect("ours");
    let injector =
        Injector::start(&["--hook", "slab", "--pid", &worker.pid_arg(), &format!("--control={}", socket.display())]);
    let mode = || std::fs::metadata(&socket).expect("the socket").permissions().mode() & 0o777;
    assert_eq!(mode(), 0o600);
    let as_user = |wish: &str| {
        let mut command = Command::new(INJECTOR);
        command.arg("ctl").arg("--socket").arg(&socket).arg(wish).uid(1000).gid(1000);
        command.output().expect("the injector")
    };
    for wish in ["status", "pause", "stop"] {
        assert_refused(&as_user(wish), &["permission denied", "only root"]);
    }
    // Whatever becomes of the file's mode.
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o666)).expect("ours");
    for wish in ["status", "pause", "stop"] {
        assert_refused(&as_user(wish), &["only root"]);
    }
    assert_eq!(failed(&worker), 100);
    assert_eq!(injector.stop().total("failures"), 100);
    assert!(!socket.exists());
}

#[test]
fn sockets_of_the_dead_and_of_the_living() {
    refused(&["ctl", "status"], 2, &["/run/injector", "--control"]);
    refused(&["ctl", "--pid", "1", "pause"], 2, &["/run/injector/1.sock"]);
    let worker = Worker::start();
    let path = scratch("again.sock");
    std::fs::remove_file(&path).expect("ours");
    let option = format!("--control={}", path.display());
    let arguments = ["--hook", "slab", "--pid", &worker.pid_arg(), option.as_str()];
    let killed = Injector::start(&arguments);
    killed.kill();
    bpf::gone_within(Duration::from_secs(1), "killed");
    assert!(path.exists(), "a killed run can't remove it");
    ctl_refused(&["--socket", path.to_str().expect("UTF-8"), "status"], &["no run listens"]);
    let living = Injector::start(&arguments);
    let again = shell::output(INJECTOR, &arguments, LIMIT);
    assert_refused(&again, &[&path.display().to_string(), "running injector"]);
    assert_eq!(failed(&worker), 100);
    assert!(ctl(&["--socket", path.to_str().expect("UTF-8"), "stop"]).starts_with("stopping"));
    living.finish_well();
    // A file of somebody's is no socket of ours.
    let file = scratch("precious");
    refused(&["--all", "--times", "1", &format!("--control={}", file.display())], 2, &["precious", "not a socket"]);
    assert!(file.exists());
    refused(&["--all", "--times", "1", "--control=/no/such/place.sock"], 2, &["/no/such/place.sock"]);
}

#[test]
fn several_runs_have_to_be_told_apart() {
    let workers = [Worker::start(), Worker::start()];
    let runs =
        workers.each_ref().map(|worker| Injector::start(&["--hook", "slab", "--pid", &worker.pid_arg(), "--control"]));
    let pids = runs.each_ref().map(|run| run.pid().to_string());
    ctl_refused(&["pause"], &["several", &format!("--pid {}", pids[0]), &format!("--pid {}", pids[1])]);
    ctl(&["--pid", &pids[0], "pause"]);
    assert_eq!(workers.each_ref().map(failed), [0, 100]);
    let [first, second] = runs;
    first.signal(libc::SIGINT);
    first.finish_unchecked();
    ctl(&["stop"]);
    assert_eq!(second.finish_well().total("failures"), 100);
}

/// Clients that are slow, silent, or don't stop talking.
#[test]
fn bad_clients_do_not_hold_the_run_up() {
    let worker = Worker::start();
    let injector = Injector::start(&["--hook", "slab", "--pid", &worker.pid_arg(), "--control", "--ttl", "500ms"]);
    let socket = default_socket(&injector);
    let connect = || UnixStream::connect(&socket).expect("connected");
    let silent: Vec<_> = (0..7).map(|_| connect()).collect();
    let babbler = std::thread::spawn({
        let mut client = connect();
        move || while client.write_all(&[b'x'; 4000]).is_ok() {}
    });
    babbler.join().expect("cut off");
    let mut client = connect();
    client.write_all(b"\xff\0{]\n{\"do\":\"status\"}\n").expect("written");
    let mut answers = [0; 8192];
    client.set_read_timeout(Some(LIMIT)).expect("set");
    let mut length = 0;
    while answers[..length].iter().filter(|&&byte| byte == b'\n').count() < 2 {
        length += client.read(&mut answers[length..]).expect("answers");
    }
    let answers = text(&answers[..length]);
    assert!(answers.starts_with("{\"ok\":false,\"error\":\"this is no request"), "{answers}");
    assert!(answers.contains("{\"ok\":true,\"state\":\"running\""), "{answers}");
    // The eight of them.
    let mut one_more = connect();
    one_more.set_read_timeout(Some(LIMIT)).expect("set");
    let mut answer = String::new();
    one_more.read_to_string(&mut answer).expect("an answer");
    assert!(answer.contains("8 connections"), "{answer}");
    // The heartbeat goes on all the while.
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(failed(&worker), 100);
    let start = Instant::now();
    injector.stop();
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    drop(silent);
}

fn get(address: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap_or_else(|e| panic!("{address}: {e}"));
    stream.set_read_timeout(Some(LIMIT)).expect("set");
    stream.write_all(request.as_bytes()).expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

/// The loopback device is down in a fresh guest.
fn loopback() {
    let output = shell::output("ip", &["link", "set", "lo", "up"], LIMIT);
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn metrics_agree_with_the_summary() {
    loopback();
    let worker = Worker::start();
    let mut injector =
        Injector::start(&["--prob", "0.5", "--pid", &worker.pid_arg(), "--metrics", "127.0.0.1:0", "--control"]);
    let said = injector.said();
    let address = said.lines().find_map(|line| line.strip_prefix("injector: metrics: http://")).expect(&said);
    let address = address.strip_suffix("/metrics").expect("a path").to_owned();
    worker.run("kind=slab count=700");
    worker.run("kind=page count=300");
    let answer = get(&address, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains("Content-Type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n"), "{head}");
    assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{head}");
    assert!(body.ends_with("# EOF\n"), "{body}");
    assert!(get(&address, "GET / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404"));
    assert!(get(&address, "nonsense\r\n\r\n").starts_with("HTTP/1.1 400"));
    let slow = TcpStream::connect(&address).expect("connected");
    assert!(get(&address, "HEAD /metrics HTTP/1.1\r\n\r\n").ends_with("\r\n\r\n"));
    ctl(&["pause"]);
    let paused = get(&address, "GET /metrics HTTP/1.1\r\n\r\n");
    assert!(body.contains("\ninjector_armed 1\n") && paused.contains("\ninjector_armed 0\n"), "{paused}");
    let report = injector.stop();
    drop(slow);
    let value = |sample: &str| {
        let line = body.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {sample} in {body}")).parse::<u64>().expect("a number")
    };
    for hook in ["slab", "page"] {
        let counters = report.summary["hooks"][hook].as_object().expect("counters");
        assert!(counters.len() > 10);
        for (name, counter) in counters {
            let sample = format!("injector_{name}_total{{hook=\"{hook}\",rule=\"default\"}}");
            // Interrupts on top of the target go on, and none of their calls matches.
            if name != "calls" && name != "bystander" {
                assert_eq!(Some(value(&sample)), counter.as_u64(), "{sample}: {}", report.summary);
            } else {
                assert!(Some(value(&sample)) <= counter.as_u64(), "{sample}: {}", report.summary);
            }
        }
    }
    assert_eq!(value("injector_events_delivered_total"), report.total("delivered"), "{}", report.summary);
    let kernel = report.start["kernel"].as_str().expect("a release");
    assert!(body.contains(&format!("kernel=\"{kernel}\"")), "{body}");
}

#[test]
fn a_busy_port_is_refused_and_nothing_is_lost() {
    loopback();
    let busy = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = busy.local_addr().expect("an address").to_string();
    let output = scratch("kept");
    std::fs::write(&output, "of an earlier run\n").expect("written");
    let path = output.to_str().expect("UTF-8");
    refused(&["--all", "--times", "1", "--output", path, "--control", "--metrics", &address], 2, &[&address, "in use"]);
    assert_eq!(std::fs::read_to_string(&output).expect("there"), "of an earlier run\n");
    refused(&["--all", "--times", "1", "--metrics", "192.0.2.1:9099"], 2, &["192.0.2.1:9099"]);
    assert_eq!(std::fs::read_dir("/run/injector").map_or(0, Iterator::count), 0, "a socket was left");
}

/// Below the lines of the failures, which stay whole; and gone in the end.
#[test]
fn a_terminal_shows_how_the_run_stands() {
    let worker = Worker::start();
    let pid = worker.pid_arg();
    let arguments = ["--hook", "slab", "--pid", &pid, "--duration", "10m"];
    let run = OnTerminal::start(INJECTOR, &arguments);
    run.wait(LIMIT * 2, |screen| screen.contains("injector: armed"));
    worker.run("kind=slab count=200 chain=a");
    let screen = run.wait(LIMIT, |screen| screen.contains("200 in all") && screen.contains("most at"));
    println!("{screen}");
    let last: Vec<_> = screen.lines().rev().take(2).collect();
    assert!(last[0].starts_with("most at: injector_test_"), "{screen}");
    assert!(last[1].contains(" matches/s ") && last[1].contains(" left ") && last[1].ends_with(" 0 lost"), "{screen}");
    worker.run("kind=slab count=100");
    run.wait(LIMIT, |screen| screen.contains("300 in all"));
    let (code, screen) = run.end(libc::SIGINT);
    assert_eq!(code, Some(0), "{screen}");
    assert!(screen.contains("interrupted by a signal: 300 failures"), "{screen}");
    assert!(!screen.contains("matches/s") && !screen.contains("most at"), "{screen}");
    assert_eq!(screen.lines().filter(|line| line.contains(" site=")).count(), 300, "{screen}");

    let run = OnTerminal::start(INJECTOR, &[&arguments[..], &["--no-status"]].concat());
    run.wait(LIMIT * 2, |screen| screen.contains("injector: armed"));
    std::thread::sleep(Duration::from_secs(2));
    let written = run.written();
    assert!(!written.contains('\x1b') && !written.contains("matches/s"), "{written}");
    run.end(libc::SIGINT);
}

#[test]
fn elsewhere_there_is_no_status() {
    let worker = Worker::start();
    let mut injector = Injector::start(&["--hook", "slab", "--pid", &worker.pid_arg()]);
    worker.run("kind=slab count=100");
    std::thread::sleep(Duration::from_secs(2));
    let said = injector.said();
    assert_eq!(said.lines().count(), 1, "{said}");
    injector.stop();
}
