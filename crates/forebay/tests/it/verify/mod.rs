//! `inspect`, `verify` and `records`: what they report, that they never write, and that they
//! report no damage in a buffer that is in use.

mod looking;
mod losses;
mod running;
