//! `/init` of a guest that has no other program for it; see [`injector_guest::init`].

fn main() {
    injector_guest::init::main()
}
