//! How do the programs in C become objects that the library carries inside?

use std::path::PathBuf;
use std::process::Command;

const PROGRAMS: [&str; 2] = ["redirect", "shortcut"];
const REMEDY: &str = "install clang (Debian: `apt install clang`) or set CLANG to a clang that has the bpf target";

fn main() {
    println!("cargo::rerun-if-env-changed=CLANG");
    for program in PROGRAMS {
        compile(program);
    }
}

fn compile(program: &str) {
    let source = format!("bpf/{program}.bpf.c");
    println!("cargo::rerun-if-changed={source}");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let object = out.join(format!("{program}.bpf.o"));
    let target = match std::env::var("CARGO_CFG_TARGET_ENDIAN").as_deref() {
        Ok("big") => "bpfeb",
        _ => "bpfel",
    };

    let mut tried = Vec::new();
    for clang in candidates() {
        // -g: the maps are described by BTF.
        let run = Command::new(&clang)
            .args(["-target", target, "-mcpu=v3", "-O2", "-g", "-Wall", "-Wextra", "-Werror", "-c", &source, "-o"])
            .arg(&object)
            .output();
        match run {
            Ok(output) if output.status.success() => return,
            Ok(output) => {
                tried.push(format!("{clang}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr)));
            }
            Err(error) => tried.push(format!("{clang}: {error}")),
        }
    }
    println!("cargo::error=no clang compiled ffi/{source}; {REMEDY}");
    for line in tried.join("\n").lines() {
        println!("cargo::error={line}");
    }
    std::process::exit(1);
}

/// `$CLANG` alone when it is set, else the names under which distributions install clang.
fn candidates() -> Vec<String> {
    match std::env::var("CLANG") {
        Ok(clang) => vec![clang],
        Err(_) => std::iter::once("clang".to_owned()).chain((14..=22).rev().map(|n| format!("clang-{n}"))).collect(),
    }
}
