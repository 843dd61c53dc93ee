//! Behaviour of the library through its public API, a module per subject.
