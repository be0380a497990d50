//! What does each method do (RFC 7047 §4.1)?

use super::hub::{Hub, SessionId, Waiting};
use super::message;
use super::monitor::{Monitor, Version};
use super::{PER_SESSION_MAX, server_database};
use crate::database::Database;
use crate::transaction::{self, Context, OperationError, Outcome};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// The `error` member of a reply.
type Failure = Value;

fn syntax(details: impl Into<String>) -> Failure {
    OperationError::syntax(details).to_json()
}

impl Hub {
    /// The reply to a request; `None` if there is none, or if it comes later.
    pub(super) fn request(
        &mut self,
        session: SessionId,
        method: &str,
        params: Vec<Value>,
        id: &Value,
        now: Instant,
    ) -> Option<Value> {
        let result = match method {
            "echo" => Ok(Value::Array(params)),
            "list_dbs" => Ok(json!([self.store.borrow().database().schema().name, server_database::NAME])),
            "get_schema" => self.with_database(method, &params, |database| database.schema().to_json()),
            "cancel" => self.cancel(session, &params),
            "monitor" => self.monitor(session, method, params, Version::Update),
            "monitor_cond" => self.monitor(session, method, params, Version::Update2),
            "monitor_cond_since" => self.monitor(session, method, params, Version::Update3),
            "monitor_cond_change" => self.monitor_cond_change(session, &params),
            "monitor_cancel" => self.monitor_cancel(session, &params),
            "lock" | "steal" | "unlock" => self.lock_request(session, method, &params),
            // Our databases neither come nor go.
            "set_db_change_aware" => Ok(json!({})),
            _ => self.command(method, &params, now),
        };
        match result {
            Ok(result) if !id.is_null() => Some(message::result(id, result)),
            Err(error) if !id.is_null() => Some(message::error(id, error)),
            _ => None,
        }
    }

    /// Runs `read` on the database that the first parameter names.
    fn with_database<T>(
        &self,
        method: &str,
        params: &[Value],
        read: impl FnOnce(&Database) -> T,
    ) -> Result<T, Failure> {
        let Some(Value::String(name)) = params.first() else {
            return Err(syntax(format!("{method} request params must begin with <db-name>")));
        };
        let store = self.store.borrow();
        if *name == store.database().schema().name {
            Ok(read(store.database()))
        } else if name == server_database::NAME {
            Ok(read(&self.server_database))
        } else {
            let details = format!("{method} request specifies unknown database {name}; list_dbs names them");
            Err(OperationError::new("unknown database", details).to_json())
        }
    }

    /// The reply to `transact`, if there is one already.
    pub(super) fn transact_request(
        &mut self,
        session: SessionId,
        params: Vec<Value>,
        id: Value,
        now: Instant,
    ) -> Option<Value> {
        match self.transaction(session, params, &id, now) {
            Ok(None) => None,
            Ok(Some(results)) => Some(message::result(&id, Value::Array(results))),
            Err(error) => Some(message::error(&id, error)),
        }
        .filter(|_| !id.is_null())
    }

    fn transaction(
        &mut self,
        session: SessionId,
        mut params: Vec<Value>,
        id: &Value,
        now: Instant,
    ) -> Result<Option<Vec<Value>>, Failure> {
        let is_server = self.with_database("transact", &params, |db| db.schema().name == server_database::NAME)?;
        params.remove(0);
        if is_server {
            return self.read_server_database(&params).map(Some);
        }
        let Some(found) = self.sessions.get(&session) else { return Ok(None) };
        if found.waiting.iter().any(|waiting| waiting.id == *id) {
            return Err(syntax("duplicate request ID"));
        }
        let peer = found.peer;
        self.gather(Waiting { session, peer, id: id.clone(), operations: params, since: now, until: None });
        Ok(None)
    }

    /// Operations on `_Server`, which nobody may change.
    fn read_server_database(&self, operations: &[Value]) -> Result<Vec<Value>, Failure> {
        let mut fresh = Uuid::new_v4;
        let mut context = Context { fresh: &mut fresh, waited: Duration::MAX, owns_lock: &|_| false };
        match transaction::execute(&self.server_database, operations, &mut context) {
            Outcome::Done(results, delta) if delta.changes.is_empty() => Ok(results),
            _ => {
                let details = "the database _Server can only be read, and does not change: do not wait for it";
                Err(OperationError::new("not allowed", details).to_json())
            }
        }
    }

    fn cancel(&mut self, session: SessionId, params: &[Value]) -> Result<Value, Failure> {
        let [request] = params else { return Err(syntax("cancel needs one parameter, the id of a transact request")) };
        if let Some(session) = self.sessions.get_mut(&session)
            && session.take_waiting(request).is_some()
        {
            session.send(&message::error(request, json!("canceled")));
        }
        Ok(json!({}))
    }

    fn monitor(
        &mut self,
        session: SessionId,
        method: &str,
        params: Vec<Value>,
        version: Version,
    ) -> Result<Value, Failure> {
        let count = if version == Version::Update3 { 3..=4 } else { 3..=3 };
        let fits = count.contains(&params.len());
        let sessions = &self.sessions;
        let monitor = self.with_database(method, &params, |database| {
            let (Some(id), Some(requests), true) = (params.get(1), params.get(2), fits) else {
                return Err(syntax(format!("{method} needs a database, an id and an object of requests by table")));
            };
            let monitors = sessions.get(&session).map(|session| session.monitors.as_slice()).unwrap_or_default();
            if monitors.iter().any(|monitor| monitor.id == *id) {
                return Err(syntax("duplicate monitor ID"));
            }
            if monitors.len() >= PER_SESSION_MAX {
                let details = format!("this client has {PER_SESSION_MAX} monitors; cancel one");
                return Err(OperationError::new("resources exhausted", details).to_json());
            }
            let monitor = Monitor::from_json(id.clone(), requests, database, version).map_err(|e| e.to_json())?;
            let initial = monitor.initial(database);
            Ok((monitor, initial))
        })?;
        let (monitor, initial) = monitor?;
        if let Some(session) = self.sessions.get_mut(&session) {
            session.monitors.push(monitor);
        }
        Ok(initial)
    }

    fn monitor_cond_change(&mut self, session: SessionId, params: &[Value]) -> Result<Value, Failure> {
        let [old, new, requests] = params else {
            return Err(syntax("monitor_cond_change needs an id, the new id and an object of conditions by table"));
        };
        let Some(session) = self.sessions.get_mut(&session) else { return Ok(json!({})) };
        if old != new && session.monitors.iter().any(|monitor| monitor.id == *new) {
            return Err(syntax("duplicate monitor ID"));
        }
        let Some(monitor) = session.monitors.iter_mut().find(|monitor| monitor.id == *old) else {
            return Err(json!("unknown monitor"));
        };
        let store = self.store.borrow();
        let is_server = monitor.database == server_database::NAME;
        let database = if is_server { &self.server_database } else { store.database() };
        let changed = monitor.change_conditions(new.clone(), requests, database).map_err(|e| e.to_json())?;
        if let Some((method, params)) = changed {
            session.send(&message::notification(method, params));
        }
        Ok(json!({}))
    }

    fn monitor_cancel(&mut self, session: SessionId, params: &[Value]) -> Result<Value, Failure> {
        let [id] = params else { return Err(syntax("monitor_cancel needs one parameter, the id of a monitor")) };
        let monitors = self.sessions.get_mut(&session).map(|session| &mut session.monitors);
        let place = monitors.as_ref().and_then(|monitors| monitors.iter().position(|monitor| monitor.id == *id));
        match (monitors, place) {
            (Some(monitors), Some(place)) => {
                monitors.remove(place);
                Ok(json!({}))
            }
            _ => Err(json!("unknown monitor")),
        }
    }

    fn lock_request(&mut self, session: SessionId, method: &str, params: &[Value]) -> Result<Value, Failure> {
        let [Value::String(name)] = params else {
            return Err(syntax(format!("{method} request params must be <id>")));
        };
        let wanted = self.locks.wants(name, session);
        match method {
            "unlock" if !wanted => Err(syntax("unlock: \"unlock\" without \"lock\" or \"steal\"")),
            "unlock" => {
                if let Some(owner) = self.locks.unlock(name, session) {
                    self.tell_lock("locked", name, owner);
                }
                Ok(json!({}))
            }
            _ if wanted => Err(syntax("must issue \"unlock\" before new \"lock\"")),
            _ if self.locks.count(session) >= PER_SESSION_MAX => {
                let details = format!("this client has {PER_SESSION_MAX} locks; unlock one");
                Err(OperationError::new("resources exhausted", details).to_json())
            }
            "lock" => Ok(json!({"locked": self.locks.lock(name, session)})),
            _ => {
                if let Some(robbed) = self.locks.steal(name, session) {
                    self.tell_lock("stolen", name, robbed);
                }
                Ok(json!({"locked": true}))
            }
        }
    }

    /// Anything else with string parameters is a run-time command of the daemon.
    fn command(&mut self, name: &str, params: &[Value], now: Instant) -> Result<Value, Failure> {
        let args: Option<Vec<String>> = params.iter().map(|param| param.as_str().map(str::to_owned)).collect();
        let Some(args) = args else { return Err(json!("unknown method")) };
        let result = self.daemon.borrow_mut().command(name, &args);
        self.poll(now);
        result.map_err(Value::from)
    }
}
