//! HTTP for operators: read only, JSON.
//!
//! ```text
//! GET /healthz                         the daemon answers
//! GET /v1/status                       what `ninefold status --json` says
//! GET /v1/events?after=N               what happened after event N
//! GET /v1/explain/KIND/ID              KIND one of extent, pg, node, disk
//! ```

use super::host::Inputs;
use axum::Router;
use axum::extract::{Path, RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::Listener;
use repair_core::wire::daemon::Subject;
use repair_core::wire::{DaemonReply, DaemonRequest, Refusal};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep, timeout};

/// Connections at once; more wait in the system's queue.
const CONNECTIONS_MAX: usize = 64;
/// From a connection's first byte to its end: whoever is slower holds nobody else up.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(60);
/// Longer than the actor ever takes to answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);

/// Answers operators for ever.
pub(super) async fn serve(listener: TcpListener, inputs: Inputs) {
    let router = Router::new()
        .route("/healthz", get(healthz))
        .route("/v1/status", get(status))
        .route("/v1/events", get(events))
        .route("/v1/explain/{kind}/{*id}", get(explain))
        .with_state(inputs);
    let listener = Bounded { listener, places: Arc::new(Semaphore::new(CONNECTIONS_MAX)) };
    // It ends with the task: accepting never fails for good.
    let _ = axum::serve(listener, router).await;
}

async fn healthz(State(inputs): State<Inputs>) -> Response {
    match ask(&inputs, DaemonRequest::Events { after: u64::MAX }).await {
        Ok(_) => (StatusCode::OK, "ok\n").into_response(),
        Err(response) => response,
    }
}

async fn status(State(inputs): State<Inputs>) -> Response {
    report(&inputs, DaemonRequest::Status).await
}

async fn events(State(inputs): State<Inputs>, RawQuery(query): RawQuery) -> Response {
    match after_of(query.as_deref().unwrap_or("")) {
        Some(after) => report(&inputs, DaemonRequest::Events { after }).await,
        None => refused(StatusCode::BAD_REQUEST, "say /v1/events or /v1/events?after=NUMBER"),
    }
}

async fn explain(State(inputs): State<Inputs>, Path((kind, id)): Path<(String, String)>) -> Response {
    match subject_of(&kind, &id) {
        Ok(subject) => report(&inputs, DaemonRequest::Explain { subject }).await,
        Err(text) => refused(StatusCode::BAD_REQUEST, &text),
    }
}

fn after_of(query: &str) -> Option<u64> {
    match query.split_once('=') {
        None if query.is_empty() => Some(0),
        Some(("after", number)) => number.parse().ok(),
        _ => None,
    }
}

fn subject_of(kind: &str, id: &str) -> Result<Subject, String> {
    let no = |what: &str| format!("{id:?} is no {what}");
    match kind {
        "extent" => id.parse().map(Subject::Extent).map_err(|_| no("extent id")),
        "pg" => id.parse().map(|pg| Subject::Pg(repair_core::id::PgId(pg))).map_err(|_| no("placement group")),
        "disk" => id.parse().map(Subject::Disk).map_err(|_| no("disk id")),
        "node" => Ok(Subject::Node(id.to_owned())),
        _ => Err(format!("{kind:?} cannot be explained; extent, pg, node and disk can")),
    }
}

async fn report(inputs: &Inputs, request: DaemonRequest) -> Response {
    match ask(inputs, request).await {
        Ok(body) => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(response) => response,
    }
}

async fn ask(inputs: &Inputs, request: DaemonRequest) -> Result<bytes::Bytes, Response> {
    let answer = timeout(ANSWER_TIME_MAX, inputs.ask(request)).await;
    match answer {
        Ok(Some((DaemonReply::Report, body))) => Ok(body),
        Ok(Some((DaemonReply::Refused(refusal), _))) => {
            let code = match refusal {
                Refusal::NotFound => StatusCode::NOT_FOUND,
                Refusal::Invalid(_) => StatusCode::BAD_REQUEST,
                _ => StatusCode::SERVICE_UNAVAILABLE,
            };
            Err(refused(code, &refusal.to_string()))
        }
        Ok(Some(_)) => Err(refused(StatusCode::INTERNAL_SERVER_ERROR, "the daemon answered something else")),
        Ok(None) | Err(_) => Err(refused(StatusCode::SERVICE_UNAVAILABLE, "the daemon does not answer")),
    }
}

fn refused(code: StatusCode, text: &str) -> Response {
    let body = serde_json::json!({ "schema": 1, "error": text }).to_string();
    (code, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// A listener that lets so many in at once, each for so long.
struct Bounded {
    listener: TcpListener,
    places: Arc<Semaphore>,
}

impl Listener for Bounded {
    type Io = Visit;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Visit, SocketAddr) {
        loop {
            // Never closed.
            let Ok(place) = Arc::clone(&self.places).acquire_owned().await else { continue };
            match self.listener.accept().await {
                Ok((stream, from)) => {
                    return (Visit { stream, end: Box::pin(sleep(CONNECTION_TIME_MAX)), _place: place }, from);
                }
                // Out of file descriptors, or gone before it was taken: others may still come.
                Err(_) => sleep(Duration::from_millis(50)).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection with its place and its end.
struct Visit {
    stream: TcpStream,
    end: Pin<Box<Sleep>>,
    _place: OwnedSemaphorePermit,
}

impl Visit {
    fn in_time(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.end.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Visit {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.in_time(context)?;
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl AsyncWrite for Visit {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.in_time(context)?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_and_queries_are_read_or_refused() {
        assert_eq!(subject_of("pg", "7"), Ok(Subject::Pg(repair_core::id::PgId(7))));
        assert_eq!(subject_of("node", "r/z/rack/n1"), Ok(Subject::Node("r/z/rack/n1".into())));
        assert!(subject_of("disk", &format!("{:032x}", 7)).is_ok());
        for (kind, id) in [("pg", "-1"), ("pg", ""), ("extent", "7"), ("disk", "x"), ("tape", "1")] {
            assert!(subject_of(kind, id).is_err(), "{kind} {id}");
        }
        assert_eq!((after_of(""), after_of("after=7")), (Some(0), Some(7)));
        for query in ["after", "after=", "after=-1", "before=1", "after=1&x=2"] {
            assert_eq!(after_of(query), None, "{query}");
        }
    }
}
