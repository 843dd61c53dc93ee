//! The implementations of `Storage`: the machine's file system, the simulated one, and the one
//! that fails on request.

mod fault;
mod os;
mod sim;
mod sim_agrees;
