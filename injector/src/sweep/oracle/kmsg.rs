//! TEMP
use super::*;
use std::io::Read;
use std::io::Seek;
use std::os::unix::fs::OpenOptionsExt;
pub struct KernelLog(std::fs::File);
impl KernelLog {
    pub fn open_at_end() -> std::io::Result<Self> {
        let mut f = std::fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open("/dev/kmsg")?;
        f.seek(std::io::SeekFrom::End(0))?;
        Ok(Self(f))
    }
    pub fn poll(&mut self) -> Vec<Complaint> {
        let mut v = vec![];
        let mut b = [0u8; 8192];
        while let Ok(n) = self.0.read(&mut b) {
            if n == 0 {
                break;
            }
            let t = String::from_utf8_lossy(&b[..n]).into_owned();
            let t = t.split_once(';').map_or("", |x| x.1).lines().next().unwrap_or("").to_owned();
            if t.starts_with("BUG:") || t.starts_with("WARNING:") || t.starts_with("general protection") {
                v.push(Complaint {
                    kind: if t.starts_with("WARN") { Kind::Warning } else { Kind::Oops },
                    title: t.clone(),
                    splat: t,
                })
            }
        }
        v
    }
    pub fn flush(&mut self) -> Vec<Complaint> {
        self.poll()
    }
}
