//! Does the source tree keep the rules of CONTRIBUTING.md that a test can check?

use crate::tree::{code, files, is_test_file, lines_before_tests, none, test_part};
use std::collections::{BTreeMap, BTreeSet};

/// Longest file, its tests not counted.
const FILE_LINES_MAX: usize = 500;
/// Longest function outside of tests, where a long one is mostly a table.
const FUNCTION_LINES_MAX: usize = 70;

/// Files that may be longer, and why.
const LONG_FILES: [(&str, &str); 0] = [];

/// Functions that may be longer, and why.
const LONG_FUNCTIONS: [(&str, &str, &str); 1] =
    [("control/src/cli/help.rs", "completion", "three scripts for three shells, each one text")];

/// Tests that may sleep, and why.
const SLEEPERS: [(&str, &str); 1] =
    [("ffi/tests/scale.rs", "asks for its condition seldom: asking takes the lock that what it waits for needs")];

/// Every file begins with the question that it answers.
#[test]
fn every_rust_file_opens_with_its_question() {
    let mut complaints = Vec::new();
    for (path, text) in files(&[".rs"]) {
        let mut lines = text.lines().skip_while(|line| line.starts_with("#![") || line.is_empty());
        let opening: Vec<_> =
            lines.by_ref().map_while(|line| line.strip_prefix("//!")).take_while(|line| !line.is_empty()).collect();
        if opening.is_empty() {
            complaints.push(format!("{path} does not begin with a //! line"));
        } else if !opening.join(" ").contains('?') {
            complaints.push(format!("{path}: its first paragraph asks no question: {}", opening.join(" ")));
        }
    }
    none(complaints);
}

#[test]
fn every_script_opens_with_its_question() {
    let mut complaints = Vec::new();
    for (path, text) in files(&[".sh", ".py", ".c", "scripts/demo", "scripts/test", "scripts/setup", ".ci/run"]) {
        let opening: String = text.lines().filter(|line| !line.starts_with("#!")).take(3).collect();
        if !opening.contains('?') {
            complaints.push(format!("{path} does not begin with a comment that asks its question"));
        }
    }
    none(complaints);
}

#[test]
fn files_are_short() {
    let mut complaints = Vec::new();
    for (path, text) in files(&[".rs"]) {
        let lines = lines_before_tests(&path, &text);
        let excused = LONG_FILES.iter().any(|(file, _)| *file == path);
        if lines > FILE_LINES_MAX && !excused {
            complaints.push(format!("{path}: {lines} lines before its tests, of at most {FILE_LINES_MAX}"));
        }
    }
    none(complaints);
}

/// With rustfmt's layout a function ends at the first closing brace that stands as far left as its beginning.
#[test]
fn functions_are_short() {
    let mut complaints = Vec::new();
    for (path, text) in files(&[".rs"]) {
        let code = code(&text);
        let lines: Vec<_> = code.lines().collect();
        for (at, line) in lines.iter().enumerate().take(lines_before_tests(&path, &text)) {
            let Some(name) = function_name(line) else { continue };
            let indent = line.len() - line.trim_start().len();
            let closing = format!("{}}}", " ".repeat(indent));
            let end = lines[at..].iter().position(|line| {
                line.trim_end() == closing
                    || line.trim_end().ends_with(';') && indent == line.len() - line.trim_start().len()
            });
            let length = end.map_or(1, |end| end + 1);
            let excused = LONG_FUNCTIONS.iter().any(|(file, function, _)| (*file, *function) == (path.as_str(), name));
            if length > FUNCTION_LINES_MAX && !excused {
                complaints
                    .push(format!("{path}:{}: {name} has {length} lines, of at most {FUNCTION_LINES_MAX}", at + 1));
            }
        }
    }
    none(complaints);
}

fn function_name(line: &str) -> Option<&str> {
    let (before, rest) =
        line.trim_start().split_once("fn ").or_else(|| line.trim_start().strip_prefix("fn ").map(|rest| ("", rest)))?;
    let words = ["pub", "pub(crate)", "pub(super)", "const", "async", "unsafe", "extern", ""];
    before.split(' ').all(|word| words.contains(&word)).then_some(())?;
    rest.split(['(', '<']).next()
}

#[test]
fn unsafe_stays_in_ffi() {
    let mut complaints = Vec::new();
    for (path, text) in files(&[".rs"]) {
        if path.starts_with("ffi/") {
            continue;
        }
        for (number, line) in (1..).zip(code(&text).lines()) {
            if words(line).any(|word| word == "unsafe") {
                complaints.push(format!("{path}:{number}: unsafe outside of ffi/"));
            }
        }
    }
    none(complaints);
}

/// Crates, binaries and integration tests are compiled on their own, so the attribute must be in each crate root that ships.
#[test]
fn every_other_crate_forbids_unsafe() {
    let roots = files(&["/src/lib.rs", "/src/main.rs", "sim/main.rs"]).into_iter();
    let binaries = files(&[".rs"]).into_iter().filter(|(path, _)| path.contains("/src/bin/"));
    let without = roots.chain(binaries).filter(|(path, text)| {
        !path.starts_with("ffi/") && !path.contains("fuzz/") && !text.contains("#![forbid(unsafe_code)]")
    });
    none(without.map(|(path, _)| format!("{path} lacks #![forbid(unsafe_code)]")).collect());
}

#[test]
fn every_unsafe_block_is_argued() {
    let mut complaints = Vec::new();
    for (path, text) in files(&[".rs"]) {
        let lines: Vec<_> = text.lines().collect();
        for (at, line) in code(&text).lines().enumerate() {
            let line = line.trim();
            let argument = if line.starts_with("pub") && (line.contains("unsafe fn ") || line.contains("unsafe trait "))
            {
                "# Safety"
            } else if line.contains("unsafe {") || line.contains("unsafe impl ") {
                "SAFETY"
            } else {
                continue;
            };
            let before = lines[at.saturating_sub(8)..=at].iter().rev();
            if !before.take_while(|line| !line.trim().is_empty()).any(|line| line.contains(argument)) {
                complaints.push(format!("{path}:{}: no {argument} beside: {line}", at + 1));
            }
        }
    }
    none(complaints);
}

#[test]
fn nothing_is_left_undone() {
    let unfinished = ["todo!", "unimplemented!", "dbg!", "unreachable!()", "panic!()"];
    let mut complaints = Vec::new();
    for (path, text) in files(&[".rs"]) {
        for (number, line) in (1..).zip(code(&text).lines()) {
            complaints.extend(
                unfinished.iter().filter(|word| line.contains(*word)).map(|word| format!("{path}:{number}: {word}")),
            );
        }
    }
    let notes = [["TO", "DO"].concat(), ["FIX", "ME"].concat(), ["XX", "X"].concat()];
    for (path, text) in files(&[".rs", ".c", ".sh", ".py", ".md", ".toml"]) {
        for (number, line) in (1..).zip(text.lines()) {
            let found = notes.iter().find(|note| words(line).any(|word| word == *note));
            complaints.extend(
                found.map(|note| format!("{path}:{number}: {note}: do it, or write it into docs/architecture.md")),
            );
        }
    }
    none(complaints);
}

/// What is written here is for everybody: no paths and no tools of one workplace.
#[test]
fn no_private_names() {
    let joined = |parts: &[&str]| parts.concat();
    let anywhere = [
        joined(&["/wo", "rk/"]),
        joined(&["/tmp/bash", "_jobs"]),
        joined(&["far", "m-bench"]),
        joined(&["far", "m-studio"]),
        joined(&["issues sh", "ow"]),
        joined(&["language mo", "del"]),
    ];
    let as_words = [joined(&["A", "I"]), joined(&["L", "LM"]), joined(&["Cla", "ude"]), joined(&["G", "PT"])];
    let mut complaints = Vec::new();
    for (path, text) in
        files(&[".rs", ".c", ".sh", ".py", ".md", ".toml", ".service", "scripts/demo", "scripts/test", "scripts/setup"])
    {
        for (number, line) in (1..).zip(text.lines()) {
            let found = anywhere
                .iter()
                .find(|name| line.contains(*name))
                .or_else(|| as_words.iter().find(|name| words(line).any(|word| word == *name)));
            complaints.extend(found.map(|name| format!("{path}:{number}: {name}")));
        }
    }
    none(complaints);
}

/// Every file is reached from a root that cargo compiles.
#[test]
fn no_file_is_an_orphan() {
    let sources = files(&[".rs"]);
    let manifests: String = files(&["Cargo.toml"]).iter().map(|(path, text)| absolute_targets(path, text)).collect();
    let mut open: Vec<String> =
        sources.keys().filter(|path| is_root(path) || manifests.contains(&format!("<{path}>"))).cloned().collect();
    let mut reached: BTreeSet<String> = open.iter().cloned().collect();
    while let Some(path) = open.pop() {
        for module in modules(&path, &sources) {
            if reached.insert(module.clone()) {
                open.push(module);
            }
        }
    }
    none(
        sources
            .keys()
            .filter(|path| !reached.contains(*path))
            .map(|path| format!("{path} is compiled by nobody"))
            .collect(),
    );
}

/// The `path = "…"` entries of a manifest, from the root of the tree, each as `<path>`.
fn absolute_targets(manifest: &str, text: &str) -> String {
    let folder = manifest.strip_suffix("Cargo.toml").expect("a manifest");
    let paths = text.lines().filter_map(|line| line.split_once("path = \"")?.1.split('"').next());
    paths.map(|path| format!("<{folder}{path}>")).collect()
}

/// Files that cargo finds by itself.
fn is_root(path: &str) -> bool {
    let parts: Vec<_> = path.split('/').collect();
    matches!(
        parts.as_slice(),
        [.., "build.rs"]
            | [.., "src", "lib.rs" | "main.rs"]
            | [.., "src", "bin", _]
            | [_, "tests" | "benches" | "examples", _]
            | [_, "tests", _, "main.rs"]
    )
}

/// The files of the modules that a file declares.
fn modules(path: &str, sources: &BTreeMap<String, String>) -> Vec<String> {
    let text = &sources[path];
    let (folder, file) = path.rsplit_once('/').unwrap_or(("", path));
    let stem = file.strip_suffix(".rs").expect("a Rust file");
    let own = if is_root(path) || ["mod", "lib", "main"].contains(&stem) {
        folder.to_owned()
    } else {
        format!("{folder}/{stem}")
    };
    let mut found = Vec::new();
    let mut named = None;
    for line in text.lines().map(str::trim) {
        if let Some(path) = line.strip_prefix("#[path = \"").and_then(|rest| rest.split('"').next()) {
            named = Some(format!("{folder}/{path}"));
        } else if let Some(module) =
            line.strip_suffix(';').and_then(|line| line.split_once("mod ")).map(|(_, name)| name)
        {
            let beside =
                [format!("{own}/{module}.rs"), format!("{own}/{module}/mod.rs"), format!("{folder}/{module}.rs")];
            found.extend(named.take().into_iter().chain(beside).find(|path| sources.contains_key(path)));
        }
    }
    found
}

#[test]
fn tests_wait_for_conditions_not_for_time() {
    let mut complaints = Vec::new();
    for (path, text) in files(&[".rs"]) {
        if SLEEPERS.iter().any(|(file, _)| *file == path) {
            continue;
        }
        for line in code(&test_part(&path, &text)).lines() {
            if line.contains("sleep(") {
                complaints.push(format!("{path}: a test sleeps: {}", line.trim()));
            }
        }
    }
    none(complaints);
}

#[test]
fn the_excuses_are_needed() {
    let sources = files(&[".rs"]);
    let long = LONG_FILES
        .iter()
        .filter(|(path, _)| sources.get(*path).is_none_or(|text| lines_before_tests(path, text) <= FILE_LINES_MAX));
    let gone = LONG_FUNCTIONS
        .iter()
        .filter(|(path, name, _)| sources.get(*path).is_none_or(|text| !text.contains(&format!("fn {name}"))));
    let awake = SLEEPERS
        .iter()
        .filter(|(path, _)| sources.get(*path).is_none_or(|text| !test_part(path, text).contains("sleep(")));
    let all = long.map(|(path, _)| *path).chain(gone.map(|(path, ..)| *path)).chain(awake.map(|(path, _)| *path));
    none(all.map(|path| format!("{path} needs no excuse any more")).collect());
}

#[test]
fn every_crate_takes_the_common_lints() {
    let crates = files(&["Cargo.toml"])
        .into_iter()
        .filter(|(path, text)| path != "Cargo.toml" && !text.contains("[lints]\nworkspace = true"));
    let crates = crates.filter(|(path, _)| !path.contains("fuzz/"));
    none(crates.map(|(path, _)| format!("{path} lacks [lints] workspace = true")).collect());
}

#[test]
fn the_changelog_is_open() {
    let text = crate::tree::read("CHANGELOG.md");
    let headings: Vec<_> = text.lines().filter(|line| line.starts_with("## ")).collect();
    assert_eq!(
        headings.first(),
        Some(&"## [Unreleased]"),
        "the newest section of CHANGELOG.md is the one to write into"
    );
}

/// A story or a test that nobody counts as one would not be missed.
#[test]
fn test_files_hold_tests() {
    let sources = files(&[".rs"]);
    let holds = |text: &str| ["#[test]", "#[tokio::test]", "proptest!"].iter().any(|mark| text.contains(mark));
    // The tests of a folder may all be in its modules.
    let of_folder = |path: &str| {
        let folder = path.strip_suffix("main.rs");
        sources.iter().any(|(other, text)| folder.is_some_and(|folder| other.starts_with(folder)) && holds(text))
    };
    let empty = sources.iter().filter(|(path, text)| {
        is_test_file(path) && is_root(path) && path.contains("/tests/") && !holds(text) && !of_folder(path)
    });
    none(empty.map(|(path, _)| format!("{path} holds no test")).collect());
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}
