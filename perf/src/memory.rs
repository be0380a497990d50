//! How much memory does a process have, and the kernel for itself?

use anyhow::{Context, Result};

/// Memory of a process that is there, KiB.
pub fn resident_kib(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/status");
    let status = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    Ok(kib(&status, &["VmRSS"]))
}

/// What the kernel has allocated for itself, KiB.
pub fn kernel_kib() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/meminfo").context("cannot read /proc/meminfo")?;
    Ok(kib(&text, &["Slab", "KernelStack", "PageTables", "SecPageTables", "Percpu", "VmallocUsed"]))
}

/// The sum of lines such as `VmRSS:   1234 kB`.
fn kib(text: &str, names: &[&str]) -> f64 {
    let value = |line: &str| {
        let (name, rest) = line.split_once(':')?;
        names.contains(&name).then(|| rest.split_whitespace().next()?.parse::<f64>().ok())?
    };
    text.lines().filter_map(value).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_named_lines_are_summed() {
        let text = "Slab:    10 kB\nSlabX:   5 kB\nPercpu:  2 kB\nHugePages_Total: 7\n";
        assert!((kib(text, &["Slab", "Percpu"]) - 12.0).abs() < f64::EPSILON);
    }
}
