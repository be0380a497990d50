//! How does a feed get to a client that may be slow?
//!
//! The feed is asked for more only when all that it gave is written, so that at most one batch waits here. A client that closes its
//! sending side wants no more, and gets the end; one that is gone ends it at once.

use super::Feed;
use std::io;
use std::time::Duration;
use tokio::net::UnixStream;

/// How often an idle feed is looked at.
const INTERVAL: Duration = Duration::from_millis(5);

/// Until the feed or the client ends it.
pub(super) async fn run(stream: &UnixStream, mut feed: Box<dyn Feed>) -> io::Result<()> {
    let (mut output, mut written) = (Vec::new(), 0);
    let (mut goes_on, mut ended) = (true, false);
    let mut tick = tokio::time::interval(INTERVAL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        if written == output.len() {
            output.clear();
            written = 0;
            if goes_on && !ended {
                goes_on = feed.take(&mut output);
            }
            if output.is_empty() && (!goes_on || ended) {
                return Ok(());
            }
        }
        let has_output = written < output.len();
        tokio::select! {
            ready = stream.writable(), if has_output => {
                ready?;
                match stream.try_write(&output[written..]) {
                    Ok(count) => written += count,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
                // Others have their turn.
                tokio::task::yield_now().await;
            }
            ready = stream.readable(), if !ended => {
                ready?;
                match stream.try_read(&mut [0; 512]) {
                    Ok(0) => {
                        ended = true;
                        feed.end(&mut output);
                    }
                    // Nothing that it could say matters any more.
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
            _ = tick.tick(), if !has_output => {}
        }
    }
}
