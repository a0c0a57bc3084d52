//! The other end: `injector ctl`.

use std::{
    fs,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    Answer, Request,
    place::{DIRECTORY, is_live, of_process},
};

/// How long a run may take to answer: it handles a batch of events before.
const PATIENCE: Duration = Duration::from_secs(15);
/// No answer is longer.
const ANSWER_LIMIT: u64 = 1 << 20;

/// Which run is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// The only one that has a socket in the default place.
    Only,
    /// The one of this process, in the default place.
    Process(u32),
    /// The one with this socket.
    Socket(PathBuf),
}

/// Why a run could not be asked: bad input, exit code 2.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// None to choose from.
    #[error("no run has a control socket in {DIRECTORY}; start one with --control")]
    None,
    /// Several to choose from.
    #[error("several runs have control sockets; say which: {}", .0.iter().map(|pid| format!("--pid {pid}")).collect::<Vec<_>>().join(", "))]
    Several(Vec<String>),
    /// Not root.
    #[error("{}: permission denied; only root may control a run", .0.display())]
    NotRoot(PathBuf),
    /// Not there, or nobody listens.
    #[error("no run listens at {}: {error}", .path.display())]
    Nobody {
        /// The path.
        path: PathBuf,
        /// The error.
        error: io::Error,
    },
    /// It broke off.
    #[error("the run at {} does not answer: {why}", .path.display())]
    NoAnswer {
        /// The path.
        path: PathBuf,
        /// The reason.
        why: String,
    },
    /// The run did not do it.
    #[error("{0}")]
    Refused(String),
}

crate::exit::has_exit_code!(ClientError => USAGE);

/// Has a run do something, and returns how it stands then. After [`Request::Stop`] it waits until the run is over.
///
/// # Errors
/// See [`ClientError`].
pub fn ask(which: &Which, request: &Request) -> Result<super::Status, ClientError> {
    let path = match which {
        Which::Only => only(Path::new(DIRECTORY))?,
        Which::Process(pid) => of_process(*pid),
        Which::Socket(path) => path.clone(),
    };
    let stream = UnixStream::connect(&path).map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => ClientError::NotRoot(path.clone()),
        _ => ClientError::Nobody { path: path.clone(), error },
    })?;
    let no_answer = |why: String| ClientError::NoAnswer { path: path.clone(), why };
    let mut line = String::new();
    let mut reader = BufReader::new(&stream).take(ANSWER_LIMIT);
    let talked = request.to_line().map_err(io::Error::from).and_then(|request| {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        // Refused at the door, the answer is there all the same.
        match (&stream).write_all(request.as_bytes()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error),
            _ => {}
        }
        reader.read_line(&mut line)
    });
    talked.map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => no_answer(format!("nothing after {} s", PATIENCE.as_secs())),
        _ => no_answer(error.to_string()),
    })?;
    if line.is_empty() {
        return Err(no_answer("it closed the connection".to_owned()));
    }
    match Answer::from_line(&line).map_err(|error| no_answer(error.to_string()))? {
        Answer::Refused(why) => Err(ClientError::Refused(why)),
        Answer::Done(status) => {
            if matches!(request, Request::Stop {}) {
                // It keeps the connection until its summary is written.
                let _ = reader.read_line(&mut line);
            }
            Ok(status)
        }
    }
}

/// The only live socket of a directory.
fn only(directory: &Path) -> Result<PathBuf, ClientError> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Err(ClientError::NotRoot(directory.to_owned()));
        }
        Err(_) => return Err(ClientError::None),
    };
    let mut sockets: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "sock"))
        // What a killed run left behind is none.
        .filter(|path| is_live(path))
        .collect();
    sockets.sort();
    match sockets.len() {
        0 => Err(ClientError::None),
        1 => Ok(sockets.remove(0)),
        _ => {
            let names = sockets.iter().filter_map(|path| path.file_stem());
            Err(ClientError::Several(names.map(|name| name.to_string_lossy().into_owned()).collect()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn the_only_one_is_found_among_the_dead() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        assert!(matches!(only(&at("no-such")), Err(ClientError::None)));
        assert!(matches!(only(directory.path()), Err(ClientError::None)));
        drop(UnixListener::bind(at("1.sock")).unwrap());
        fs::write(at("2.txt"), "").unwrap();
        assert!(matches!(only(directory.path()), Err(ClientError::None)));
        let _live = UnixListener::bind(at("3.sock")).unwrap();
        assert_eq!(only(directory.path()).unwrap(), at("3.sock"));
        let _another = UnixListener::bind(at("4.sock")).unwrap();
        let error = only(directory.path()).unwrap_err().to_string();
        assert!(error.ends_with("--pid 3, --pid 4"), "{error}");
    }
}
