#![allow(unused)]

use tierlock::Level;

#[derive(Level)]
struct NoEnum;

#[derive(Level)]
enum NoVariants {}

#[derive(Level)]
enum Generic<T> {
    Cluster(T),
}

#[derive(Level)]
enum WithFields {
    Cluster,
    Node(String),
}

#[derive(Level)]
enum WithDiscriminants {
    Cluster = 3,
    Node = 1,
}

#[derive(Level)]
#[level(root = "BGL")]
enum OnTheEnum {
    Cluster,
}

#[derive(Level)]
enum UnknownOption {
    #[level(route = "BGL")]
    Cluster,
}

#[derive(Level)]
enum NoValue {
    #[level(root)]
    Cluster,
}

#[derive(Level)]
enum EmptyName {
    #[level(name = "")]
    Cluster,
}

#[derive(Level)]
enum Twice {
    #[level(name = "cluster", name = "all")]
    Cluster,
}

#[derive(Level)]
enum OneName {
    Node,
    #[level(name = "node")]
    Machine,
}

#[derive(Level)]
enum DeepRoot {
    Cluster,
    #[level(root = "n1")]
    Node,
}

#[derive(Level)]
enum FixedAndOnDemand {
    #[level(fixed, on_demand)]
    Cluster,
}

#[derive(Level)]
enum RootOnDemand {
    #[level(root = "BGL", on_demand)]
    Cluster,
}

#[derive(Level)]
enum NameIsNoText {
    #[level(name = 3)]
    Cluster,
}

#[derive(Level)]
enum OptionIsAPath {
    #[level(root::of = "BGL")]
    Cluster,
}

fn main() {}
