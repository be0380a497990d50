//! Where does one JSON text end and the next begin? Requests follow each other on the stream without a separator.

use super::{MESSAGE_MAX, NESTING_MAX};

/// Why a stream cannot be read on: where the next request begins is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// More than [`MESSAGE_MAX`] bytes.
    #[error("the request is longer than {MESSAGE_MAX} bytes; split it")]
    TooLong,
    /// More than [`NESTING_MAX`] levels.
    #[error("the request nests arrays and objects more than {NESTING_MAX} deep")]
    TooDeep,
    /// Something else than an object.
    #[error("a request must be a JSON object, but begins with byte {0:#04x}")]
    NotAnObject(u8),
}

/// Collects bytes and cuts them into JSON objects, without looking further into them than braces and quotes.
#[derive(Debug, Default)]
pub struct Splitter {
    buffer: Vec<u8>,
    /// Where the object at hand begins, and how far it has been looked at.
    start: usize,
    scanned: usize,
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl Splitter {
    /// Adds what was read.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.scanned -= self.start;
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// Bytes that are not part of a whole object yet.
    pub fn pending(&self) -> usize {
        self.buffer.len() - self.start
    }

    /// The next whole object, if it has arrived. After an error there is no way on.
    pub fn next_object(&mut self) -> Result<Option<&[u8]>, FrameError> {
        while let Some(byte) = self.buffer.get(self.scanned).copied() {
            self.scanned += 1;
            if self.depth == 0 {
                match byte {
                    b' ' | b'\t' | b'\r' | b'\n' => self.start = self.scanned,
                    b'{' => {
                        self.start = self.scanned - 1;
                        self.depth = 1;
                    }
                    _ => return Err(FrameError::NotAnObject(byte)),
                }
                continue;
            }
            if self.scanned - self.start > MESSAGE_MAX {
                return Err(FrameError::TooLong);
            }
            if self.in_string {
                self.in_string = byte != b'"' || self.escaped;
                self.escaped = byte == b'\\' && !self.escaped;
                continue;
            }
            match byte {
                b'"' => self.in_string = true,
                b'{' | b'[' if self.depth == NESTING_MAX => return Err(FrameError::TooDeep),
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        let start = std::mem::replace(&mut self.start, self.scanned);
                        return Ok(Some(&self.buffer[start..self.scanned]));
                    }
                }
                _ => {}
            }
        }
        Ok(None)
    }
}
