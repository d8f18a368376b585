//! A thread that owns something that blocks, and does one thing after another for asynchronous callers.

use std::thread;

use tokio::sync::{mpsc, oneshot};

use crate::failure::Failure;

/// Callers beyond this wait for a place: what is queued here is memory, what waits outside is the caller's.
const QUEUE_MAX: usize = 256;

type Job<T> = Box<dyn FnOnce(&mut T) + Send>;

/// A handle on such a thread; dropping it finishes what is queued and waits for the thread.
#[derive(Debug)]
pub(crate) struct Worker<T> {
    /// `None` only while it is dropped.
    jobs: Option<mpsc::Sender<Job<T>>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl<T: Send + 'static> Worker<T> {
    pub(crate) fn spawn(name: String, mut owned: T) -> std::io::Result<Self> {
        let (jobs, mut queue) = mpsc::channel::<Job<T>>(QUEUE_MAX);
        let thread = thread::Builder::new().name(name).spawn(move || {
            while let Some(job) = queue.blocking_recv() {
                job(&mut owned);
            }
        })?;
        Ok(Self {
            jobs: Some(jobs),
            thread: Some(thread),
        })
    }

    /// Does `job` on the thread, after what was handed over before it.
    pub(crate) async fn call<R: Send + 'static>(
        &self,
        job: impl FnOnce(&mut T) -> R + Send + 'static,
    ) -> Result<R, Failure> {
        let (reply, answer) = oneshot::channel();
        let job: Job<T> = Box::new(move |owned| {
            // The caller may be gone; what was done stays done.
            let _ = reply.send(job(owned));
        });
        let stopped = || Failure::broken("the store's thread has stopped");
        let jobs = self.jobs.as_ref().ok_or_else(stopped)?;
        jobs.send(job).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())
    }
}

impl<T> Drop for Worker<T> {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("a thread of the store has panicked");
        }
    }
}
