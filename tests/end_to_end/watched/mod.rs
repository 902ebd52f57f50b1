//! What an operator watches, watched: the project's own Prometheus configuration,
//! rules and dashboards over a real cluster to which everything happens.

pub(crate) mod dashboard;
mod outsiders;
mod prometheus;
mod queries;
mod rules;
mod structure;
mod troubles;

mod live;
