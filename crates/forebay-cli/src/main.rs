//! `forebay`: a durable disk buffer for event pipelines, on the command line.

mod framing;
mod sizes;
mod vector;

fn main() {}
