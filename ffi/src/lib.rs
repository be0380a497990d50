//! How do AF_XDP, XDP programs and the rest of the kernel look from safe Rust? (The only crate with unsafe.)
