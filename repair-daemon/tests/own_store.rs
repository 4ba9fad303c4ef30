//! The example of a store of one's own: it is as short as it says, and keeps its promises.

#[path = "../examples/own_store.rs"]
mod example;

#[test]
fn a_store_of_ones_own_takes_less_than_150_lines_and_conforms() {
    let lines = include_str!("../examples/own_store.rs").lines().count();
    assert!(lines < 150, "{lines} lines");
    example::main().unwrap();
}
