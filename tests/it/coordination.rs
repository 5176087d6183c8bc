//! Locks across processes.

mod ledger;
