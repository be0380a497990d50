//! Which step of the road do the instructions belong to that valgrind counted?
//!
//! The compiler puts all steps into few functions. But it notes for each instruction from which lines it comes, and which function they were put
//! into: the first of them, from the inside out, that is a step's file is the step.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// The steps in the order of the road, and the files that are theirs alone; what several use counts for who uses it.
const STEPS: [(&str, &[&str]); 10] = [
    ("receive", &["ffi/src/rx.rs"]),
    ("parse", &["path/parse.rs", "path/lane.rs", "path/reserved.rs", "wire/ethernet.rs", "wire/vlan.rs"]),
    ("VLAN", &["path/vlan_in.rs", "table/vlan.rs"]),
    ("checksum", &["path/checksum.rs", "wire/checksum.rs", "wire/l4.rs"]),
    ("learn", &["path/learn.rs"]),
    ("look up", &["path/lookup.rs"]),
    ("egress", &["path/egress.rs", "path/edit.rs"]),
    ("send", &["ffi/src/tx.rs", "port/xsk.rs"]),
    ("records and counters", &["switch/src/batch.rs", "switch/src/counters.rs"]),
    ("the turn itself", &["switch/src/worker.rs"]),
];
/// Of code that comes from no step's file.
const REST: &str = "others";

/// Instructions of each step, in the order of the road. `dump` is what callgrind wrote about `program`, with addresses and without any
/// compression; only what is in or below the function whose name begins with `entry` is in it.
pub fn instructions(dump: &str, program: &Path, entry: &str) -> Result<Vec<(&'static str, u64)>> {
    let counts = Counts::of(dump, entry)?;
    let offset = counts.entry.wrapping_sub(address_of(program, entry)?);
    let stacks = stacks(program, counts.by_address.keys().map(|address| address.wrapping_sub(offset)))?;
    let mut steps: Vec<(&str, u64)> = STEPS.iter().map(|(step, _)| (*step, 0)).chain([(REST, 0)]).collect();
    for (stack, count) in stacks.iter().zip(counts.by_address.values()) {
        let step = stack.iter().find_map(|file| step_of(file)).unwrap_or(STEPS.len());
        steps[step].1 += count;
    }
    Ok(steps)
}

fn step_of(file: &str) -> Option<usize> {
    STEPS.iter().position(|(_, files)| files.iter().any(|own| file.ends_with(own)))
}

/// What callgrind counted, by address.
struct Counts {
    by_address: BTreeMap<u64, u64>,
    /// The first instruction of the entry.
    entry: u64,
}

impl Counts {
    fn of(dump: &str, entry: &str) -> Result<Self> {
        let (mut by_address, mut first) = (BTreeMap::new(), None);
        let (mut is_entry, mut is_call) = (false, false);
        for line in dump.lines() {
            if let Some(name) = line.strip_prefix("fn=") {
                is_entry = name.starts_with(entry);
            }
            // The line behind it says what the callee cost, which is told of the callee too.
            if std::mem::replace(&mut is_call, line.starts_with("calls=")) {
                continue;
            }
            let mut words = line.split(' ');
            let address = words.next().and_then(|word| u64::from_str_radix(word.strip_prefix("0x")?, 16).ok());
            let count = words.nth(1).and_then(|word| word.parse::<u64>().ok());
            let (Some(address), Some(count)) = (address, count) else { continue };
            *by_address.entry(address).or_default() += count;
            if is_entry {
                first = Some(first.map_or(address, |first: u64| first.min(address)));
            }
        }
        let entry = first.with_context(|| format!("callgrind counted nothing in {entry}"))?;
        Ok(Self { by_address, entry })
    }
}

/// Where a function is in the file of a program.
fn address_of(program: &Path, name: &str) -> Result<u64> {
    let text = crate::process::run(Command::new("nm").arg("--demangle").arg(program))?;
    let line = text.lines().find(|line| line.splitn(3, ' ').nth(2).is_some_and(|symbol| symbol.starts_with(name)));
    let word = line.and_then(|line| line.split(' ').next()).with_context(|| format!("no function {name}"))?;
    u64::from_str_radix(word, 16).with_context(|| format!("nm wrote {word:?} for an address"))
}

/// For each address the files that its instruction comes from, from the inside out.
fn stacks(program: &Path, addresses: impl Iterator<Item = u64>) -> Result<Vec<Vec<String>>> {
    let mut command = Command::new("addr2line");
    command.args(["--addresses", "--inlines", "--exe"]).arg(program).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().context("cannot run addr2line: install the package binutils")?;
    let asked: Vec<String> = addresses.map(|address| format!("{address:#x}\n")).collect();
    let (mut input, lines) = (child.stdin.take().context("piped")?, asked.concat());
    // It answers while it is asked: whoever asked for all before listening would wait for ever.
    let writer = std::thread::spawn(move || input.write_all(lines.as_bytes()));
    let output = child.wait_with_output().context("cannot wait for addr2line")?;
    writer.join().ok().context("the writer panicked")?.context("cannot write to addr2line")?;
    let mut stacks: Vec<Vec<String>> = Vec::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        match (line.starts_with("0x"), stacks.last_mut()) {
            (true, _) => stacks.push(Vec::new()),
            (false, Some(stack)) => stack.push(line.rsplit_once(':').map_or(line, |(file, _)| file).to_owned()),
            (false, None) => {}
        }
    }
    ensure!(stacks.len() == asked.len(), "addr2line answered {} of {} questions", stacks.len(), asked.len());
    Ok(stacks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_callee_cost_is_told_once() {
        let dump = "events: Ir\nfn=road::measured\n0x401002 7 3\n0x401000 6 2\ncfn=turn\ncalls=1 0x402000 0\n0x401004 8 50\n\
                    fn=turn\n0x402000 1 40\n0x402004 1 10\n0x402000 1 5\n";
        let counts = Counts::of(dump, "road::measured").expect("it was called");
        assert_eq!(counts.entry, 0x40_1000);
        assert_eq!(
            counts.by_address.into_iter().collect::<Vec<_>>(),
            [(0x40_1000, 2), (0x40_1002, 3), (0x40_2000, 45), (0x40_2004, 10)]
        );
        assert!(Counts::of(dump, "nobody").is_err());
    }

    #[test]
    fn the_innermost_file_of_a_step_decides() {
        let step = |stack: &[&str]| stack.iter().find_map(|file| step_of(file)).map(|step| STEPS[step].0);
        assert_eq!(
            step(&["/rustc/x/core/src/num.rs", "/a/switch/src/wire/vlan.rs", "/a/switch/src/worker.rs"]),
            Some("parse")
        );
        assert_eq!(step(&["/a/switch/src/table/fdb.rs", "/a/switch/src/path/learn.rs"]), Some("learn"));
        assert_eq!(step(&["/rustc/x/core/src/num.rs"]), None);
    }

    #[test]
    fn the_steps_files_are_there() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        for file in STEPS.iter().flat_map(|(_, files)| *files) {
            let beside = [root.join(file), root.join("switch/src").join(file)];
            assert!(beside.iter().any(|path| path.is_file()), "{file}");
        }
    }
}
