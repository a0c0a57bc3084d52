//! TEMP
pub mod kmsg;
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Warning,
    Hang,
    Leak,
    Oops,
}
#[derive(Clone, Debug)]
pub struct Complaint {
    pub kind: Kind,
    pub title: String,
    pub splat: String,
}
