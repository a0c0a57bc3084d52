//! Which functions are the allocator's own: who is before them on a stack asked for memory. Their names are in the table of
//! [`injector_log::allocator`].

pub use injector_log::allocator::is_its_own;
