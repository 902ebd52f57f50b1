//! How much each sender pushes: a bucket of one second's messages for each, and
//! the header fields that tell how full it is
//! (draft-ietf-httpapi-ratelimit-headers-10).

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;
use warp::http::{HeaderMap, HeaderValue};

/// Senders that are told apart; beyond it, those that nothing is known of yet
/// share one bucket.
const SENDERS_MAX: usize = 4_096;

/// How much may still be pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Allowance {
    per_second: u32,
    remaining: u32,
    /// Seconds until all of it is there again.
    reset: u32,
    /// Seconds until there is anything; 0 when there is.
    pub(super) retry_after: u32,
}

impl Allowance {
    /// Tells the sender.
    pub(super) fn tell(self, headers: &mut HeaderMap) {
        let Self { per_second, remaining, reset, .. } = self;
        let value = |text: String| HeaderValue::from_str(&text).expect("digits and signs");
        headers.insert("ratelimit-policy", value(format!("\"push\";q={per_second};w=1")));
        headers.insert("ratelimit", value(format!("\"push\";r={remaining};t={reset}")));
    }
}

/// Messages that a sender has left, as of a moment. Below none, what a batch took
/// beyond that has to come back first.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    messages: f64,
    at: Instant,
}

/// Every sender's bucket.
#[derive(Debug)]
pub(super) struct Rates {
    per_second: u32,
    buckets: Mutex<HashMap<Box<str>, Bucket>>,
}

impl Rates {
    pub(super) fn new(per_second: u32) -> Self {
        Self { per_second, buckets: Mutex::default() }
    }

    /// Takes that many messages of a sender's, if any are left.
    ///
    /// # Errors
    /// When none are: nothing was taken.
    pub(super) fn take(&self, sender: &str, messages: usize) -> Result<Allowance, Allowance> {
        let (now, full) = (Instant::now(), f64::from(self.per_second));
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= SENDERS_MAX && !buckets.contains_key(sender) {
            buckets.retain(|_, bucket| refilled(bucket, now, full) < full);
        }
        let name = if buckets.len() < SENDERS_MAX || buckets.contains_key(sender) { sender } else { "" };
        let known = buckets.get(name).map_or(full, |bucket| refilled(bucket, now, full));
        if known < 1.0 {
            return Err(self.allowance(known));
        }
        let left = known - messages as f64;
        match buckets.get_mut(name) {
            Some(bucket) => *bucket = Bucket { messages: left, at: now },
            None => drop(buckets.insert(name.into(), Bucket { messages: left, at: now })),
        }
        Ok(self.allowance(left))
    }

    fn allowance(&self, left: f64) -> Allowance {
        let rate = f64::from(self.per_second);
        let until = |messages: f64| ((messages - left) / rate).ceil().max(0.0) as u32;
        Allowance {
            per_second: self.per_second,
            remaining: left.max(0.0) as u32,
            reset: until(rate),
            retry_after: if left < 1.0 { until(1.0).max(1) } else { 0 },
        }
    }
}

fn refilled(bucket: &Bucket, now: Instant, full: f64) -> f64 {
    (bucket.messages + now.duration_since(bucket.at).as_secs_f64() * full).min(full)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn told(allowance: Allowance) -> (String, String) {
        let mut headers = HeaderMap::new();
        allowance.tell(&mut headers);
        let text = |name: &str| headers[name].to_str().expect("ASCII").to_owned();
        (text("ratelimit-policy"), text("ratelimit"))
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_s_messages_may_come_at_once_and_no_more() {
        let rates = Rates::new(3);
        for left in [2, 1, 0] {
            let allowance = rates.take("a", 1).expect("allowed");
            assert_eq!(told(allowance), ("\"push\";q=3;w=1".into(), format!("\"push\";r={left};t=1")));
        }
        let refused = rates.take("a", 1).expect_err("too many");
        assert_eq!((refused.remaining, refused.retry_after), (0, 1));
        assert!(rates.take("b", 1).is_ok(), "each sender has a bucket of its own");
        tokio::time::advance(Duration::from_millis(334)).await;
        assert!(rates.take("a", 1).is_ok());
        assert!(rates.take("a", 1).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_is_taken_whole_and_paid_for_before_the_next() {
        let rates = Rates::new(10);
        assert_eq!(rates.take("a", 100).expect("something was left").reset, 10);
        assert_eq!(rates.take("a", 1).expect_err("in debt").retry_after, 10);
        tokio::time::advance(Duration::from_millis(9_050)).await;
        assert!(rates.take("a", 1).is_err());
        tokio::time::advance(Duration::from_millis(100)).await;
        assert!(rates.take("a", 1).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn senders_without_number_share_a_bucket() {
        let rates = Rates::new(1);
        for n in 0..SENDERS_MAX {
            assert!(rates.take(&n.to_string(), 1).is_ok());
        }
        assert!(rates.take("one more", 1).is_ok());
        assert!(rates.take("and another", 1).is_err());
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(rates.take("and another", 1).is_ok());
        assert!(rates.buckets.lock().expect("no panic").len() < 3, "what is full is not kept");
    }
}
