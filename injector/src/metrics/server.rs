//! Serves the text over HTTP/1.1: one request a connection, few at a time, none for long.

use std::{
    io,
    net::{SocketAddr, TcpListener as StdListener},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::{JoinHandle, spawn_local},
    time::{sleep, timeout},
};
use tracing::debug;

use super::{Build, CONTENT_TYPE, text};
use crate::control::RequestSender;

/// How many are served at a time; others wait to be accepted.
const CONNECTIONS: usize = 8;
/// How long a connection may last in all.
const LIMIT: Duration = Duration::from_secs(5);
/// How long a request's head may be.
const HEAD_LIMIT: usize = 8192;
/// How many headers it may have.
const HEADERS: usize = 64;
/// What is done when no more files can be opened: wait.
const PAUSE: Duration = Duration::from_millis(200);

/// An address that can't be listened at: bad input, exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("--metrics {address}: {error}")]
pub struct AddressError {
    address: SocketAddr,
    error: io::Error,
}

crate::exit::has_exit_code!(AddressError => USAGE);

/// An address that is listened at, before anybody is served.
#[derive(Debug)]
pub struct Listener {
    listener: StdListener,
    address: SocketAddr,
}

impl Listener {
    /// Begins to listen; port 0 is any that is free.
    ///
    /// # Errors
    /// The port is busy, or the address is not of this machine.
    pub fn bind(address: SocketAddr) -> Result<Self, AddressError> {
        let failed = |error| AddressError { address, error };
        let listener = StdListener::bind(address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address })
    }

    /// Where: with the port that was chosen.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// The metrics being served; they end when this is dropped.
#[derive(Debug)]
pub struct Server(JoinHandle<()>);

impl Server {
    /// Serves on the local task set.
    ///
    /// # Errors
    /// When tokio can't watch the listener.
    pub fn start(listener: Listener, build: Build, sender: RequestSender) -> Result<Self, AddressError> {
        let Listener { listener, address } = listener;
        let listener = TcpListener::from_std(listener).map_err(|error| AddressError { address, error })?;
        Ok(Self(spawn_local(listen(listener, Rc::new(build), sender))))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn listen(listener: TcpListener, build: Rc<Build>, sender: RequestSender) {
    let free = Arc::new(Semaphore::new(CONNECTIONS));
    // The semaphore is never closed.
    while let Ok(permit) = Arc::clone(&free).acquire_owned().await {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                debug!("metrics: can't accept a connection: {error}");
                sleep(PAUSE).await;
                continue;
            }
        };
        let (build, sender) = (Rc::clone(&build), sender.clone());
        spawn_local(async move {
            match timeout(LIMIT, serve(stream, &build, &sender)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => debug!("metrics: a reader is gone: {error}"),
                Err(_) => debug!("metrics: a reader was too slow"),
            }
            drop(permit);
        });
    }
}

/// What a request's head asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    /// The metrics.
    Metrics,
    /// Only the head of the answer.
    Head,
    /// Something else: the status that says so.
    Nothing(&'static str),
}

async fn serve(mut stream: TcpStream, build: &Build, sender: &RequestSender) -> io::Result<()> {
    let mut head = Vec::new();
    let wanted = loop {
        if head.len() >= HEAD_LIMIT {
            break Wanted::Nothing("431 Request Header Fields Too Large");
        }
        let room = (HEAD_LIMIT - head.len()) as u64;
        if (&mut stream).take(room).read_buf(&mut head).await? == 0 {
            // Nothing, or half a request, and then the end.
            return Ok(());
        }
        if let Some(wanted) = wanted(&head) {
            break wanted;
        }
    };
    let (status, content_type, body) = match wanted {
        Wanted::Nothing(status) => (status, "text/plain; charset=utf-8", format!("{status}; try GET /metrics\n")),
        Wanted::Metrics | Wanted::Head => match sender.counts().await {
            Some(counts) => ("200 OK", CONTENT_TYPE, text(build, &counts).map_err(io::Error::other)?),
            None => return Ok(()),
        },
    };
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    if wanted != Wanted::Head {
        stream.write_all(body.as_bytes()).await?;
    }
    stream.shutdown().await
}

/// What is asked for; `None`: the head is not whole yet.
fn wanted(head: &[u8]) -> Option<Wanted> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(head) {
        Ok(httparse::Status::Partial) => None,
        Err(_) => Some(Wanted::Nothing("400 Bad Request")),
        Ok(httparse::Status::Complete(_)) => {
            let path = request.path.unwrap_or_default().split('?').next();
            Some(match (request.method, path) {
                (Some("GET"), Some("/metrics")) => Wanted::Metrics,
                (Some("HEAD"), Some("/metrics")) => Wanted::Head,
                (_, Some("/metrics")) => Wanted::Nothing("405 Method Not Allowed"),
                _ => Wanted::Nothing("404 Not Found"),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn heads() {
        let get = b"GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: application/openmetrics-text\r\n\r\n";
        assert_eq!(wanted(get), Some(Wanted::Metrics));
        assert_eq!(wanted(&get[..get.len() - 1]), None);
        assert_eq!(wanted(b"GET /metrics?name[]=x HTTP/1.0\r\n\r\n"), Some(Wanted::Metrics));
        assert_eq!(wanted(b"HEAD /metrics HTTP/1.1\r\n\r\n"), Some(Wanted::Head));
        for (head, status) in [
            (&b"GET / HTTP/1.1\r\n\r\n"[..], "404"),
            (b"GET /metrics/x HTTP/1.1\r\n\r\n", "404"),
            (b"POST /metrics HTTP/1.1\r\n\r\n", "405"),
            (b"\x16\x03\x01\x02\x00\x01", "400"),
            (b"{\"do\":\"stop\"}\n", "400"),
        ] {
            let Some(Wanted::Nothing(said)) = wanted(head) else { panic!("{head:?}") };
            assert!(said.starts_with(status), "{said}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(head in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = wanted(&head);
        }
    }
}
