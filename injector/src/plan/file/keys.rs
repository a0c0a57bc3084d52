//! The keys of a plan file and their values.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{FileError, Position};
use crate::foreign::Foreign;
use crate::plan::suggest;

/// The text of a file: where things are in it.
#[derive(Debug)]
pub(in crate::plan) struct Source<'a> {
    name: &'a str,
    text: &'a str,
}

impl<'a> Source<'a> {
    pub(in crate::plan) fn new(name: &'a str, text: &'a str) -> Self {
        Self { name, text }
    }

    fn position(&self, offset: usize) -> Position {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Position { line: before.matches('\n').count() + 1, column: before[line_start..].chars().count() + 1 }
    }

    pub(super) fn error(&self, position: Position, message: String) -> FileError {
        FileError::At { name: self.name.to_owned(), position, message }
    }

    fn error_at(&self, span: &Range<usize>, message: String) -> FileError {
        self.error(self.position(span.start), message)
    }
}

/// A key with its value, and how it was written.
#[derive(Debug)]
struct Entry<'a> {
    span: Range<usize>,
    written: String,
    value: Spanned<DeValue<'a>>,
}

/// The keys of a table. Each is asked for once; what is left then is none that there is.
#[derive(Debug)]
pub(in crate::plan) struct Keys<'a> {
    source: &'a Source<'a>,
    /// Where the table starts.
    position: Position,
    entries: BTreeMap<String, Entry<'a>>,
    asked: Vec<&'static str>,
}

/// Keys that may be written in the plural, since they may have several values.
const PLURALS: [(&str, &str); 5] =
    [("hooks", "hook"), ("functions", "function"), ("pids", "pid"), ("cgroups", "cgroup"), ("containers", "container")];

impl<'a> Keys<'a> {
    /// Those of the whole file.
    pub(in crate::plan) fn of_file(source: &'a Source<'a>) -> Result<Self, FileError> {
        let table = DeTable::parse(source.text).map_err(|error| {
            let lines: Vec<&str> = error.message().lines().map(str::trim).filter(|line| !line.is_empty()).collect();
            // toml quotes what it found.
            source.error_at(&error.span().unwrap_or_default(), Foreign::from(lines.join("; ")).to_string())
        })?;
        Self::new(source, Position { line: 1, column: 1 }, table.into_inner())
    }

    fn new(source: &'a Source<'a>, position: Position, table: DeTable<'a>) -> Result<Self, FileError> {
        let mut entries: BTreeMap<String, Entry<'a>> = BTreeMap::new();
        for (key, value) in table {
            let (span, written) = (key.span(), key.get_ref().to_string());
            let dashed = written.replace('_', "-");
            let name = PLURALS.iter().find(|(plural, _)| *plural == dashed).map_or(dashed.as_str(), |(_, one)| one);
            if let Some(other) = entries.get(name) {
                let message = format!(
                    "`{}` is the same key as `{}`",
                    Foreign::from(written),
                    Foreign::from(other.written.as_str())
                );
                return Err(source.error_at(&span, message));
            }
            entries.insert(name.to_owned(), Entry { span, written, value });
        }
        Ok(Self { source, position, entries, asked: Vec::new() })
    }

    /// Whether nothing is left that was not asked for.
    pub(in crate::plan) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// An error of the table as a whole.
    pub(in crate::plan) fn error(&self, error: impl Display) -> FileError {
        self.source.error(self.position, error.to_string())
    }

    fn take(&mut self, key: &'static str) -> Option<Spanned<DeValue<'a>>> {
        self.asked.push(key);
        self.entries.remove(key).map(|entry| entry.value)
    }

    /// A key with one value.
    pub(in crate::plan) fn one<T, E: Display>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Result<Option<T>, FileError> {
        self.take(key).map(|value| self.value(key, &value, parse)).transpose()
    }

    /// A key with one value, or with a list of them.
    pub(in crate::plan) fn any<T, E: Display>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Result<Vec<T>, FileError> {
        let Some(value) = self.take(key) else { return Ok(Vec::new()) };
        let DeValue::Array(values) = value.get_ref() else { return Ok(vec![self.value(key, &value, parse)?]) };
        if values.is_empty() {
            return Err(self.source.error_at(&value.span(), format!("{key}: the list is empty; leave the key out")));
        }
        values.iter().map(|value| self.value(key, value, &parse)).collect()
    }

    /// The same; a text may have several values, with commas between them.
    pub(in crate::plan) fn list<T, E: Display>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Result<Vec<T>, FileError> {
        let split = |text: &str| text.split(',').map(&parse).collect::<Result<Vec<T>, E>>();
        Ok(self.any(key, split)?.into_iter().flatten().collect())
    }

    /// A key whose value is a text with commas in it, or a list of its parts.
    pub(in crate::plan) fn joined<T, E: Display>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Result<Option<T>, FileError> {
        let Some(span) = self.entries.get(key).map(|entry| entry.value.span()) else {
            self.asked.push(key);
            return Ok(None);
        };
        let parts = self.any(key, |part| parse(part).map(|_| part.to_owned()))?;
        match parse(&parts.join(",")) {
            Ok(value) => Ok(Some(value)),
            Err(error) => Err(self.source.error_at(&span, format!("{key}: {error}"))),
        }
    }

    /// A key that is true or false; false if it is not there.
    pub(in crate::plan) fn flag(&mut self, key: &'static str) -> Result<bool, FileError> {
        match self.take(key) {
            None => Ok(false),
            Some(value) => match value.get_ref() {
                DeValue::Boolean(on) => Ok(*on),
                _ => Err(self.source.error_at(&value.span(), format!("{key}: write true or false"))),
            },
        }
    }

    /// A `[key]`.
    pub(in crate::plan) fn table(&mut self, key: &'static str) -> Result<Option<Self>, FileError> {
        let Some(value) = self.take(key) else { return Ok(None) };
        let span = value.span();
        match value.into_inner() {
            DeValue::Table(table) => Self::new(self.source, self.source.position(span.start), table).map(Some),
            _ => Err(self.source.error_at(&span, format!("{key} is a table: write [{key}], and its keys below"))),
        }
    }

    /// All `[[key]]`, and where they stand.
    pub(in crate::plan) fn tables(&mut self, key: &'static str) -> Result<Vec<(Position, Self)>, FileError> {
        let Some(value) = self.take(key) else { return Ok(Vec::new()) };
        let wrong = |span: &Range<usize>| {
            let message =
                format!("{key} is a table of which there can be several: write [[{key}]], and its keys below");
            Err(self.source.error_at(span, message))
        };
        let span = value.span();
        let DeValue::Array(values) = value.into_inner() else { return wrong(&span) };
        let mut tables = Vec::new();
        for value in values {
            let span = value.span();
            let position = self.source.position(span.start);
            let DeValue::Table(table) = value.into_inner() else { return wrong(&span) };
            tables.push((position, Self::new(self.source, position, table)?));
        }
        Ok(tables)
    }

    /// Nothing may be left.
    pub(in crate::plan) fn finish(self) -> Result<(), FileError> {
        let Some(Entry { span, written, value: _ }) = self.entries.into_values().min_by_key(|entry| entry.span.start)
        else {
            return Ok(());
        };
        let hint = match suggest::close(&written, self.asked.iter().copied(), 2) {
            close if close.is_empty() => format!("; keys here are: {}", self.asked.join(", ")),
            close => suggest::did_you_mean(&close.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>()),
        };
        Err(self.source.error_at(&span, format!("there is no key `{}`{hint}", Foreign::from(written))))
    }

    fn value<T, E: Display>(
        &self,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Result<T, FileError> {
        let error = |error: &dyn Display| self.source.error_at(&value.span(), format!("{key}: {error}"));
        let text = match value.get_ref() {
            DeValue::String(text) => text.to_string(),
            // The digits are those of a number: the parser has seen to it.
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
                .map_err(|_| {
                    error(&format_args!(
                        "the number is too large; write it as a text: \"{}\"",
                        Foreign::from(number.as_str())
                    ))
                })?
                .to_string(),
            DeValue::Float(number) => number.as_str().to_owned(),
            DeValue::Boolean(_) => return Err(error(&"neither true nor false can stand here")),
            DeValue::Datetime(_) => return Err(error(&"no date can stand here")),
            DeValue::Array(_) => return Err(error(&"only one value can stand here")),
            DeValue::Table(_) => return Err(error(&"no table can stand here")),
        };
        parse(&text).map_err(|reason| error(&reason))
    }
}
