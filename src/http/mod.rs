//! What is spoken over HTTP.

pub mod auth;
pub mod credentials;
