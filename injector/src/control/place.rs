//! Where control sockets are: made so that at no moment anybody but root can connect.

use std::{
    fs::{self, DirBuilder},
    io,
    os::{
        fd::OwnedFd,
        unix::{
            fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
};

use socket2::{Domain, SockAddr, Type};

/// Where they are unless a path is given.
pub(super) const DIRECTORY: &str = "/run/injector";
/// How many may wait to be accepted.
const BACKLOG: i32 = 16;

/// A socket can't be made: bad input, exit code 2.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// Neither there nor to be made.
    #[error("can't make the directory {DIRECTORY} for the control socket: {0}; name another place with --control=PATH")]
    Directory(io::Error),
    /// Somebody else could put things there.
    #[error("{DIRECTORY} is not a directory that only root can write to; name another place with --control=PATH")]
    Unsafe,
    /// In use.
    #[error("the control socket {} belongs to a running injector; choose another with --control=PATH", .0.display())]
    Live(PathBuf),
    /// A file of somebody's.
    #[error("{} exists and is not a socket; choose another with --control=PATH", .0.display())]
    NoSocket(PathBuf),
    /// Anything else.
    #[error("can't make the control socket {}: {error}", .path.display())]
    Bind {
        /// The path.
        path: PathBuf,
        /// The error.
        error: io::Error,
    },
}

crate::exit::has_exit_code!(PlaceError => USAGE);

/// A listening control socket. It goes when this is dropped.
#[derive(Debug)]
pub struct Socket {
    pub(super) listener: UnixListener,
    path: PathBuf,
    identity: Option<(u64, u64)>,
}

/// The socket of a process in the default place.
pub(super) fn of_process(pid: u32) -> PathBuf {
    Path::new(DIRECTORY).join(format!("{pid}.sock"))
}

impl Socket {
    /// Makes it; without a path, in the default place. One that a dead process left behind is replaced.
    ///
    /// # Errors
    /// See [`PlaceError`].
    pub fn bind(path: Option<&Path>) -> Result<Self, PlaceError> {
        let path = match path {
            Some(path) => path.to_owned(),
            None => {
                make_directory()?;
                of_process(std::process::id())
            }
        };
        let failed = |error| PlaceError::Bind { path: path.clone(), error };
        match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
            Ok(there) if !there.file_type().is_socket() => return Err(PlaceError::NoSocket(path)),
            Ok(_) if is_live(&path) => return Err(PlaceError::Live(path)),
            Ok(_) => fs::remove_file(&path).map_err(failed)?,
        }
        let listener = listen(&path).map_err(failed)?;
        let identity = identity(&path);
        Ok(Self { listener, path, identity })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Nobody can connect before listen(), and from then on only its owner.
fn listen(path: &Path) -> io::Result<UnixListener> {
    let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(OwnedFd::from(socket).into())
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Not if it was moved away and is another's by now.
        if self.identity.is_some() && identity(&self.path) == self.identity {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|there| (there.dev(), there.ino()))
}

/// Whether somebody listens. Only what refuses is dead: who is too busy to answer lives.
pub(super) fn is_live(path: &Path) -> bool {
    let dead = [io::ErrorKind::ConnectionRefused, io::ErrorKind::NotFound];
    !matches!(UnixStream::connect(path), Err(error) if dead.contains(&error.kind()))
}

fn make_directory() -> Result<(), PlaceError> {
    DirBuilder::new().recursive(true).mode(0o700).create(DIRECTORY).map_err(PlaceError::Directory)?;
    let there = fs::symlink_metadata(DIRECTORY).map_err(PlaceError::Directory)?;
    if !there.is_dir() || there.uid() != 0 || there.mode() & 0o022 != 0 {
        return Err(PlaceError::Unsafe);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_owner_can_connect_and_it_goes_with_its_run() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.sock");
        let socket = Socket::bind(Some(&path)).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        drop(socket);
        assert!(!path.exists());
    }

    #[test]
    fn what_a_dead_run_left_is_replaced_and_what_lives_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let socket = Socket::bind(Some(&path)).unwrap();
        let error = Socket::bind(Some(&path)).unwrap_err();
        assert!(matches!(error, PlaceError::Live(_)), "{error}");
        assert!(path.exists());
        // Another's by now.
        fs::remove_file(&path).unwrap();
        let other = Socket::bind(Some(&path)).unwrap();
        drop(socket);
        assert!(path.exists());
        drop(other);
    }

    #[test]
    fn files_of_others_stay() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, "precious").unwrap();
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        for place in [&path, &link] {
            assert!(matches!(Socket::bind(Some(place)).unwrap_err(), PlaceError::NoSocket(_)));
        }
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        let nowhere = directory.path().join("no/such/place");
        assert!(matches!(Socket::bind(Some(&nowhere)).unwrap_err(), PlaceError::Bind { .. }));
        let long = directory.path().join("x".repeat(200));
        assert!(matches!(Socket::bind(Some(&long)).unwrap_err(), PlaceError::Bind { .. }));
    }
}
