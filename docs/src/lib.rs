//! Where is the text? In the Markdown files beside `src/`; this crate only holds the tests that keep them true.
#![forbid(unsafe_code)]
