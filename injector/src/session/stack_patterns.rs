//! Which stack patterns there are in a rule, and which of them no call ever matched.

use std::{collections::BTreeSet, ops::Range};

use injector_common::config::{AddressRange, Slice, StackRange};

/// A condition of a rule on stacks, which the kernel's symbols can fulfil.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArmedPattern {
    /// The option that has it.
    pub option: &'static str,
    /// The pattern.
    pub pattern: String,
    /// The entries of the table of address ranges that say whether a stack was as it wants it: one is enough.
    entries: BTreeSet<u32>,
}

impl ArmedPattern {
    /// Whether no stack was as it wants it.
    #[must_use]
    pub fn is_unmatched(&self, table: &[StackRange]) -> bool {
        !self.entries.iter().any(|entry| table.get(*entry as usize).is_some_and(|range| range.hit != 0))
    }
}

/// A pattern, and the addresses of all that it matches: sorted and apart.
pub(super) struct Matched {
    pub(super) pattern: String,
    pub(super) addresses: Vec<Range<u64>>,
}

/// The table of address ranges of a rule's stack filters, and the patterns in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StackTable {
    /// The table, as the hook searches it.
    pub ranges: Vec<StackRange>,
    /// Its patterns.
    pub patterns: Vec<ArmedPattern>,
}

impl StackTable {
    /// Appends addresses that belong together.
    pub(super) fn add(&mut self, ranges: &[Range<u64>]) -> Slice {
        let first = length(&self.ranges);
        self.ranges.extend(
            ranges.iter().map(|&Range { start, end }| StackRange { range: AddressRange { start, end }, hit: 0 }),
        );
        Slice { first, len: length(ranges) }
    }

    /// Appends patterns of which each is enough for a stack.
    pub(super) fn add_patterns(&mut self, option: &'static str, patterns: &[Matched]) -> Slice {
        let all: Vec<&[Range<u64>]> = patterns.iter().map(|matched| matched.addresses.as_slice()).collect();
        let pieces = pieces(&all);
        let slice = self.add(&pieces);
        for Matched { pattern, addresses } in patterns {
            let entries = (slice.first..).zip(&pieces).filter(|(_, piece)| contains(addresses, piece.start));
            let entries = entries.map(|(entry, _)| entry).collect();
            self.patterns.push(ArmedPattern { option, pattern: pattern.clone(), entries });
        }
        slice
    }

    /// Names what is fulfilled when a frame lies in a slice.
    pub(super) fn name(&mut self, option: &'static str, pattern: String, slice: Slice) {
        self.patterns.push(ArmedPattern { option, pattern, entries: (slice.first..slice.first + slice.len).collect() });
    }
}

/// All addresses that are in some of the lists, sorted, and cut where a list begins or ends: each piece is in a list or not.
fn pieces(lists: &[&[Range<u64>]]) -> Vec<Range<u64>> {
    let ends: BTreeSet<u64> = lists.iter().copied().flatten().flat_map(|range| [range.start, range.end]).collect();
    let ends: Vec<u64> = ends.into_iter().collect();
    let piece = ends.windows(2).map(|ends| ends[0]..ends[1]);
    piece.filter(|piece| lists.iter().any(|list| contains(list, piece.start))).collect()
}

/// Whether an address is in a list of ranges, sorted and apart.
fn contains(list: &[Range<u64>], address: u64) -> bool {
    let after = list.partition_point(|range| range.start <= address);
    after > 0 && list[after - 1].contains(&address)
}

fn length<T>(slice: &[T]) -> u32 {
    u32::try_from(slice.len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Ranges, sorted and apart.
    fn list() -> impl Strategy<Value = Vec<Range<u64>>> {
        prop::collection::btree_set(0_u64..40, 0..8).prop_map(|ends| {
            let ends: Vec<u64> = ends.into_iter().collect();
            ends.chunks_exact(2).map(|ends| ends[0]..ends[1]).collect()
        })
    }

    fn unmatched(table: &StackTable) -> Vec<&str> {
        let none = table.patterns.iter().filter(|pattern| pattern.is_unmatched(&table.ranges));
        none.map(|pattern| pattern.pattern.as_str()).collect()
    }

    #[test]
    fn neighbours_are_told_apart() {
        let mut table = StackTable::default();
        // The second is in the first, the third begins where the first ends.
        let patterns = [("a*", 0..20), ("ab", 4..8), ("b", 20..30)]
            .map(|(pattern, range)| Matched { pattern: pattern.to_owned(), addresses: Vec::from_iter([range]) });
        let slice = table.add_patterns("--stack", &patterns);
        assert_eq!((slice.first, slice.len), (0, 4));
        assert_eq!(unmatched(&table), ["a*", "ab", "b"]);
        table.ranges[2].hit = 1;
        assert_eq!(unmatched(&table), ["ab", "b"]);
        table.ranges[1].hit = 1;
        assert_eq!(unmatched(&table), ["b"]);
        let other = table.add(std::slice::from_ref(&(0..20)));
        table.name("--stack", "b..a*".to_owned(), other);
        assert_eq!(unmatched(&table), ["b", "b..a*"]);
    }

    proptest! {
        #[test]
        fn a_frame_fulfils_those_that_have_its_address(lists in prop::collection::vec(list(), 1..4), address in 0_u64..42) {
            let mut table = StackTable::default();
            let numbered = lists.iter().enumerate();
            let patterns: Vec<Matched> =
                numbered.map(|(i, list)| Matched { pattern: i.to_string(), addresses: list.clone() }).collect();
            table.add_patterns("--stack", &patterns);
            let starts: Vec<AddressRange> = table.ranges.iter().map(|entry| entry.range).collect();
            prop_assert!(starts.windows(2).all(|two| two[0].end <= two[1].start), "{starts:?}");
            for entry in &mut table.ranges {
                entry.hit = u64::from((entry.range.start..entry.range.end).contains(&address));
            }
            for (pattern, list) in table.patterns.iter().zip(&lists) {
                let is_in = list.iter().any(|range| range.contains(&address));
                prop_assert_eq!(!pattern.is_unmatched(&table.ranges), is_in);
            }
        }
    }
}
