//! A terminal that a program writes to, and what there is to be seen on it.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use std::{sync::Arc, sync::Mutex};

use nix::pty::{Winsize, openpty};

use crate::shell;

const ROWS: u16 = 40;
const COLUMNS: u16 = 200;
/// Lines that scrolled off can still be seen.
const SCROLLBACK: usize = 10_000;

/// A program on a terminal of its own, which its standard output and error are.
#[derive(Debug)]
pub struct OnTerminal {
    child: Child,
    written: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl OnTerminal {
    /// Starts it.
    pub fn start(program: &str, arguments: &[&str]) -> Self {
        let size = Winsize { ws_row: ROWS, ws_col: COLUMNS, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(&size, None).unwrap_or_else(|e| panic!("openpty: {e}"));
        let slave: OwnedFd = pty.slave;
        let another = slave.try_clone().unwrap_or_else(|e| panic!("dup: {e}"));
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(slave).stderr(another).env("TERM", "xterm");
        let child = command.spawn().unwrap_or_else(|e| panic!("{program}: {e}"));
        // The program's end of the terminal is closed with it.
        drop(command);
        let written = Arc::<Mutex<Vec<u8>>>::default();
        let (mut master, sink) = (File::from(pty.master), Arc::clone(&written));
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // EIO: nobody has the other end any more.
            while let Ok(length @ 1..) = master.read(&mut buffer) {
                sink.lock().expect("no panic").extend_from_slice(&buffer[..length]);
            }
        });
        Self { child, written, reader: Some(reader) }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything that it wrote, with the terminal's commands.
    pub fn written(&self) -> String {
        String::from_utf8_lossy(&self.written.lock().expect("no panic")).into_owned()
    }

    /// What is to be seen now, what scrolled off included.
    pub fn screen(&self) -> String {
        let mut terminal = vt100::Parser::new(ROWS, COLUMNS, SCROLLBACK);
        terminal.process(&self.written.lock().expect("no panic"));
        let screen = terminal.screen_mut();
        screen.set_scrollback(SCROLLBACK);
        let mut back = screen.scrollback();
        let mut lines = Vec::new();
        // A page at a time, from the oldest.
        while back > 0 {
            screen.set_scrollback(back);
            let page = back.min(usize::from(ROWS));
            lines.extend(screen.rows(0, COLUMNS).take(page));
            back -= page;
        }
        screen.set_scrollback(0);
        lines.extend(screen.rows(0, COLUMNS));
        lines.iter().map(|line| line.trim_end()).collect::<Vec<_>>().join("\n").trim_end().to_owned()
    }

    /// The screen as soon as it is as wanted; panics at the limit.
    pub fn wait(&self, limit: Duration, wanted: impl Fn(&str) -> bool) -> String {
        let start = Instant::now();
        loop {
            let screen = self.screen();
            if wanted(&screen) {
                return screen;
            }
            assert!(start.elapsed() < limit, "not to be seen after {limit:?}; there is:\n{screen}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Sends a signal, and waits for the end: the exit code, and the last screen.
    pub fn end(mut self, signal: i32) -> (Option<i32>, String) {
        // SAFETY: our own child, not waited for yet.
        assert_eq!(unsafe { libc::kill(self.child.id() as i32, signal) }, 0);
        let status = shell::wait(&mut self.child, Duration::from_secs(60));
        let status = status.unwrap_or_else(|| panic!("it does not end; there is:\n{}", self.screen()));
        self.reader.take().expect("once").join().expect("the reader");
        (status.code(), self.screen())
    }
}

impl Drop for OnTerminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
