//! Which containers have still to be made known to the others, and when?
//!
//! When the port is in force and its link is up; again when the link has been down, for the address may have come from elsewhere
//! meanwhile. It happens beside everything else: nobody waits for it, and a thousand containers take their time.

use super::Reconciler;
use crate::kernel::Link;
use std::time::Duration;

/// Whoever waits for the command or the start that brought the ports comes first.
const AFTER: Duration = Duration::from_millis(50);

impl Reconciler {
    /// Announces whoever is in force and up.
    pub(super) fn announce(&mut self) {
        let state = self.state.borrow();
        let mut ready: Vec<Link> = Vec::new();
        self.unannounced.retain(|name| {
            let attached = state.devices.get(name).filter(|device| device.is_veth);
            let link = self.links.by_name(name).filter(|link| link.carrier && attached.is_some());
            ready.extend(link.cloned());
            link.is_none() && attached.is_some()
        });
        if ready.is_empty() {
            return;
        }
        let kernel = self.kernel.clone();
        tokio::spawn(async move {
            tokio::time::sleep(AFTER).await;
            for link in ready {
                match kernel.announce(&link).await {
                    Ok(addresses) => tracing::debug!("{}: announced {addresses} address(es)", link.name),
                    // Whoever is asked for it answers for itself then.
                    Err(text) => tracing::debug!("{}: its addresses are not announced: {text}", link.name),
                }
                tokio::task::yield_now().await;
            }
        });
    }
}
