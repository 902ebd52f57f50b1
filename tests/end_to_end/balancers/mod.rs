//! Nodes behind the load balancers that `deploy/` has configurations for, each
//! the real program with the real file: only addresses are replaced.

mod balancer;
mod receiver;
mod rolling;
mod sender;
mod sockets;
mod whole_cluster;
