#![allow(unused)]

use tierlock::{Error, LockSet, ssynchronized};

struct Share {
    id: u32,
    owner: Option<String>,
}

#[ssynchronized("share-{share}", in = locks)]
fn without_display(locks: &LockSet, share: &Share) -> Result<(), Error> {
    Ok(())
}

#[ssynchronized("share-{share.owner}", in = locks)]
fn an_option_is_not_a_name(locks: &LockSet, share: &Share) -> Result<(), Error> {
    Ok(())
}

#[ssynchronized("share-{share.uuid}", in = locks)]
fn an_unknown_field(locks: &LockSet, share: &Share) -> Result<(), Error> {
    Ok(())
}

#[ssynchronized("share-{share.uuid()}", in = locks)]
fn an_unknown_method(locks: &LockSet, share: &Share) -> Result<(), Error> {
    Ok(())
}

#[ssynchronized("share-{share.id:q}", in = locks)]
fn an_unknown_format(locks: &LockSet, share: &Share) -> Result<(), Error> {
    Ok(())
}

fn main() {}
