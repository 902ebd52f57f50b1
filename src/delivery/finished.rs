//! What was begun is finished, whoever still waits for it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

type Work<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A future that goes on as a task of the node's when its owner drops it.
///
/// A task from the start would do as well, but nearly every caller stays, and a
/// task costs two wake-ups that a push can do without.
pub(super) struct Finished<T: Send + 'static> {
    tasks: TaskTracker,
    /// Taken when it is done.
    work: Option<Work<T>>,
}

impl<T: Send + 'static> Finished<T> {
    pub(super) fn new(tasks: &TaskTracker, work: impl Future<Output = T> + Send + 'static) -> Self {
        Self { tasks: tasks.clone(), work: Some(Box::pin(work)) }
    }
}

impl<T: Send + 'static> Future for Finished<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let work = self.work.as_mut().expect("not polled again once it is ready");
        let done = std::task::ready!(work.as_mut().poll(cx));
        self.work = None;
        Poll::Ready(done)
    }
}

impl<T: Send + 'static> Drop for Finished<T> {
    fn drop(&mut self) {
        // A panic in the work is no reason to begin it anew, and without a
        // runtime nothing goes on.
        if let (Some(work), Ok(runtime), false) =
            (self.work.take(), Handle::try_current(), std::thread::panicking())
        {
            self.tasks.spawn_on(work, &runtime);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn a_caller_that_goes_away_leaves_nothing_half_done() {
        let tasks = TaskTracker::new();
        let (go, wait) = oneshot::channel::<()>();
        let (done, told) = oneshot::channel();
        let mut work = Finished::new(&tasks, async move {
            let _ = wait.await;
            let _ = done.send(7);
        });
        assert!(futures_util::poll!(&mut work).is_pending());
        drop(work);
        go.send(()).expect("the work goes on");
        assert_eq!(told.await, Ok(7));
        tasks.close();
        tasks.wait().await;
    }

    #[tokio::test]
    async fn what_is_done_is_not_begun_again() {
        let tasks = TaskTracker::new();
        assert_eq!(Finished::new(&tasks, async { 7 }).await, 7);
        assert!(tasks.is_empty());
    }
}
