//! The run's end of the control socket. A client that is slow, talks without end or comes in crowds gets an answer or loses
//! its connection; the run goes on.

use std::{io, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
    sync::{Semaphore, watch},
    task::{JoinHandle, spawn_local},
    time::{sleep, timeout},
};
use tracing::debug;

use super::{Answer, LINE_LIMIT, PlaceError, Request, RequestSender, Socket};

/// How many clients are listened to at a time.
const CONNECTIONS: usize = 8;
/// How long a client may take for its next line.
const IDLE: Duration = Duration::from_secs(30);
/// How long a client may take to read an answer.
const SLOW: Duration = Duration::from_secs(5);
/// How long the last answers may take in the end.
const GOODBYE: Duration = Duration::from_secs(1);
/// What is done when no more files can be opened: wait.
const PAUSE: Duration = Duration::from_millis(200);

/// The socket being served. Call [`Server::close`] in the end, so that what was answered arrives.
#[derive(Debug)]
pub struct Server {
    listening: JoinHandle<()>,
    free: Arc<Semaphore>,
    closing: watch::Sender<bool>,
    socket: Socket,
}

impl Server {
    /// Serves a socket on the local task set.
    ///
    /// # Errors
    /// When tokio can't watch it.
    pub fn start(socket: Socket, sender: RequestSender) -> Result<Self, PlaceError> {
        let failed = |error| PlaceError::Bind { path: socket.path().to_owned(), error };
        let listener = socket.listener.try_clone().and_then(UnixListener::from_std).map_err(failed)?;
        let free = Arc::new(Semaphore::new(CONNECTIONS));
        let (closing, closed) = watch::channel(false);
        let listening = spawn_local(listen(listener, sender, Arc::clone(&free), closed));
        Ok(Self { listening, free, closing, socket })
    }

    /// Ends it: nobody connects any more, answers that are on their way arrive.
    pub async fn close(self) {
        let Self { listening, free, closing, socket } = self;
        drop(socket);
        listening.abort();
        let _ = closing.send(true);
        let all = u32::try_from(CONNECTIONS).unwrap_or(u32::MAX);
        let _ = timeout(GOODBYE, free.acquire_many(all)).await;
    }
}

async fn listen(listener: UnixListener, sender: RequestSender, free: Arc<Semaphore>, closed: watch::Receiver<bool>) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                debug!("control: can't accept a connection: {error}");
                sleep(PAUSE).await;
                continue;
            }
        };
        let (sender, closed) = (sender.clone(), closed.clone());
        let Ok(permit) = Arc::clone(&free).try_acquire_owned() else {
            refuse(&stream, &format!("there are {CONNECTIONS} connections already"));
            continue;
        };
        spawn_local(async move {
            if let Err(error) = talk(stream, &sender, closed).await {
                debug!("control: a client is gone: {error}");
            }
            drop(permit);
        });
    }
}

/// Says why not, if the client can take it at once.
fn refuse(stream: &UnixStream, why: &str) {
    if let Ok(line) = Answer::Refused(why.to_owned()).to_line() {
        let _ = stream.try_write(line.as_bytes());
    }
}

async fn talk(mut stream: UnixStream, sender: &RequestSender, mut closed: watch::Receiver<bool>) -> io::Result<()> {
    if stream.peer_cred()?.uid() != 0 {
        refuse(&stream, "only root may control a run");
        return Ok(());
    }
    let (reader, mut writer) = stream.split();
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    loop {
        line.clear();
        // One byte more than allowed tells a line that is too long from one that just fits.
        let mut limited = (&mut reader).take(LINE_LIMIT as u64 + 1);
        let length = tokio::select! {
            biased;
            length = timeout(IDLE, limited.read_until(b'\n', &mut line)) => length??,
            _ = closed.changed() => return Ok(()),
        };
        if length == 0 {
            return Ok(());
        }
        let too_long = length > LINE_LIMIT;
        let answer = if too_long {
            Answer::Refused(format!("a line has at most {LINE_LIMIT} bytes"))
        } else {
            match Request::from_line(&String::from_utf8_lossy(&line)) {
                Ok(request) => {
                    sender.request(request).await.unwrap_or_else(|| Answer::Refused("the run is ending".into()))
                }
                Err(error) => Answer::Refused(error.to_string()),
            }
        };
        let line = answer.to_line()?;
        timeout(SLOW, writer.write_all(line.as_bytes())).await??;
        if too_long {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tokio::{io::AsyncBufReadExt as _, runtime, task::LocalSet};

    use super::super::{Ask, RequestReceiver, Status, requests};
    use super::*;
    use crate::control::RunState;

    const STATUS: Status = Status {
        state: RunState::Running,
        dry_run: false,
        elapsed_ns: 1,
        left_ns: None,
        delivered: 0,
        rules: Vec::new(),
    };

    /// A run that agrees to everything.
    async fn agree(mut receiver: RequestReceiver) {
        loop {
            if let Ask::Request(_, reply) = receiver.next().await {
                let _ = reply.send(Answer::Done(STATUS));
            }
        }
    }

    /// Runs a test against a server; none where the tests don't run as root, to which clients are refused.
    fn with_server(test: impl AsyncFnOnce(&Path, Server)) {
        if !nix::unistd::geteuid().is_root() {
            println!("skipped: only root is served");
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control.sock");
        let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
        LocalSet::new().block_on(&runtime, async {
            let (sender, receiver) = requests();
            spawn_local(agree(receiver));
            let server = Server::start(Socket::bind(Some(&path)).unwrap(), sender).unwrap();
            test(&path, server).await;
        });
        assert!(!path.exists());
    }

    async fn answer(client: &mut BufReader<UnixStream>) -> Answer {
        let mut line = String::new();
        timeout(Duration::from_secs(5), client.read_line(&mut line)).await.expect("an answer").unwrap();
        Answer::from_line(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }

    async fn client(path: &Path) -> BufReader<UnixStream> {
        BufReader::new(UnixStream::connect(path).await.unwrap())
    }

    #[test]
    fn lines_are_answered_one_by_one() {
        with_server(async |path, server| {
            let mut client = client(path).await;
            client.write_all(b"{\"do\":\"status\"}\n{\"do\":\"boom\"}\n{\"do\":\"pause\"}\n").await.unwrap();
            assert_eq!(answer(&mut client).await, Answer::Done(STATUS));
            assert!(matches!(answer(&mut client).await, Answer::Refused(why) if why.contains("boom")));
            assert_eq!(answer(&mut client).await, Answer::Done(STATUS));
            server.close().await;
            assert_eq!(client.read_line(&mut String::new()).await.unwrap(), 0);
        });
    }

    #[test]
    fn a_line_without_an_end_is_cut_off() {
        with_server(async |path, server| {
            let mut babbler = client(path).await;
            // More than the socket holds: writing ends when the other end is closed.
            let endless = spawn_local(async move {
                let mut error = None;
                while error.is_none() {
                    error = babbler.write_all(&[b'x'; 1000]).await.err();
                }
                error
            });
            assert!(timeout(Duration::from_secs(5), endless).await.expect("cut off").unwrap().is_some());
            let mut next = client(path).await;
            let longest = [&[b' '; LINE_LIMIT - 15][..], b"{\"do\":\"pause\"}\n"].concat();
            assert_eq!(longest.len(), LINE_LIMIT);
            next.write_all(&longest).await.unwrap();
            assert_eq!(answer(&mut next).await, Answer::Done(STATUS));
            server.close().await;
        });
    }

    #[test]
    fn a_crowd_leaves_the_run_alone() {
        with_server(async |path, server| {
            let mut silent = Vec::new();
            for _ in 0..CONNECTIONS {
                silent.push(client(path).await);
            }
            let mut one_more = client(path).await;
            assert!(matches!(answer(&mut one_more).await, Answer::Refused(why) if why.contains("8 connections")));
            silent.pop();
            // Its end has to be noticed first.
            sleep(Duration::from_millis(50)).await;
            let mut next = client(path).await;
            next.write_all(b"{\"do\":\"status\"}\n").await.unwrap();
            assert_eq!(answer(&mut next).await, Answer::Done(STATUS));
            timeout(Duration::from_secs(5), server.close()).await.expect("silent clients don't keep it");
        });
    }
}
