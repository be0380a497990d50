//! Which cores may this process use, and does this thread really run on the one it was given?

use crate::error::SyscallError;
use rustix::io::Errno;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The cores that the calling thread may run on, in order: those of the machine, less what a cpuset or taskset took away.
pub fn allowed() -> Vec<usize> {
    sched_getaffinity(None).map(|set| members(&set)).unwrap_or_default()
}

/// Keeps the calling thread on `core`, and reads back whether it is so.
pub fn pin(core: usize) -> Result<(), SyscallError> {
    let fail = |errno| SyscallError::new("sched_setaffinity", format!("core {core}"), errno);
    // It answers only yes or no; the mask that holds afterwards tells the truth.
    let accepted = core_affinity::set_for_current(core_affinity::CoreId { id: core });
    let set = sched_getaffinity(None).map_err(fail)?;
    if accepted && members(&set) == [core] { Ok(()) } else { Err(fail(Errno::INVAL)) }
}

/// Keeps the calling thread, and those that it starts from now on, on `cores`.
pub fn keep_on(cores: &[usize]) -> Result<(), SyscallError> {
    let mut set = CpuSet::new();
    cores.iter().filter(|&&core| core < CpuSet::MAX_CPU).for_each(|&core| set.set(core));
    sched_setaffinity(None, &set)
        .map_err(|errno| SyscallError::new("sched_setaffinity", format!("cores {cores:?}"), errno))
}

/// The processor's cycle counter: for shares and averages on one core, not for time. Constant 0 where there is none.
#[inline]
pub fn cycles() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: RDTSC is part of x86-64 and only reads a counter.
    let cycles = unsafe { core::arch::x86_64::_rdtsc() };
    #[cfg(target_arch = "aarch64")]
    let cycles = {
        let cycles: u64;
        // SAFETY: the virtual counter is readable from user space on Linux, and reading it changes nothing.
        unsafe { core::arch::asm!("mrs {}, cntvct_el0", out(reg) cycles, options(nomem, nostack)) };
        cycles
    };
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let cycles = 0;
    cycles
}

/// Has the cache line at `address` fetched. Any address will do: nothing is read.
#[inline]
pub fn prefetch<T>(address: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: PREFETCHT0 is part of x86-64 and never faults.
    unsafe {
        core::arch::x86_64::_mm_prefetch::<{ core::arch::x86_64::_MM_HINT_T0 }>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

fn members(set: &CpuSet) -> Vec<usize> {
    (0..CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_pinned_to_a_core_it_may_use_and_to_no_other() {
        std::thread::spawn(|| {
            let allowed = allowed();
            let core = *allowed.last().expect("at least one");
            assert!(pin(CpuSet::MAX_CPU - 1).is_err());
            pin(core).expect("an allowed core");
            assert_eq!(super::allowed(), [core]);
            assert!(keep_on(&[]).is_err());
            keep_on(&allowed).expect("what it had before");
            assert_eq!(super::allowed(), allowed);
        })
        .join()
        .expect("no panic");
    }
}
