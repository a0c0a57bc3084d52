//! The end of a sweep: what nobody had seen before the last runs is listed with the reason.

use super::{
    stage::{Next, Ran, Severity, Stage},
    view::View,
};
use crate::journal::{Record, record::Unreached};

/// Gives up what is left.
#[derive(Debug, Default)]
pub(super) struct Rest {
    done: bool,
}

impl Stage for Rest {
    fn propose(&mut self, view: &View<'_>) -> Option<Next> {
        let sites = view.left();
        if std::mem::replace(&mut self.done, true) || sites.is_empty() {
            return None;
        }
        let why = "was only seen after other failures, in the last runs".to_owned();
        Some(Next::Note(Record::Unreached(Unreached { sites, why })))
    }

    fn learn(&mut self, _view: &View<'_>, _ran: &Ran<'_>) -> Severity {
        Severity::Expected
    }
}
