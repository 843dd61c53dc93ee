//! `inspect`, `verify` and `records`: what they say, that they never write, and
//! that they are calm about a buffer that is open elsewhere.

mod looking;
mod losses;
mod running;
