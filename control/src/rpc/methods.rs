//! What does each method do (RFC 7047 §4.1)?

use super::hub::{Hub, Session, SessionId, Waiting};
use super::message;
use super::monitor::{Monitor, Version};
use super::{PER_SESSION_MAX, server_database};
use crate::database::Database;
use crate::datum::parse_uuid;
use crate::schema::vswitch;
use crate::transaction::{self, Context, OperationError, Outcome};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// The complaint about a transaction with the id of one that waits.
pub(super) const DUPLICATE_REQUEST: &str = "transact: duplicate request ID";

/// The `error` member of a reply.
type Failure = Value;

/// A complaint about a part of the request.
fn syntax(details: impl Into<String>, about: impl Into<Value>) -> Failure {
    OperationError::syntax(details).about(&about.into()).to_json()
}

fn invalid(params: &[Value]) -> Failure {
    syntax("invalid parameters", params)
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
        if id.is_null() {
            if method == "cancel" {
                self.cancel(session, &params);
            }
            return None; // everything else is no notification
        }
        let result = match method {
            "echo" => Ok(Value::Array(params)),
            "list_dbs" => Ok(json!([self.store.borrow().database().schema().name, server_database::NAME])),
            "get_schema" if self.is_known_schema(&params) => Ok(Value::Null),
            "get_schema" => self.with_database(method, &params, |database| database.schema().to_json()),
            "get_server_id" => Ok(self.server_id.to_string().into()),
            "monitor" => self.monitor(session, method, params, Version::Update),
            "monitor_cond" => self.monitor(session, method, params, Version::Update2),
            "monitor_cond_since" => self.monitor(session, method, params, Version::Update3),
            "monitor_cond_change" => self.monitor_cond_change(session, &params),
            "monitor_cancel" => self.monitor_cancel(session, &params),
            "lock" | "steal" | "unlock" => self.lock_request(session, method, &params),
            // Our databases neither come nor go, and keep their schema.
            "set_db_change_aware" => match params.as_slice() {
                [Value::Bool(_)] => Ok(json!({})),
                _ => Err(syntax("set_db_change_aware: true or false parameter expected", params)),
            },
            "capture" => self.feed(session, &params),
            "convert" => self.convert(&params),
            "cancel" => Err(json!("unknown method")),
            _ => self.command(method, &params, now),
        };
        Some(match result {
            Ok(result) => message::result(id, result),
            Err(error) => message::error(id, error),
        })
    }

    /// Whether a client says that it has our schema: behind the name, where others look at nothing.
    fn is_known_schema(&self, params: &[Value]) -> bool {
        self.serves_own_schema
            && matches!(params, [name, digest] if name == "Open_vSwitch" && *digest == vswitch::DIGEST)
    }

    /// Runs `read` on the database that the first parameter names.
    fn with_database<T>(
        &self,
        method: &str,
        params: &[Value],
        read: impl FnOnce(&Database) -> T,
    ) -> Result<T, Failure> {
        let Some(Value::String(name)) = params.first() else {
            return Err(syntax(format!("{method} request params must begin with <db-name>"), params));
        };
        let store = self.store.borrow();
        if *name == store.database().schema().name {
            Ok(read(store.database()))
        } else if name == server_database::NAME {
            Ok(read(&self.server_database))
        } else {
            let details = format!("{method} request specifies unknown database {name}");
            Err(OperationError::new("unknown database", details).about(&params.into()).to_json())
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
        if id.is_null() {
            return None;
        }
        match self.transaction(session, params, &id, now) {
            Ok(None) => None,
            Ok(Some(results)) => Some(message::result(&id, Value::Array(results))),
            Err(error) => Some(message::error(&id, error)),
        }
    }

    fn transaction(
        &mut self,
        session: SessionId,
        mut params: Vec<Value>,
        id: &Value,
        now: Instant,
    ) -> Result<Option<Vec<Value>>, Failure> {
        let is_server = self.with_database("transact", &params, |db| db.schema().name == server_database::NAME)?;
        let waits = |session: &Session| session.waiting.iter().any(|waiting| waiting.id == *id);
        if self.sessions.get(&session).is_some_and(waits) {
            return Err(syntax(DUPLICATE_REQUEST, params));
        }
        params.remove(0);
        if is_server {
            return self.read_server_database(&params).map(Some);
        }
        let Some(found) = self.sessions.get(&session) else { return Ok(None) };
        let peer = found.peer;
        self.gather(Waiting { session, peer, id: id.clone(), operations: params, since: now, until: None });
        Ok(None)
    }

    /// Operations on `_Server`, which nobody may change.
    fn read_server_database(&self, operations: &[Value]) -> Result<Vec<Value>, Failure> {
        let writes =
            |operation: &Value| ["insert", "update", "mutate", "delete"].into_iter().find(|op| operation["op"] == *op);
        let first = operations.iter().enumerate().find_map(|(place, operation)| Some((place, writes(operation)?)));
        let allowed = &operations[..first.map_or(operations.len(), |(place, _)| place)];
        let mut fresh = Uuid::new_v4;
        let mut context = Context { fresh: &mut fresh, waited: Duration::MAX, owns_lock: &|_| false };
        let Outcome::Done(mut results, _) = transaction::execute(&self.server_database, allowed, &mut context) else {
            let details = "the database _Server does not change: do not wait for it";
            return Err(OperationError::new("not allowed", details).to_json());
        };
        if let Some((_, op)) = first
            && results.iter().all(|result| result["error"].is_null())
        {
            let details = format!("{op} operation not allowed on table in reserved database _Server");
            results.push(OperationError::new("not allowed", details).to_json());
        }
        results.resize(operations.len().max(results.len()), Value::Null);
        Ok(results)
    }

    /// The schema is part of the program: each release brings its own, and reads what earlier ones wrote.
    fn convert(&self, params: &[Value]) -> Result<Value, Failure> {
        let name = self.with_database("convert", params, |database| database.schema().name.clone())?;
        if params.len() != 2 {
            return Err(syntax("array expected", params));
        }
        let details = format!("the schema of {name} is part of shuntd: install the release that has the one you want");
        Err(OperationError::new("not supported", details).to_json())
    }

    /// A notification: nothing is said of one that makes no sense.
    fn cancel(&mut self, session: SessionId, params: &[Value]) {
        if let [request] = params
            && let Some(session) = self.sessions.get_mut(&session)
            && session.take_waiting(request).is_some()
        {
            session.send(&message::error(request, json!("canceled")));
        }
    }

    fn monitor(
        &mut self,
        session: SessionId,
        method: &str,
        params: Vec<Value>,
        version: Version,
    ) -> Result<Value, Failure> {
        let sessions = &self.sessions;
        let monitor = self.with_database(method, &params, |database| {
            let (id, requests) = match (version, params.as_slice()) {
                (Version::Update, [_, id, requests, ..])
                | (Version::Update2, [_, id, requests])
                | (Version::Update3, [_, id, requests, _]) => (id, requests),
                _ => return Err(invalid(&params)),
            };
            let monitors = sessions.get(&session).map(|session| session.monitors.as_slice()).unwrap_or_default();
            if monitors.iter().any(|monitor| monitor.id == *id) && requests.is_object() {
                return Err(syntax("duplicate monitor ID", id.clone()));
            }
            if monitors.len() >= PER_SESSION_MAX {
                let details = format!("this client has {PER_SESSION_MAX} monitors; cancel one");
                return Err(OperationError::new("resources exhausted", details).to_json());
            }
            let monitor = Monitor::from_json(id.clone(), requests, database, version).map_err(|e| e.to_json())?;
            match (version, params.last()) {
                (Version::Update3, Some(Value::String(last))) if parse_uuid(last).is_some() => {}
                (Version::Update3, Some(last)) if last.is_string() => {
                    return Err(syntax("last-txn-id must be UUID format.", last.clone()));
                }
                (Version::Update3, Some(last)) => return Err(syntax("last-txn-id must be string", last.clone())),
                _ => {}
            }
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
        let [old, new, requests] = params else { return Err(invalid(params)) };
        let Some(session) = self.sessions.get_mut(&session) else { return Ok(json!({})) };
        let Some(place) = session.monitors.iter().position(|monitor| monitor.id == *old) else {
            return Err(syntax("unknown monitor session", old.clone()));
        };
        if old != new && session.monitors.iter().any(|monitor| monitor.id == *new) {
            return Err(syntax("duplicate monitor ID", new.clone()));
        }
        let monitor = &mut session.monitors[place];
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
        let [id] = params else { return Err(json!("invalid parameters")) };
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
        let name = match params {
            [Value::String(name)] if transaction::is_id(name) => name,
            _ => return Err(syntax(format!("{method} request params must be <id>"), params)),
        };
        let wanted = self.locks.wants(name, session);
        match method {
            "unlock" if !wanted => Err(syntax("unlock: \"unlock\" without \"lock\" or \"steal\"", params)),
            "unlock" => {
                if let Some(owner) = self.locks.unlock(name, session) {
                    self.tell_lock("locked", name, owner);
                }
                Ok(json!({}))
            }
            _ if wanted => Err(syntax(format!("must issue \"unlock\" before new \"{method}\""), params)),
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

    /// The connection carries packets from now on.
    fn feed(&mut self, session: SessionId, params: &[Value]) -> Result<Value, Failure> {
        let [request] = params else { return Err(invalid(params)) };
        let feed = self.daemon.borrow_mut().feed(request).map_err(Value::from)?;
        if let Some(session) = self.sessions.get_mut(&session) {
            session.feed = Some(feed);
        }
        Ok(json!({}))
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
