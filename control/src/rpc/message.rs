//! What does a JSON-RPC 1.0 message say, and what does an answer look like?

use crate::transaction::OperationError;
use serde_json::Value;

/// What a client sent.
#[derive(Debug, PartialEq)]
pub(super) enum Message {
    /// `id` is null for a notification.
    Request { method: String, params: Vec<Value>, id: Value },
    /// An answer; we never ask.
    Answer,
}

/// Reads one JSON text. The error says what is wrong, and carries the id if there is one.
pub(super) fn parse(bytes: &[u8]) -> Result<Message, Box<(Value, OperationError)>> {
    let wrong = |id: Value, text: &str| Box::new((id, OperationError::syntax(text)));
    let mut json: Value = serde_json::from_slice(bytes)
        .map_err(|error| wrong(Value::Null, &format!("the request is not JSON: {error}")))?;
    let id = json.get_mut("id").map(Value::take).unwrap_or_default();
    let is_answer = json.get("method").is_none() && (json.get("result").is_some() || json.get("error").is_some());
    if is_answer {
        return Ok(Message::Answer);
    }
    match (json.get_mut("method").map(Value::take), json.get_mut("params").map(Value::take)) {
        (Some(Value::String(method)), Some(Value::Array(params))) => Ok(Message::Request { method, params, id }),
        (Some(Value::String(_)), _) => Err(wrong(id, "\"params\" must be an array")),
        _ => Err(wrong(id, "a request needs \"method\", a string, and \"params\", an array")),
    }
}

pub(super) fn result(id: &Value, result: Value) -> Value {
    object([("id", id.clone()), ("result", result), ("error", Value::Null)])
}

pub(super) fn error(id: &Value, error: Value) -> Value {
    object([("id", id.clone()), ("result", Value::Null), ("error", error)])
}

pub(super) fn notification(method: &str, params: Value) -> Value {
    object([("method", method.into()), ("params", params), ("id", Value::Null)])
}

/// As `json!`, which copies what it is given: here that may be a whole table.
fn object(members: [(&str, Value); 3]) -> Value {
    Value::Object(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}
