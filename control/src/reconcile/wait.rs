//! What does the control thread wait for, that the kernel tells of?

use super::Reconciler;
use crate::dataplane::Stuck;
use crate::kernel::Error;
use std::time::Duration;

/// How long after a change of routes the workers are asked to come past: many changes share one question.
const PASS_AFTER: Duration = Duration::from_millis(20);

/// What [`Reconciler::event`] waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A link of the host changed, or what others say of an address of ours: [`Reconciler::reconcile`].
    Links,
    /// Routes or neighbours changed: [`Reconciler::take_routes`].
    Routes,
    /// The workers are to come past: [`Reconciler::reclaim`].
    PassDue,
}

impl Reconciler {
    /// Waits until something of the kernel's changes, or is due. Nothing is lost if the future is dropped before it is ready.
    pub async fn event(&mut self) -> Result<Event, Error> {
        if self.pass_due.is_none() && self.state.borrow().router.is_owed() {
            self.pass_due = Some(tokio::time::Instant::now() + PASS_AFTER);
        }
        let pass_due = self.pass_due;
        let mut pass = std::pin::pin!(async {
            match pass_due {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        });
        loop {
            tokio::select! {
                touched = self.links.changed() => {
                    self.touched_links.extend(touched?);
                    return Ok(Event::Links);
                }
                told = self.namespaces.told() => {
                    self.heard.push(told?);
                    return Ok(Event::Routes);
                }
                news = self.listeners.heard() => if self.take_heard(news) {
                    return Ok(Event::Links);
                },
                () = &mut pass => return Ok(Event::PassDue),
            }
        }
    }

    /// Has all workers come past, after which memory that routes no longer take is used again.
    pub fn reclaim(&mut self) -> Result<(), Stuck> {
        self.pass_due = None;
        self.state.borrow_mut().reclaim_routes()
    }
}
