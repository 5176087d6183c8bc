//! Random histories: sets, managers and sessions against a naive model, and against each other on threads.

mod bytes;
mod corpora;
mod model;
mod names;
mod requests;
mod single;
mod steps;
mod threads;
mod visitor;
mod worker;
