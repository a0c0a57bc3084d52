//! What failures have in common, in a memory that does not grow with their number.

use serde::{Serialize, Serializer, ser::SerializeSeq as _};

/// How often each value came, of the first few that there were.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    values: Vec<(Box<str>, u64)>,
    others: u64,
}

/// How many values a tally knows by name.
const KEPT: usize = 8;

impl Tally {
    /// Counts one.
    pub fn count(&mut self, value: &str) {
        if let Some((_, count)) = self.values.iter_mut().find(|(known, _)| **known == *value) {
            *count += 1;
        } else if self.values.len() < KEPT {
            self.values.push((value.into(), 1));
        } else {
            self.others += 1;
        }
    }

    /// The values, most frequent first, and how often there were others.
    #[must_use]
    pub fn values(&self) -> (Vec<(&str, u64)>, u64) {
        let mut values: Vec<(&str, u64)> = self.values.iter().map(|(value, count)| (&**value, *count)).collect();
        values.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        (values, self.others)
    }

    /// Nothing was counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }
}

/// As a list: `{"value": "mkdir", "count": 3}`; the others have no value.
impl Serialize for Tally {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Entry<'a> {
            value: Option<&'a str>,
            count: u64,
        }
        let (values, others) = self.values();
        let mut list = serializer.serialize_seq(None)?;
        for (value, count) in values {
            list.serialize_element(&Entry { value: Some(value), count })?;
        }
        if others > 0 {
            list.serialize_element(&Entry { value: None, count: others })?;
        }
        list.end()
    }
}

/// The least and the greatest of some numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Span {
    /// The least.
    pub min: u64,
    /// The greatest.
    pub max: u64,
}

impl Span {
    /// With another number.
    pub fn add(span: &mut Option<Self>, number: u64) {
        *span = Some(match *span {
            None => Self { min: number, max: number },
            Some(Self { min, max }) => Self { min: min.min(number), max: max.max(number) },
        });
    }
}

/// Failures by time: a second a column, or as many seconds as it takes to have no more than [`COLUMNS`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Timeline {
    /// Seconds that a column stands for.
    pub seconds: u64,
    /// How many failures were in each.
    pub counts: Vec<u64>,
}

/// The most columns that a timeline has: an hour of seconds.
pub const COLUMNS: usize = 3600;

impl Default for Timeline {
    fn default() -> Self {
        Self { seconds: 1, counts: Vec::new() }
    }
}

impl Timeline {
    /// Counts one, so many nanoseconds after the start.
    pub fn count(&mut self, since: u64) {
        let second = since / 1_000_000_000;
        while second / self.seconds >= COLUMNS as u64 {
            self.halve();
        }
        let column = (second / self.seconds) as usize;
        if self.counts.len() <= column {
            self.counts.resize(column + 1, 0);
        }
        self.counts[column] += 1;
    }

    /// The same in at most `columns`.
    #[must_use]
    pub fn at_most(&self, columns: usize) -> Self {
        let mut timeline = self.clone();
        while timeline.counts.len() > columns.max(1) {
            timeline.halve();
        }
        timeline
    }

    fn halve(&mut self) {
        self.seconds *= 2;
        self.counts = self.counts.chunks(2).map(|pair| pair.iter().sum()).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_tally_knows_the_first_few_by_name() {
        let mut tally = Tally::default();
        for i in 0..20 {
            tally.count(&format!("v{}", i % 10));
        }
        tally.count("v3");
        let (values, others) = tally.values();
        assert_eq!((values.len(), values[0], values[1], others), (KEPT, ("v3", 3), ("v0", 2), 4));
        let json = serde_json::to_value(&tally).unwrap();
        assert_eq!((&json[0]["value"], &json[8]), (&"v3".into(), &serde_json::json!({"value": null, "count": 4})));
    }

    proptest! {
        #[test]
        fn a_timeline_loses_nothing_and_stays_small(times in proptest::collection::vec(any::<u64>(), 1..50)) {
            let mut timeline = Timeline::default();
            for time in &times {
                timeline.count(*time);
            }
            prop_assert!(timeline.counts.len() <= COLUMNS);
            prop_assert_eq!(timeline.counts.iter().sum::<u64>(), times.len() as u64);
            let latest = times.iter().max().unwrap() / 1_000_000_000;
            prop_assert_eq!(timeline.counts.len() as u64 - 1, latest / timeline.seconds);
            prop_assert!(timeline.at_most(60).counts.len() <= 60);
        }
    }
}
