//! Delivers a number of messages and ends: what `valgrind --tool=callgrind` counts
//! the instructions of. `delivery_path CASE COUNT`.
//!
//! | case | what |
//! |---|---|
//! | `unicast` | one push at a time, each to the next of 100 users with a session each |
//! | `batch` | 100 pushes in one call, one for each of 100 users |
//! | `fanout` | one push at a time to one user with 200 sessions |

mod rig;

use std::time::Duration;

use rig::Rig;

/// So often does half a second pass, with which come heartbeats, the flush of
/// cursors and acknowledgements.
const MESSAGES_IN_HALF_A_SECOND: usize = 200;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (case, count) = (arguments.next().unwrap_or_default(), arguments.next());
    let count: usize = count.and_then(|count| count.parse().ok()).expect("COUNT is a number");
    let (users, sessions_each, at_once) = match case.as_str() {
        "unicast" => (100, 1, 1),
        "batch" => (100, 1, 100),
        "fanout" => (1, 200, 1),
        other => panic!("CASE is unicast, batch or fanout, not {other:?}"),
    };
    // The clock stands still but for what is let pass, so that two runs do the same.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    let runtime = runtime.expect("a runtime");
    let rig = runtime.block_on(Rig::start(users, sessions_each));
    deliver_all(&runtime, rig, count, at_once);
}

/// What is counted. Starting is not: clocks are calibrated in it, which takes
/// another number of instructions each time.
#[inline(never)]
fn deliver_all(runtime: &tokio::runtime::Runtime, mut rig: Rig, count: usize, at_once: usize) {
    runtime.block_on(async {
        let mut done = 0;
        while done < count {
            rig.deliver(at_once).await;
            done += at_once;
            if done % MESSAGES_IN_HALF_A_SECOND == 0 {
                tokio::time::advance(Duration::from_millis(500)).await;
            }
        }
    });
}
