//! The host's end of a guest's virtio ports: sockets that QEMU connects to.

use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crate::engine::{BootError, file_error};
use crate::protocol::{CONTROL_PORT, DATA_PORT, STDERR_PORT, STDOUT_PORT};

/// The ports, in the order of the numbers that they have in the guest.
const NAMES: [&str; 4] = [STDOUT_PORT, STDERR_PORT, CONTROL_PORT, DATA_PORT];

/// A socket for each port.
pub struct Ports([Port; 4]);

struct Port {
    name: &'static str,
    path: PathBuf,
    listener: UnixListener,
}

impl Ports {
    /// Makes the sockets in this directory.
    ///
    /// # Errors
    /// They cannot be made.
    pub fn listen(directory: &Path) -> Result<Self, BootError> {
        let [stdout, stderr, control, data] = NAMES.map(|name| Port::listen(name, directory.join(name)));
        Ok(Self([stdout?, stderr?, control?, data?]))
    }

    /// What makes QEMU connect to them.
    pub fn arguments(&self) -> Vec<String> {
        arguments(self.0.iter().map(|port| (port.name, port.path.as_path())))
    }

    /// Waits for QEMU's connections: standard output, standard error, control, data. `None`: it has ended instead.
    pub fn accept(&self, mut ended: impl FnMut() -> bool) -> Option<[UnixStream; 4]> {
        let mut streams = Vec::with_capacity(self.0.len());
        for port in &self.0 {
            let stream = loop {
                match port.listener.accept() {
                    Ok((stream, _)) => break stream,
                    Err(_) if ended() => return None,
                    Err(_) => thread::sleep(Duration::from_millis(5)),
                }
            };
            stream.set_nonblocking(false).ok()?;
            streams.push(stream);
        }
        streams.try_into().ok()
    }
}

impl Port {
    fn listen(name: &'static str, path: PathBuf) -> Result<Self, BootError> {
        let listen = || -> io::Result<UnixListener> {
            let listener = UnixListener::bind(&path)?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        };
        let listener = file_error(&path, listen())?;
        Ok(Self { name, path, listener })
    }
}

/// A bus of its own: an engine may have other virtio ports.
fn arguments<'a>(ports: impl Iterator<Item = (&'static str, &'a Path)>) -> Vec<String> {
    let mut arguments = vec!["-device".to_owned(), "virtio-serial-pci,id=injector".to_owned()];
    for (number, (name, path)) in (1..).zip(ports) {
        let device = format!("virtserialport,bus=injector.0,nr={number},chardev=injector{number},name={name}");
        let chardev = format!("socket,id=injector{number},path={}", escaped(path));
        arguments.extend(["-chardev".to_owned(), chardev, "-device".to_owned(), device]);
    }
    arguments
}

/// A comma in one of QEMU's options is doubled.
pub fn escaped(path: &Path) -> String {
    path.to_string_lossy().replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_port_is_a_socket_and_a_device() {
        assert_eq!(
            arguments([(STDOUT_PORT, Path::new("/t,x/out"))].into_iter()).join(" "),
            "-device virtio-serial-pci,id=injector -chardev socket,id=injector1,path=/t,,x/out \
             -device virtserialport,bus=injector.0,nr=1,chardev=injector1,name=injector.stdout"
        );
    }

    #[test]
    fn a_hypervisor_that_ends_before_it_connects_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let ports = Ports::listen(directory.path()).unwrap();
        assert!(ports.accept(|| true).is_none());
    }
}
