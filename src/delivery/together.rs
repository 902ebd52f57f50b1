//! Calls that come while a trip to the store is under way share the next one: no
//! timer, no added latency when little happens, few trips when much does.

use std::sync::Mutex;

use tokio::sync::oneshot;

/// Callers that wait at most: each waits for one answer, but a caller that went
/// away leaves its call behind.
const WAITING_MAX: usize = 8_192;

/// Calls that wait for a trip.
pub(super) struct Together<C, A> {
    state: Mutex<State<C, A>>,
}

struct State<C, A> {
    waiting: Vec<Call<C, A>>,
    /// Somebody makes trips, and will take what waits.
    under_way: bool,
}

/// One call, and where its answer goes.
pub(super) struct Call<C, A> {
    pub(super) what: C,
    pub(super) answer: oneshot::Sender<A>,
}

/// A call that was taken.
pub(super) struct Taken<A> {
    pub(super) answer: oneshot::Receiver<A>,
    /// Nobody makes trips: whoever called must, with [`Together::trips`].
    pub(super) to_begin: bool,
}

impl<C, A> Default for Together<C, A> {
    fn default() -> Self {
        Self { state: Mutex::new(State { waiting: Vec::new(), under_way: false }) }
    }
}

impl<C, A> Together<C, A> {
    /// Puts a call behind those that wait; none if too many do.
    pub(super) fn call(&self, what: C) -> Option<Taken<A>> {
        let mut state = self.state.lock().expect("no panic while held");
        if state.waiting.len() >= WAITING_MAX {
            return None;
        }
        let (answer, taken) = oneshot::channel();
        state.waiting.push(Call { what, answer });
        let to_begin = !std::mem::replace(&mut state.under_way, true);
        Some(Taken { answer: taken, to_begin })
    }

    /// For whoever was told to begin.
    pub(super) fn trips(&self) -> Trips<'_, C, A> {
        Trips { together: self, over: false }
    }
}

/// The right to make trips, until nothing is left to take. Given up earlier (a
/// panic, a runtime that ends), it takes with it what waits.
pub(super) struct Trips<'a, C, A> {
    together: &'a Together<C, A>,
    over: bool,
}

impl<C, A> Trips<'_, C, A> {
    /// What waits, oldest first, `max` at most; none: trips are over.
    pub(super) fn take(&mut self, max: usize) -> Option<Vec<Call<C, A>>> {
        let mut state = self.together.state.lock().expect("no panic while held");
        if state.waiting.is_empty() {
            state.under_way = false;
            self.over = true;
            return None;
        }
        let at = state.waiting.len().min(max);
        let rest = state.waiting.split_off(at);
        Some(std::mem::replace(&mut state.waiting, rest))
    }
}

impl<C, A> Drop for Trips<'_, C, A> {
    fn drop(&mut self) {
        if !self.over {
            let mut state = self.together.state.lock().expect("no panic while held");
            state.under_way = false;
            state.waiting.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(trips: &mut Trips<'_, u32, ()>) -> Vec<u32> {
        trips.take(2).into_iter().flatten().map(|call| call.what).collect()
    }

    #[test]
    fn one_caller_makes_trips_for_all_that_come_meanwhile() {
        let together = Together::<u32, ()>::default();
        let begins = |what| together.call(what).is_some_and(|taken| taken.to_begin);
        assert!(begins(1));
        let mut trips = together.trips();
        assert_eq!(take(&mut trips), [1]);
        assert!(!begins(2) && !begins(3) && !begins(4));
        assert_eq!(take(&mut trips), [2, 3]);
        assert_eq!(take(&mut trips), [4]);
        assert!(take(&mut trips).is_empty());
        assert!(begins(5), "nobody makes trips any more");
    }

    #[test]
    fn trips_that_are_given_up_leave_nobody_waiting() {
        let together = Together::<u32, ()>::default();
        let first = together.call(1).expect("room");
        let second = together.call(2).expect("room");
        let mut trips = together.trips();
        let taken = trips.take(1);
        drop((trips, taken));
        for mut taken in [first, second] {
            assert!(taken.answer.try_recv().is_err(), "nobody will answer");
        }
        assert!(together.call(3).is_some_and(|taken| taken.to_begin));
    }

    #[test]
    fn no_more_wait_than_may() {
        let together = Together::<u32, ()>::default();
        assert!((0..WAITING_MAX).all(|_| together.call(0).is_some()));
        assert!(together.call(0).is_none());
    }
}
