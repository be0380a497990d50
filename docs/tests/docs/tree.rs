//! Which files does the tree have, and what of them is code, comment or test?

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The folder of the workspace.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("docs lies in the workspace").to_owned()
}

/// The text of a file named from the root. A missing file fails the test.
pub(crate) fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// All text files whose name ends in one of `endings`, by path from the root; build products and test inputs left out.
pub(crate) fn files(endings: &[&str]) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    walk(&root(), &mut |path, name| {
        if endings.iter().any(|ending| path.ends_with(ending)) {
            found.extend(std::fs::read_to_string(name).map(|text| (path.to_owned(), text)));
        }
    });
    assert!(!found.is_empty(), "no {endings:?} file in {}", root().display());
    found
}

fn walk(folder: &Path, visit: &mut impl FnMut(&str, &Path)) {
    const SKIPPED: [&str; 5] = ["target", ".git", "corpus", "crashes", "snapshots"];
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for entry in entries.flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && !SKIPPED.iter().any(|skipped| name == *skipped) => walk(&path, visit),
            Ok(kind) if kind.is_file() => {
                let inside = path.strip_prefix(root()).expect("below the root").to_string_lossy().into_owned();
                visit(&inside, &path);
            }
            _ => {}
        }
    }
}

/// A Rust source text with comments, strings and characters blanked out, so that what is left is code. Lines stay lines.
pub(crate) fn code(text: &str) -> String {
    let octets = text.as_bytes();
    let mut out = Vec::with_capacity(octets.len());
    let mut at = 0;
    while at < octets.len() {
        let rest = &text[at..];
        let end = at + token(rest);
        let quoted = end - at > 1 && (rest.starts_with(['"', '\'']) || raw_string(rest).is_some());
        let blank = quoted || rest.starts_with("//") || rest.starts_with("/*");
        for &octet in &octets[at..end] {
            out.push(if blank && octet != b'\n' { b' ' } else { octet });
        }
        at = end;
    }
    String::from_utf8(out).expect("whole characters were blanked")
}

/// The length of the comment, string, character, word or other character that `rest` begins with.
fn token(rest: &str) -> usize {
    let first = rest.chars().next().expect("not at the end");
    let after = |end: Option<usize>, length: usize| end.map_or(rest.len(), |end| end + length);
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return after(rest.find("*/"), 2);
    }
    if let Some((start, close)) = raw_string(rest) {
        return after(rest[start..].find(&close).map(|end| start + end), close.len());
    }
    match first {
        '"' => 1 + quoted(&rest[1..], '"'),
        '\'' if is_character(rest) => 1 + quoted(&rest[1..], '\''),
        '\'' => 1,
        _ if first.is_alphanumeric() || first == '_' => {
            rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())
        }
        _ => first.len_utf8(),
    }
}

/// Where the octets of a raw string begin, and how it ends.
fn raw_string(rest: &str) -> Option<(usize, String)> {
    let tail = rest.strip_prefix("br").or_else(|| rest.strip_prefix("cr")).or_else(|| rest.strip_prefix('r'))?;
    let hashes = tail.bytes().take_while(|&octet| octet == b'#').count();
    tail[hashes..].starts_with('"').then(|| (rest.len() - tail.len() + hashes + 1, format!("\"{}", "#".repeat(hashes))))
}

/// A character literal, not a lifetime.
fn is_character(rest: &str) -> bool {
    let mut characters = rest.chars().skip(1);
    let first = characters.next();
    first == Some('\\') || characters.next() == Some('\'')
}

/// The length up to and with the closing quote.
fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// A file that is nothing but tests, benches or fuzz targets.
pub(crate) fn is_test_file(path: &str) -> bool {
    ["/tests/", "/tests.rs", "/benches/", "fuzz/"].iter().any(|part| path.contains(part))
}

/// How many lines come before the tests at the end of the file.
pub(crate) fn lines_before_tests(path: &str, text: &str) -> usize {
    if is_test_file(path) {
        return 0;
    }
    let lines: Vec<_> = text.lines().collect();
    let is_tests = |at: usize| {
        lines[at].trim() == "#[cfg(test)]" && lines.get(at + 1).is_some_and(|next| next.starts_with("mod "))
    };
    (0..lines.len()).find(|&at| is_tests(at)).unwrap_or(lines.len())
}

/// The parts of a Rust text that only tests see: all of a test file, else what follows `#[cfg(test)]`.
pub(crate) fn test_part(path: &str, text: &str) -> String {
    let skip = lines_before_tests(path, text);
    text.lines().skip(skip).map(|line| format!("{line}\n")).collect()
}

/// The rows of all Markdown tables of `text` whose first heading is `heading`, cells trimmed.
pub(crate) fn table(text: &str, heading: &str) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        let Some(row) = line.strip_prefix('|').and_then(|line| line.trim_end().strip_suffix('|')) else {
            inside = false;
            continue;
        };
        let cells = cells(row);
        if inside {
            rows.push(cells);
        } else {
            inside = cells[0] == heading;
        }
    }
    rows.retain(|row| !row[0].starts_with("--"));
    rows
}

/// The cells of a row; `\|` is a bar inside a cell.
fn cells(row: &str) -> Vec<String> {
    row.replace("\\|", "\u{0}").split('|').map(|cell| cell.trim().replace('\u{0}', "|")).collect()
}

/// Fails with all of `complaints`, one a line.
pub(crate) fn none(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "\n  {}\n", complaints.join("\n  "));
}

#[test]
fn blanking_leaves_code_only() {
    let text = "let a = \"unsafe\"; // unsafe\nlet b: &'a u8 = r#\"un\"safe\"#; /* unsafe */ let c = '\\''; 'x'; for r in b {}";
    let code = code(text);
    assert!(!code.contains("unsafe") && !code.contains('x'), "{code}");
    assert!(code.contains("&'a u8") && code.contains("for r in b {}"), "{code}");
    assert_eq!(code.lines().count(), 2);
}

#[test]
fn tables_are_read_by_their_heading() {
    let text = "| A | B |\n|---|---|\n| 1 | x \\| y |\n\n| C | D |\n|---|---|\n| 2 | z |\n";
    assert_eq!(table(text, "A"), [["1", "x | y"]]);
    assert_eq!(table(text, "C"), [["2", "z"]]);
}
