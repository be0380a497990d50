//! Step 1: which packets came in?

use crate::counters::WorkerCounters;
use crate::limits::BURST;
use crate::port::Receive;

/// Takes a burst from the queue. False if there was none.
#[inline]
pub fn run(side: &mut dyn Receive, counters: &WorkerCounters) -> bool {
    let held = side.receive(BURST);
    if held > 0 {
        counters.burst(held);
    }
    held > 0
}
