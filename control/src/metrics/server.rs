//! How are metrics served? HTTP on a thread of its own, which nobody waits for.
//!
//! A connection is one request. There are so many at a time, each lives so long, and when one more comes the oldest gives way: so
//! whoever asks and reads is answered, however many others only hold on. Answers that come close together share one text, and the
//! thread is the last that the kernel gives a core to, so that neither scrapes nor floods of them disturb the workers.

use super::Source;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::rc::Rc;
use std::str::FromStr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::{AbortHandle, JoinSet};

/// The content type of OpenMetrics' text.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Octets of a request's head: more is refused.
const HEAD_MAX: usize = 16 << 10;
/// How old an answer's numbers may be.
const FRESH: Duration = Duration::from_millis(100);
/// How long a refused `accept` (no descriptors left) is waited out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The lowest priority (nice).
const PRIORITY: i32 = 19;

/// What a client may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at a time.
    pub connections: usize,
    /// How long a request may take to come.
    pub request: Duration,
    /// How long a connection may last.
    pub connection: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 256, request: Duration::from_secs(5), connection: Duration::from_secs(10) }
    }
}

/// Where metrics are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// Over the network.
    Tcp(SocketAddr),
    /// For those who may use the file.
    Unix(PathBuf),
}

impl FromStr for Address {
    type Err = String;

    /// `PORT`, `:PORT`, `ADDRESS:PORT`, `localhost:PORT`, `unix:PATH` or `/PATH`.
    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:").or_else(|| text.starts_with('/').then_some(text)) {
            return match path {
                "" => Err("unix: lacks the path of the socket".to_owned()),
                path => Ok(Self::Unix(path.into())),
            };
        }
        let local = text.strip_prefix("localhost:").or(text.strip_prefix(':')).unwrap_or(text);
        let address = match local.parse::<u16>() {
            Ok(port) => Some((IpAddr::from(Ipv4Addr::LOCALHOST), port).into()),
            Err(_) => text.parse().ok(),
        };
        let problem = || format!("{text:?} is no address: write PORT (for this host only), ADDRESS:PORT or unix:PATH");
        address.map(Self::Tcp).ok_or_else(problem)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) if address.ip().is_loopback() => {
                write!(f, "http://{address}/metrics, for this host only")
            }
            Self::Tcp(address) => write!(f, "http://{address}/metrics, for whoever reaches this address"),
            Self::Unix(path) => write!(f, "unix:{}, path /metrics", path.display()),
        }
    }
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Serves metrics from now on, until the process ends. Returns where: the port is known if it was 0.
///
/// # Errors
/// If the address cannot be had, as one line for the operator.
pub fn start(address: &Address, source: Source, limits: Limits) -> Result<Address, String> {
    let refused = |error: String| format!("--metrics: cannot listen at {address}: {error}");
    let (listener, address) = match address {
        Address::Tcp(wanted) => {
            let listener = TcpListener::bind(wanted).map_err(|error| refused(error.to_string()))?;
            let bound = listener.local_addr().map_err(|error| refused(error.to_string()))?;
            (Listener::Tcp(listener), Address::Tcp(bound))
        }
        Address::Unix(path) => {
            let listener = crate::rpc::bind(path).map_err(|error| refused(error.to_string()))?;
            (Listener::Unix(listener), address.clone())
        }
    };
    let failed = |error: io::Error| format!("--metrics: cannot serve: {error}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let run = move || {
        // Without it the thread is as any other.
        let _ = rustix::process::setpriority_process(None, PRIORITY);
        let ended = tokio::task::LocalSet::new().block_on(&runtime, run(listener, source, limits));
        tracing::error!("metrics are no longer served: {}", ended.unwrap_or_else(|error| error.to_string()));
    };
    std::thread::Builder::new().name("metrics".to_owned()).spawn(run).map_err(failed)?;
    Ok(address)
}

async fn run(listener: Listener, source: Source, limits: Limits) -> io::Result<String> {
    let exporter = Rc::new(Exporter { source, last: RefCell::default() });
    match listener {
        Listener::Tcp(listener) => {
            listener.set_nonblocking(true)?;
            let listener = tokio::net::TcpListener::from_std(listener)?;
            serve(async || Ok(listener.accept().await?.0), exporter, limits).await
        }
        Listener::Unix(listener) => {
            listener.set_nonblocking(true)?;
            let listener = tokio::net::UnixListener::from_std(listener)?;
            serve(async || Ok(listener.accept().await?.0), exporter, limits).await
        }
    }
}

async fn serve<S>(accept: impl AsyncFn() -> io::Result<S>, exporter: Rc<Exporter>, limits: Limits) -> io::Result<String>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let mut connections = JoinSet::new();
    let mut by_age: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        tokio::select! {
            accepted = accept() => match accepted {
                Ok(stream) => {
                    by_age.retain(|connection| !connection.is_finished());
                    if by_age.len() >= limits.connections && let Some(oldest) = by_age.pop_front() {
                        oldest.abort();
                    }
                    by_age.push_back(connections.spawn_local(converse(stream, Rc::clone(&exporter), limits)));
                    // A request that came with its connection is answered before more connections are taken.
                    tokio::task::yield_now().await;
                }
                Err(error) => {
                    tracing::debug!("cannot accept a connection: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            // Only so that ended ones are forgotten.
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn converse(stream: impl AsyncRead + AsyncWrite + Unpin + 'static, exporter: Rc<Exporter>, limits: Limits) {
    let answer = service_fn(move |request| {
        let response = exporter.answer(&request);
        async move { Ok::<_, Infallible>(response) }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(limits.request).max_buf_size(HEAD_MAX);
    let connection = server.keep_alive(false).half_close(true).serve_connection(TokioIo::new(stream), answer);
    match tokio::time::timeout(limits.connection, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!("a client of the metrics: {error}"),
        Err(_) => tracing::debug!("a client of the metrics took longer than {:?}", limits.connection),
    }
}

struct Exporter {
    source: Source,
    /// The last text, and when its numbers were read.
    last: RefCell<Option<(Instant, Bytes)>>,
}

impl Exporter {
    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let plain =
            |status, text: &'static str| with(status, "text/plain; charset=utf-8", Bytes::from_static(text.as_bytes()));
        match (request.method(), request.uri().path()) {
            (&Method::GET | &Method::HEAD, "/metrics") => match self.metrics() {
                Ok(text) => with(StatusCode::OK, OPENMETRICS, text),
                Err(_) => plain(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be written\n"),
            },
            (&Method::GET | &Method::HEAD, _) => plain(StatusCode::NOT_FOUND, "shuntd's metrics are at /metrics\n"),
            _ => {
                let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "metrics can only be read: GET /metrics\n");
                response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
                response
            }
        }
    }

    fn metrics(&self) -> Result<Bytes, fmt::Error> {
        let mut last = self.last.borrow_mut();
        if let Some((_, text)) = last.as_ref().filter(|(at, _)| at.elapsed() < FRESH) {
            return Ok(text.clone());
        }
        let at = Instant::now();
        let text = Bytes::from(super::encode(&self.source)?);
        *last = Some((at, text.clone()));
        Ok(text)
    }
}

fn with(status: StatusCode, kind: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_of_this_host_unless_said_otherwise() {
        let shown = |text: &str| text.parse::<Address>().map(|address| address.to_string());
        let local = Ok("http://127.0.0.1:9110/metrics, for this host only".to_owned());
        for text in ["9110", ":9110", "localhost:9110", "127.0.0.1:9110"] {
            assert_eq!(shown(text), local, "{text}");
        }
        assert_eq!(shown("[::1]:9110"), Ok("http://[::1]:9110/metrics, for this host only".to_owned()));
        assert_eq!(shown("0.0.0.0:1"), Ok("http://0.0.0.0:1/metrics, for whoever reaches this address".to_owned()));
        for text in ["unix:/run/m.sock", "/run/m.sock"] {
            assert_eq!(text.parse(), Ok(Address::Unix("/run/m.sock".into())));
        }
        for text in ["", "unix:", "70000", "host:9110", "10.0.0.1", "::1:x"] {
            assert!(shown(text).is_err(), "{text}");
        }
    }
}
