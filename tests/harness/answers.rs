//! A small HTTP server that answers what a test tells it to.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

type Answer = Box<dyn Fn(&str) -> (u16, String) + Send>;

/// Whoever a node asks.
pub struct Answers {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    answer: Arc<Mutex<Answer>>,
    task: JoinHandle<()>,
}

impl Answers {
    /// Answers each request's head with a status and a body.
    pub async fn start(answer: impl Fn(&str) -> (u16, String) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let answer: Arc<Mutex<Answer>> = Arc::new(Mutex::new(Box::new(answer)));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (answers, log) = (Arc::clone(&answer), Arc::clone(&asked));
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    if stream.read_buf(&mut head).await.is_ok_and(|read| read > 0) {
                        continue;
                    }
                    break;
                }
                let head = String::from_utf8_lossy(&head).into_owned();
                let (status, body) = answers.lock().expect("no panic")(&head);
                log.lock().expect("no panic").push(head);
                let text = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                // Whoever has gone needs no answer.
                drop(stream.write_all(text.as_bytes()).await);
            }
        });
        Self { address, asked, answer, task }
    }

    /// Answers in another way from now on.
    pub fn answer(&self, answer: impl Fn(&str) -> (u16, String) + Send + 'static) {
        *self.answer.lock().expect("no panic") = Box::new(answer);
    }

    /// Where it is.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The heads of all requests so far.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("no panic").clone()
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        self.task.abort();
    }
}
