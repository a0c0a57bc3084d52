//! Writes records, and knows what they add up to.

use super::{Record, State, WriteError, Writer};

/// A journal that is being written, with the state that its records add up to.
#[derive(Debug)]
pub struct Recorder {
    writer: Writer,
    state: State,
}

impl Recorder {
    /// Writes to `writer`; `state`: what the records so far add up to.
    #[must_use]
    pub fn new(writer: Writer, state: State) -> Self {
        Self { writer, state }
    }

    /// Writes a record, which the next synced one makes durable.
    ///
    /// # Errors
    /// It can't be written.
    pub fn write(&mut self, record: &Record) -> Result<(), WriteError> {
        self.writer.write(record)?;
        self.state.apply(record);
        Ok(())
    }

    /// Writes a record, and returns when it can't be lost any more.
    ///
    /// # Errors
    /// It can't be written.
    pub fn sync(&mut self, record: &Record) -> Result<(), WriteError> {
        self.writer.sync(record)?;
        self.state.apply(record);
        Ok(())
    }

    /// What the records add up to.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The same, when nothing more is to be written.
    #[must_use]
    pub fn into_state(self) -> State {
        self.state
    }
}
