#![allow(unused)]

use tierlock::{Error, LockSet, ssynchronized};

struct Share {
    id: u32,
}

#[ssynchronized("share-{shore.id}", in = locks)]
fn an_unknown_argument(locks: &LockSet, share: &Share) -> Result<(), Error> {
    Ok(())
}

#[ssynchronized("share-{self.id}", in = locks)]
fn no_self(locks: &LockSet, share: &Share) -> Result<(), Error> {
    Ok(())
}

#[ssynchronized("share-{}", in = locks)]
fn an_empty_placeholder(locks: &LockSet, share: &Share) -> Result<(), Error> {
    Ok(())
}

#[ssynchronized("share-{:>8}", in = locks)]
fn a_format_of_nothing(locks: &LockSet, share: &Share) -> Result<(), Error> {
    Ok(())
}

#[ssynchronized("share-{0}", in = locks)]
fn an_argument_by_number(locks: &LockSet, share: &Share) -> Result<(), Error> {
    Ok(())
}

#[ssynchronized("share-{share.id", in = locks)]
fn never_closed(locks: &LockSet, share: &Share) -> Result<(), Error> {
    Ok(())
}

#[ssynchronized("share-}", in = locks)]
fn never_opened(locks: &LockSet, share: &Share) -> Result<(), Error> {
    Ok(())
}

#[ssynchronized("{share.id + 1}", in = locks)]
fn a_sum(locks: &LockSet, share: &Share) -> Result<(), Error> {
    Ok(())
}

#[ssynchronized("{share.of(1)}", in = locks)]
fn a_call_with_arguments(locks: &LockSet, share: &Share) -> Result<(), Error> {
    Ok(())
}

#[ssynchronized("{ids[name]}", in = locks)]
fn a_key_without_quotes(locks: &LockSet, ids: &std::collections::HashMap<String, u32>) -> Result<(), Error> {
    Ok(())
}

#[ssynchronized("{share.id:>width$}", in = locks)]
fn a_width_from_elsewhere(locks: &LockSet, share: &Share, width: usize) -> Result<(), Error> {
    Ok(())
}

#[ssynchronized("{f_name}", in = locks)]
fn the_name_is_an_argument(locks: &LockSet, f_name: &str) -> Result<(), Error> {
    Ok(())
}

#[ssynchronized("", in = locks)]
fn no_name(locks: &LockSet) -> Result<(), Error> {
    Ok(())
}

#[ssynchronized("{share.}", in = locks)]
fn half_an_expression(locks: &LockSet, share: &Share) -> Result<(), Error> {
    Ok(())
}

#[ssynchronized("{Share::ID}", in = locks)]
fn a_constant(locks: &LockSet, share: &Share) -> Result<(), Error> {
    Ok(())
}

#[ssynchronized("{ids[1 + 1]}", in = locks)]
fn an_index_that_is_computed(locks: &LockSet, ids: &[u32]) -> Result<(), Error> {
    Ok(())
}

fn main() {}
