//! Who owns which lock (RFC 7047 §4.1.8)?

use super::SessionId;
use std::collections::{BTreeMap, VecDeque};

/// For each lock its owner, and behind it those who wait.
#[derive(Debug, Default)]
pub(super) struct Locks(BTreeMap<String, VecDeque<SessionId>>);

impl Locks {
    pub(super) fn owns(&self, name: &str, session: SessionId) -> bool {
        self.0.get(name).and_then(VecDeque::front) == Some(&session)
    }

    /// Whether the session owns the lock or waits for it.
    pub(super) fn wants(&self, name: &str, session: SessionId) -> bool {
        self.0.get(name).is_some_and(|queue| queue.contains(&session))
    }

    /// How many locks the session owns or waits for.
    pub(super) fn count(&self, session: SessionId) -> usize {
        self.0.values().filter(|queue| queue.contains(&session)).count()
    }

    /// Says whether the session owns the lock now; if not, it waits.
    pub(super) fn lock(&mut self, name: &str, session: SessionId) -> bool {
        self.0.entry(name.to_owned()).or_default().push_back(session);
        self.owns(name, session)
    }

    /// Makes the session the owner, and yields the one that was; that one waits now.
    pub(super) fn steal(&mut self, name: &str, session: SessionId) -> Option<SessionId> {
        let queue = self.0.entry(name.to_owned()).or_default();
        let robbed = queue.front().copied();
        queue.push_front(session);
        robbed
    }

    /// Gives the lock up, or the wish for it; yields the new owner if there is one.
    pub(super) fn unlock(&mut self, name: &str, session: SessionId) -> Option<SessionId> {
        let owned = self.owns(name, session);
        let queue = self.0.get_mut(name)?;
        queue.retain(|waiting| *waiting != session);
        let next = queue.front().copied();
        if next.is_none() {
            self.0.remove(name);
        }
        next.filter(|_| owned)
    }

    /// Gives up everything of a session; yields locks and their new owners.
    pub(super) fn forget(&mut self, session: SessionId) -> Vec<(String, SessionId)> {
        let names: Vec<String> = self.0.keys().filter(|name| self.wants(name, session)).cloned().collect();
        names.into_iter().filter_map(|name| Some((name.clone(), self.unlock(&name, session)?))).collect()
    }
}
