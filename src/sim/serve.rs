//! Connections of a simulated engine: accepted, kept in one set, cut together.

use std::future::pending;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use pingora::apps::ServerApp;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::socket::Socket;
use super::{Options, Sim};

/// How long accepting rests after it failed, usually for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// Binds `options.listen`, prints `listening on ADDR` on stdout and serves until `shutdown`.
///
/// # Errors
/// The address cannot be bound, stdout is closed, or a model name cannot be a metric label.
pub async fn run(options: Options, shutdown: watch::Receiver<bool>) -> anyhow::Result<()> {
    let listener = TcpListener::bind(&options.listen)
        .await
        .with_context(|| format!("cannot listen on {}", options.listen))?;
    let sim = Arc::new(Sim::new(options)?);
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "listening on {}", listener.local_addr()?)?;
    stdout.flush()?;
    drop(stdout);
    serve(sim, listener, shutdown).await;
    Ok(())
}

/// Serves connections until `shutdown` turns true, then cuts them all, as a killed engine does.
pub async fn serve(sim: Arc<Sim>, listener: TcpListener, shutdown: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    let mut stop = shutdown.clone();
    loop {
        let accepted = tokio::select! {
            () = stopped(&mut stop) => return,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                connections.spawn(connection(Arc::clone(&sim), stream, shutdown.clone()));
            }
            Err(error) => {
                log::warn!(error:% = error; "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(sim: Arc<Sim>, stream: TcpStream, shutdown: watch::Receiver<bool>) {
    match Socket::new(stream) {
        Ok(socket) => {
            let mut stream: Option<pingora::protocols::Stream> = Some(Box::new(socket));
            while let Some(reused) = stream {
                stream = sim.process_new(reused, &shutdown).await;
            }
        }
        Err(error) => log::debug!(error:% = error; "connection is gone already"),
    }
}

/// Waits for `shutdown`; a sender that is gone never asks for it.
async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    if shutdown.wait_for(|stop| *stop).await.is_err() {
        pending::<()>().await;
    }
}
