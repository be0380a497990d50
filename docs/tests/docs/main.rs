//! Are the documents, the names and the tree what they say they are?

mod in_sync;
mod tidy;
mod tree;
