//! What a guest sends through its data port is on the host, whatever becomes of the guest.
//!
//! These boot guests, so they are asked for by name: `cargo xtask test` does it for each of its kernels, and by hand
//! `INJECTOR_GUEST_KERNEL=path/to/bzImage cargo test -p injector-guest --test data_port -- --ignored`.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::env;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use injector_guest::engines::Qemu;
use injector_guest::root::{self, Image};
use injector_guest::{BootError, Command, DataPort, Engine, GuestEnd, GuestSpec, Streams};

/// Finds the port; its device is $port then.
const FIND: &str = "for port in /sys/class/virtio-ports/*; do read name < $port/name; \
    if [ $name = injector.data ]; then break; fi; done; port=/dev/${port##*/}";

/// This program, in the guest.
const SELF: &str = "/usr/bin/data_port";

/// Keeps what came; it may take its time, or be full.
#[derive(Clone, Default)]
struct Kept {
    all: Arc<Mutex<Vec<u8>>>,
    delay: Duration,
    full: bool,
}

impl Kept {
    fn bytes(&self) -> Vec<u8> {
        self.all.lock().unwrap().clone()
    }

    fn text(&self) -> String {
        String::from_utf8(self.bytes()).unwrap()
    }
}

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        thread::sleep(self.delay);
        self.all.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Guest {
    spec: GuestSpec,
    _image: Image,
}

impl Guest {
    fn new() -> Self {
        let kernel = env::var_os("INJECTOR_GUEST_KERNEL").expect("INJECTOR_GUEST_KERNEL names a bzImage");
        let mut root = root::base(env!("CARGO_BIN_EXE_injector-init").as_ref()).unwrap().root;
        root.program(&env::current_exe().unwrap(), SELF).unwrap();
        let image = Image::new(&root).unwrap();
        let mut spec = GuestSpec::new(&PathBuf::from(kernel), vec![image.path().to_owned()]);
        spec.timeout = Some(Duration::from_secs(300));
        Self { spec, _image: image }
    }
}

fn shell(script: &str) -> Command {
    Command::new(["sh", "-c", script])
}

fn to(data: &Kept) -> (Streams, Kept, Kept) {
    let (output, console) = (Kept::default(), Kept::default());
    let streams = Streams::to(Box::new(output.clone()), Box::new(output.clone()));
    let (data, console_copy) = (Some(Box::new(data.clone()) as _), Some(Box::new(console.clone()) as _));
    (Streams { data, console: console_copy, ..streams }, output, console)
}

/// `INJECTOR_BOOTS` says how often; 20 of 20 were seen by hand.
#[test]
#[ignore = "boots guests"]
fn a_line_is_there_although_the_kernel_panics_at_once() {
    let mut guest = Guest::new();
    let boots = env::var("INJECTOR_BOOTS").ok().and_then(|boots| boots.parse().ok()).unwrap_or(3);
    for boot in 0..boots {
        guest.spec.files = vec![("/said".to_owned(), format!("this is boot {boot}\n").into_bytes())];
        let data = Kept::default();
        let (streams, _, live) = to(&data);
        // One shell without forks: nothing but two system calls lies between the line and the panic.
        let script = format!("{FIND}; read line < /said; exec 3>/proc/sysrq-trigger; echo $line > $port; echo c >&3");
        let run = Qemu.run(&guest.spec, &shell(&script), streams).unwrap();
        assert!(matches!(run.end, GuestEnd::Panic(_)), "{:?}", run.end);
        assert_eq!(data.text(), format!("this is boot {boot}\n"), "boot {boot} of {boots}");
        let console = run.console;
        assert!(console.contains("sysrq triggered crash"), "{console}");
        assert!(live.text().contains("sysrq triggered crash"));
    }
}

#[test]
#[ignore = "boots guests"]
fn what_is_flushed_is_stored_on_a_slow_host_and_after_a_panic() {
    let guest = Guest::new();
    let data = Kept { delay: Duration::from_millis(30), ..Kept::default() };
    let (streams, output, _) = to(&data);
    // Another opener before it: acknowledgements count from the boot on.
    let script = format!(
        "{FIND}; echo first > $port; INJECTOR_IN_GUEST=1 {SELF} --ignored --exact in_the_guest && echo c > /proc/sysrq-trigger"
    );
    let run = Qemu.run(&guest.spec, &shell(&script), streams).unwrap();
    assert!(matches!(run.end, GuestEnd::Panic(_)), "{:?} {}", run.end, output.text());
    let mut expected = b"first\n".to_vec();
    expected.extend(every_byte());
    expected.extend(b"second");
    assert!(data.bytes() == expected, "{} bytes instead of {}", data.bytes().len(), expected.len());
}

/// More than one buffer of the port's driver (32 KiB).
fn every_byte() -> Vec<u8> {
    (0..200_000_u32).map(|number| (number ^ (number >> 8)) as u8).collect()
}

#[test]
#[ignore = "the part in the guest; alone it does nothing"]
fn in_the_guest() {
    if env::var_os("INJECTOR_IN_GUEST").is_none() {
        return;
    }
    let mut port = DataPort::open().unwrap();
    assert!(DataPort::open().is_err(), "it can be opened once");
    port.write_all(&every_byte()).unwrap();
    port.flush().unwrap();
    drop(port);
    let mut port = DataPort::open().unwrap();
    port.write_all(b"second").unwrap();
    port.flush().unwrap();
}

#[test]
#[ignore = "boots guests"]
fn a_full_disk_ends_the_guest() {
    let guest = Guest::new();
    let data = Kept { full: true, ..Kept::default() };
    let (streams, ..) = to(&data);
    let error = Qemu.run(&guest.spec, &shell(&format!("{FIND}; echo x > $port; sleep 250")), streams).unwrap_err();
    assert!(matches!(error, BootError::Data { .. }), "{error}");
}
