//! Random histories: sets, managers and sessions against a naive model, and against each other on threads.

mod model;
mod single;
mod threads;
