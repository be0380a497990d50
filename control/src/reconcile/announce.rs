//! Which containers have still to be made known to the others, and when?
//!
//! When the port is in force and its link is up; again when the link has been down, for the address may have come from elsewhere
//! meanwhile. Whoever adds a port finds it announced when the command ends; a start with many does not wait for that.

use super::Reconciler;
use crate::kernel::{Kernel, Kind, Link};
use futures_util::future::join_all;
use std::time::Duration;

/// So many are announced before the command ends.
const AT_ONCE_MAX: usize = 8;
/// More of them begin when whoever waits for the ports has been served.
const AFTER: Duration = Duration::from_millis(50);

impl Reconciler {
    /// Announces whoever is in force and up, and asks whether somebody behind the new ports has an address of ours.
    pub(super) async fn announce(&mut self) {
        let mut ready = self.take_ready();
        if !ready.is_empty() {
            self.listeners.ask_again();
        }
        ready.retain(|link| link.kind == Kind::Veth);
        let kernel = self.kernel.clone();
        if ready.len() <= AT_ONCE_MAX {
            join_all(ready.iter().map(|link| one(&kernel, link))).await;
            return;
        }
        tokio::spawn(async move {
            tokio::time::sleep(AFTER).await;
            for link in ready {
                one(&kernel, &link).await;
            }
        });
    }

    fn take_ready(&mut self) -> Vec<Link> {
        let state = self.state.borrow();
        let mut ready = Vec::new();
        self.unannounced.retain(|name| {
            let is_attached = state.devices.contains_key(name);
            let link = self.links.by_name(name).filter(|link| link.carrier && is_attached);
            ready.extend(link.cloned());
            link.is_none() && is_attached
        });
        ready
    }
}

async fn one(kernel: &Kernel, link: &Link) {
    match kernel.announce(link).await {
        Ok(addresses) => tracing::debug!("{}: announced {addresses} address(es)", link.name),
        // Whoever is asked for it answers for itself then.
        Err(text) => tracing::debug!("{}: its addresses are not announced: {text}", link.name),
    }
}
