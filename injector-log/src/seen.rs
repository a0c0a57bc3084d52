//! Which reports are of the same defect.

use super::{head::Class, titles};

/// What later reports are compared with.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub title: String,
    pub class: Class,
    pub culprit: Option<String>,
    pub task: Option<String>,
    pub object: Option<String>,
    /// When it was complete, in seconds since the boot, where the log says so.
    pub seconds: Option<u64>,
}

/// Seconds: what hangs or is damaged later is another matter. A hung task is reported again after two minutes.
const ONE_CAUSE: u64 = 600;

impl Seen {
    /// Whether this is the same defect as one of the same episode.
    pub(crate) fn is_again(&self, earlier: &Self) -> bool {
        let same_place = earlier.culprit.is_some() && earlier.culprit == self.culprit;
        self.title == earlier.title
            || same_place && self.is_task_of(earlier)
            || match (earlier.class, self.class) {
                (Class::Memory, Class::Memory) | (Class::Name, Class::Name) => {
                    earlier.object.is_some() && earlier.object == self.object
                }
                (Class::Atomic, Class::Atomic) => self.is_task_of(earlier),
                (Class::Hang, Class::Hang) | (Class::Disk, Class::Disk) => self.is_soon_after(earlier),
                _ => false,
            }
    }

    fn is_soon_after(&self, earlier: &Self) -> bool {
        match (earlier.seconds, self.seconds) {
            (Some(earlier), Some(now)) => now.saturating_sub(earlier) <= ONE_CAUSE,
            _ => true,
        }
    }

    /// Whether this comes of one that is over, or lasts: a task that faulted is on its way out, a hang hangs.
    pub(crate) fn is_after(&self, earlier: &Self) -> bool {
        match (earlier.class, self.class) {
            (_, Class::Panic) => titles::is_consequence(&self.title),
            (Class::Fault, _) => self.is_task_of(earlier),
            (Class::Hang, Class::Hang) => self.is_task_of(earlier) || earlier.title == self.title,
            _ => false,
        }
    }

    fn is_task_of(&self, earlier: &Self) -> bool {
        earlier.task.is_some() && earlier.task == self.task
    }
}
