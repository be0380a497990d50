//! Which containers have still to be made known to the others, and when?
//!
//! When the port is in force and its link is up; again when the link has been down, for the address may have come from elsewhere
//! meanwhile. Whoever adds a port finds it announced when the command ends; a start with many does not wait for that.

use super::Reconciler;
use crate::kernel::{Kernel, Link};
use futures_util::future::join_all;
use std::time::Duration;

/// So many are announced before the command ends.
const AT_ONCE_MAX: usize = 8;
/// More of them begin when whoever waits for the ports has been served.
const AFTER: Duration = Duration::from_millis(50);

impl Reconciler {
    /// Announces whoever is in force and up.
    pub(super) async fn announce(&mut self) {
        let ready = self.take_ready();
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
            let attached = state.devices.get(name).filter(|device| device.is_veth);
            let link = self.links.by_name(name).filter(|link| link.carrier && attached.is_some());
            ready.extend(link.cloned());
            link.is_none() && attached.is_some()
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
