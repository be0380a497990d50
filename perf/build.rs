//! How do the generator's, the sink's and the redirecting peer's BPF programs become objects?

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

const PROGRAMS: [&str; 3] = ["generator", "sink", "redirect"];

fn main() {
    println!("cargo::rerun-if-changed=bpf");
    println!("cargo::rerun-if-env-changed=CLANG");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let clang = find_clang();
    for program in PROGRAMS {
        compile(&clang, program, &out.join(format!("{program}.o")));
    }
}

/// `CLANG`, else the plain name, else the newest version that Debian installs beside it.
fn find_clang() -> String {
    if let Ok(clang) = env::var("CLANG") {
        return clang;
    }
    let versions = (14..=21).rev().map(|version| format!("clang-{version}"));
    std::iter::once("clang".to_owned())
        .chain(versions)
        .find(|name| Command::new(name).arg("--version").output().is_ok())
        .unwrap_or_else(|| panic!("no clang found: install clang, or set CLANG to its path"))
}

fn compile(clang: &str, program: &str, object: &Path) {
    let source = format!("bpf/{program}.c");
    // Debian keeps asm/types.h in the architecture's own folder, which -target bpf does not search.
    let include = format!("-I/usr/include/{}-linux-gnu", env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default());
    let status = Command::new(clang)
        .args(["-O2", "-g", "-Wall", "-Wextra", "-Werror", "-target", "bpf", "-mcpu=v3", &include, "-c", &source, "-o"])
        .arg(object)
        .status()
        .unwrap_or_else(|error| panic!("cannot run {clang}: {error}; install clang, or set CLANG to its path"));
    assert!(status.success(), "{clang} could not compile {source}: {status}");
}
