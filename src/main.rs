//! autocertd's binary.
fn main() {}
