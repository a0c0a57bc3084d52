//! The kernel's build options.

use std::io::Read;

use flate2::read::GzDecoder;

use super::{KernelError, KernelFiles};

/// The build options of the running kernel.
#[derive(Clone, Debug)]
pub struct Options {
    text: String,
    source: String,
}

impl Options {
    /// Reads them from where the kernel or the distribution put them.
    ///
    /// # Errors
    /// They are nowhere.
    pub fn read(files: &KernelFiles) -> Result<Self, KernelError> {
        if let Ok(compressed) = files.read("proc/config.gz") {
            let mut text = String::new();
            let source = "/proc/config.gz".to_owned();
            GzDecoder::new(compressed.as_slice())
                .read_to_string(&mut text)
                .map_err(|error| KernelError::Malformed { what: source.clone(), why: error.to_string() })?;
            return Ok(Self { text, source });
        }
        let release = files.release()?;
        for source in [format!("/boot/config-{release}"), format!("/lib/modules/{release}/config")] {
            if let Ok(text) = files.read_text(&source) {
                return Ok(Self { text, source });
            }
        }
        Err(KernelError::NoOptions(release.to_string()))
    }

    /// Where they were read.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The value of `CONFIG_…`: `y`, `m`, a number, a text in quotes; `None` when it is off.
    #[must_use]
    pub fn get(&self, option: &str) -> Option<&str> {
        self.text.lines().find_map(|line| line.strip_prefix(option)?.strip_prefix('='))
    }

    /// Whether `CONFIG_…` is built in.
    #[must_use]
    pub fn is_on(&self, option: &str) -> bool {
        self.get(option) == Some("y")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const TEXT: &str = "# CONFIG_OFF is not set\nCONFIG_ON=y\nCONFIG_ON_TOO=m\nCONFIG_HZ=250\n";

    fn check(options: &Options) {
        assert!(options.is_on("CONFIG_ON"));
        assert_eq!(options.get("CONFIG_ON_TOO"), Some("m"));
        assert_eq!(options.get("CONFIG_HZ"), Some("250"));
        assert_eq!(options.get("CONFIG_OFF"), None);
        assert_eq!(options.get("CONFIG_O"), None);
    }

    #[test]
    fn from_proc_and_from_boot() {
        let root = tempfile::tempdir().unwrap();
        let files = KernelFiles::new(root.path());
        for dir in ["boot", "proc/sys/kernel"] {
            fs::create_dir_all(root.path().join(dir)).unwrap();
        }
        fs::write(files.path("proc/sys/kernel/osrelease"), "6.1.0\n").unwrap();
        assert!(matches!(Options::read(&files), Err(KernelError::NoOptions(_))));

        fs::write(files.path("boot/config-6.1.0"), TEXT).unwrap();
        let options = Options::read(&files).unwrap();
        assert_eq!(options.source(), "/boot/config-6.1.0");
        check(&options);

        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut encoder, TEXT.as_bytes()).unwrap();
        fs::write(files.path("proc/config.gz"), encoder.finish().unwrap()).unwrap();
        let options = Options::read(&files).unwrap();
        assert_eq!(options.source(), "/proc/config.gz");
        check(&options);
    }
}
