//! The suites for drivers, and for what stands on them: that they find what is wrong.

mod buggy;
mod coordinator;
mod driver;
mod meddling;
