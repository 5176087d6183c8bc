//! What does not compile, and what the compiler says of it; `TRYBUILD=overwrite` writes the texts anew.

#[test]
fn what_is_wrong_is_said_where_it_is_wrong() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/ui/*.rs");
}
