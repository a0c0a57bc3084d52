//! Writes cpio archives in the "newc" format, which is what the kernel unpacks as an initramfs.
//!
//! Archives may be concatenated: the kernel unpacks one after the other, later files replace earlier ones.

use std::io::{self, Write};

/// What an entry of an archive is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A plain file.
    File,
    /// A symbolic link; its data is the target.
    Symlink,
    /// A character device.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
}

impl Kind {
    fn mode_bits(self) -> u32 {
        match self {
            Kind::Directory => libc::S_IFDIR,
            Kind::File => libc::S_IFREG,
            Kind::Symlink => libc::S_IFLNK,
            Kind::CharDevice { .. } => libc::S_IFCHR,
        }
    }
}

/// Writes entries, then the trailer with [`Writer::finish`].
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    written: u64,
    inode: u32,
}

impl<W: Write> Writer<W> {
    /// An archive that goes to `out`.
    pub fn new(out: W) -> Self {
        Self { out, written: 0, inode: 0 }
    }

    /// Adds an entry. `name` is relative to the root (a leading `/` is dropped); `permissions` are the low 12 bits.
    pub fn entry(&mut self, name: &str, kind: Kind, permissions: u32, data: &[u8]) -> io::Result<()> {
        self.inode += 1;
        let mode = kind.mode_bits() | (permissions & 0o7777);
        self.record(name.trim_start_matches('/'), kind, mode, self.inode, data)
    }

    /// Writes the trailer and pads the archive to 512 bytes, so that another one may follow.
    pub fn finish(mut self) -> io::Result<W> {
        self.record("TRAILER!!!", Kind::File, 0, 0, &[])?;
        self.pad(512)?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn record(&mut self, name: &str, kind: Kind, mode: u32, inode: u32, data: &[u8]) -> io::Result<()> {
        let size = u32::try_from(data.len())
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, format!("{name}: a cpio entry ends at 4 GiB")))?;
        let (major, minor) = match kind {
            Kind::CharDevice { major, minor } => (major, minor),
            _ => (0, 0),
        };
        let links = if kind == Kind::Directory { 2 } else { 1 };
        // ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
        let fields = [inode, mode, 0, 0, links, 0, size, 0, 0, major, minor, name.len() as u32 + 1, 0];
        self.put(b"070701")?;
        for field in fields {
            self.put(format!("{field:08X}").as_bytes())?;
        }
        self.put(name.as_bytes())?;
        self.put(b"\0")?;
        self.pad(4)?;
        self.put(data)?;
        self.pad(4)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    fn pad(&mut self, to: u64) -> io::Result<()> {
        let missing = self.written.next_multiple_of(to) - self.written;
        self.put(&[0; 512][..missing as usize])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(archive: &[u8], at: usize, index: usize) -> u32 {
        let start = at + 6 + index * 8;
        u32::from_str_radix(std::str::from_utf8(&archive[start..start + 8]).unwrap(), 16).unwrap()
    }

    #[test]
    fn an_entry_has_its_header_name_and_data_aligned() {
        let mut writer = Writer::new(Vec::new());
        writer.entry("/etc/hosts", Kind::File, 0o644, b"127.0.0.1 localhost\n").unwrap();
        let archive = writer.finish().unwrap();
        assert_eq!(&archive[..6], b"070701");
        assert_eq!(field(&archive, 0, 1), 0o100644);
        assert_eq!(field(&archive, 0, 6), 20);
        assert_eq!(field(&archive, 0, 11), 10);
        assert_eq!(&archive[110..120], b"etc/hosts\0");
        assert_eq!(&archive[120..140], b"127.0.0.1 localhost\n");
        assert_eq!(&archive[140..146], b"070701");
        assert_eq!(&archive[250..261], b"TRAILER!!!\0");
        assert_eq!(archive.len() % 512, 0);
    }

    #[test]
    fn devices_and_links_carry_type_and_numbers() {
        let mut writer = Writer::new(Vec::new());
        writer.entry("dev/console", Kind::CharDevice { major: 5, minor: 1 }, 0o600, b"").unwrap();
        let archive = writer.finish().unwrap();
        assert_eq!(field(&archive, 0, 1), 0o020600);
        assert_eq!((field(&archive, 0, 9), field(&archive, 0, 10)), (5, 1));

        let mut writer = Writer::new(Vec::new());
        writer.entry("bin/sh", Kind::Symlink, 0o777, b"busybox").unwrap();
        let archive = writer.finish().unwrap();
        assert_eq!(field(&archive, 0, 1), 0o120777);
        assert_eq!(field(&archive, 0, 6), 7);
    }
}
