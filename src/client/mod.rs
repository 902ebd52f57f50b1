//! A device that stays connected, for programs in Rust.
//!
//! It dials, resumes behind what it has had, answers heartbeats, acknowledges,
//! leaves a node that drains, and backs off as close codes ask. Each message is
//! given once. What `postrider listen` does, it does with this.
//!
//! ```
//! use postrider::client::{Client, Event, Options};
//! use url::Url;
//!
//! async fn follow(node: Url) -> Result<(), postrider::client::Error> {
//!     let mut client = Client::new(Options::new(node).token("alice").device("laptop").topic("news"));
//!     while let Some(event) = client.next().await? {
//!         match event {
//!             Event::Message(message) => println!("{}: {}", message.channel, message.data),
//!             Event::Gap(gap) => println!("lost, fetch everything anew: {}", gap.reason),
//!             other => eprintln!("{other:?}"),
//!         }
//!     }
//!     Ok(())
//! }
//! ```
//!
//! A message is acknowledged when the next event is asked for, or, where
//! [`Options::manual_acks`] was chosen, when [`Client::acknowledge`] is: a program
//! that dies while it handles one gets it again. [`Client::next`] may be dropped while
//! it waits, as `select!` does, and nothing is lost nor begun anew; but only while it
//! is awaited is the node answered, so a handler that takes longer than the heartbeat
//! should do its work elsewhere.
//!
//! Knows the words of [`crate::protocol`] and nothing else of ours. Speaks
//! WebSocket without TLS, as nodes do; before a node that speaks TLS stands a
//! load balancer.

mod backoff;
mod connection;
mod conversation;
mod event;
mod link;
mod options;
mod progress;

pub use backoff::{Then, after_close};
pub use connection::Client;
pub use event::{Error, Event, Trouble};
pub use options::{From, Options};
pub use progress::{Gap, Message, Session};
