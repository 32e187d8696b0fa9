//! From YAML events to values: mappings, lists, scalars, and structs whose fields are keys.
//!
//! A struct declared with [`record!`] is a table of key names and one function that reads the value of the n-th key into its
//! field; everything else about a mapping happens once, in [`Yaml::mapping`], for all of them. (Code made for
//! each struct anew was an eighth of the program.) Keys are checked against the struct's own table and the verdicts of
//! [`super::keys`] before the struct sees them.

use super::error::{Position, Warning};
use super::keys::{self, Verdict};
use super::yaml::{MAX_KEYS, Result, Step, Yaml, describe, is_merge, is_null, render};
use alloc::string::String;
use alloc::vec::Vec;
use saphyr_parser::Event;

/// What can be read from one value of the file.
pub(super) trait Read: Sized {
    /// Reads the value that comes next.
    fn read(yaml: &mut Yaml<'_>) -> Result<Self>;

    /// Reads the value that comes next into `place`, instead of what is there. One copy for all fields of a type.
    fn read_into(place: &mut Self, yaml: &mut Yaml<'_>) -> Result<()> {
        *place = Self::read(yaml)?;
        Ok(())
    }

    /// Reads a value that may be absent: null is.
    fn read_option(yaml: &mut Yaml<'_>) -> Result<Option<Self>> {
        if yaml.peek_null()? {
            yaml.next()?;
            return Ok(None);
        }
        Self::read(yaml).map(Some)
    }

    /// Reads a list of such values.
    fn read_list(yaml: &mut Yaml<'_>) -> Result<Vec<Self>> {
        let mut all = Vec::new();
        yaml.list(&mut |yaml| {
            all.push(Self::read(yaml)?);
            Ok(())
        })?;
        Ok(all)
    }
}

/// A struct whose fields are the keys of a mapping; see [`record!`].
pub(super) trait Record {
    /// Reads the value that comes next into the field of the key with this number.
    fn set(&mut self, key: usize, yaml: &mut Yaml<'_>) -> Result<()>;
}

/// Declares a struct that is read from a mapping: its fields are the keys, what is not written keeps the default. Fields behind
/// `not read` are no keys.
macro_rules! record {
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident {
            $($(#[$doc:meta])* $fvis:vis $field:ident: $type:ty),+ $(,)?
        }
        $(not read { $($(#[$odoc:meta])* $ovis:vis $other:ident: $otype:ty),+ $(,)? })?
    ) => {
        $(#[$meta])*
        $vis struct $name {
            $($(#[$doc])* $fvis $field: $type,)+
            $($($(#[$odoc])* $ovis $other: $otype,)+)?
        }

        impl $crate::host::config::read::Record for $name {
            fn set(
                &mut self,
                key: usize,
                yaml: &mut $crate::host::config::yaml::Yaml<'_>,
            ) -> $crate::host::config::yaml::Result<()> {
                #[allow(non_camel_case_types, reason = "named after the fields")]
                #[repr(usize)]
                enum Key { $($field),+ }
                $(if key == Key::$field as usize {
                    return $crate::host::config::read::Read::read_into(&mut self.$field, yaml);
                })+
                Ok(())
            }
        }

        impl $crate::host::config::read::Read for $name {
            fn read(yaml: &mut $crate::host::config::yaml::Yaml<'_>) -> $crate::host::config::yaml::Result<Self> {
                const KEYS: &[&str] = &[$($crate::host::config::read::key_name(stringify!($field))),+];
                let mut record = Self::default();
                yaml.record(stringify!($name), KEYS, &mut record)?;
                Ok(record)
            }
        }
    };
}
pub(super) use record;

/// A field's name without what makes a keyword an identifier.
pub(super) const fn key_name(field: &'static str) -> &'static str {
    match field.as_bytes() {
        [b'r', b'#', ..] => field.split_at(2).1,
        _ => field,
    }
}

/// Name and keys of a struct; `None` where the keys are free.
type Shape = Option<(&'static str, &'static [&'static str])>;

/// What to do with the value of a key.
#[derive(Clone, Copy)]
enum Then {
    Read,
    Skip,
    /// Nothing: it was read past.
    Skipped,
}

/// Reads the value of one key of a mapping.
type Entry<'f> = &'f mut dyn FnMut(&mut Yaml<'_>, &str) -> Result<()>;

impl Yaml<'_> {
    /// Reads a mapping into `record`, whose struct is called `name` and has these keys.
    pub(super) fn record(
        &mut self,
        name: &'static str,
        keys: &'static [&'static str],
        record: &mut dyn Record,
    ) -> Result<()> {
        self.mapping(
            Some((name, keys)),
            &mut |yaml, key| match keys.iter().position(|known| *known == key) {
                Some(number) => record.set(number, yaml),
                None => Ok(()),
            },
        )
    }

    /// Reads a mapping; `entry` reads the value of each key. Of a struct only the keys that are to be read.
    pub(super) fn mapping(&mut self, shape: Shape, entry: Entry<'_>) -> Result<()> {
        let start = self.next()?;
        let begin = self.at;
        match start {
            Event::MappingStart(..) => {}
            Event::Scalar(text, style, ..) if is_null(&text, style) => return Ok(()),
            Event::StreamEnd => return Ok(()),
            other => {
                return self.error(
                    begin,
                    format_args!("found {}, expected a mapping (key: value)", describe(&other)),
                );
            }
        }
        self.enter()?;
        self.entries(shape, (&mut Vec::new(), &[]), entry)?;
        self.depth -= 1;
        Ok(())
    }

    /// Reads the keys of a mapping, and its end. None may be in `seen`, which they are added to; those in `done` are read past.
    fn entries(&mut self, shape: Shape, (seen, done): (&mut Vec<String>, &[String]), entry: Entry<'_>) -> Result<()> {
        while !matches!(self.peek()?, Event::MappingEnd) {
            let at = self.at;
            let (key, style) = self.scalar("a key")?;
            if is_merge(&key, style) {
                self.merge(shape, seen, entry)?;
                continue;
            }
            self.is_new(&key, at, seen)?;
            let then = match shape {
                Some((name, keys)) => self.judge(name, keys, &key, at)?,
                None => Then::Read,
            };
            let key = key.into_owned();
            match then {
                Then::Read if !done.contains(&key) => {
                    self.path.push(Step::Key(key.clone()));
                    self.value(&mut |yaml| entry(yaml, &key))?;
                }
                Then::Read | Then::Skip => {
                    self.skip_value()?;
                }
                Then::Skipped => {}
            }
            seen.push(key);
        }
        self.next().map(|_| ())
    }

    /// Reads the value of a merge key as keys of the mapping it stands in, in this place.
    ///
    /// As in Prometheus: in a struct the key that is read last counts, merged or not; of several mappings in a list the
    /// first that has the key; where names are free none may be there twice.
    fn merge(&mut self, shape: Shape, seen: &mut Vec<String>, entry: Entry<'_>) -> Result<()> {
        let is_list = matches!(self.peek()?, Event::SequenceStart(..));
        if is_list {
            self.next()?;
        }
        let mut done = Vec::new();
        while !matches!(self.peek()?, Event::SequenceEnd) {
            let start = self.next()?;
            if !matches!(start, Event::MappingStart(..)) {
                let found = describe(&start);
                return self.error(self.at, format_args!("found {found}, expected a mapping to merge"));
            }
            self.enter()?;
            if shape.is_some() {
                let mut own = Vec::new();
                self.entries(shape, (&mut own, &done), entry)?;
                done.append(&mut own);
            } else {
                self.entries(shape, (seen, &[]), entry)?;
            }
            self.depth -= 1;
            if !is_list {
                return Ok(());
            }
        }
        self.next().map(|_| ())
    }

    fn is_new(&mut self, key: &str, at: Position, seen: &[String]) -> Result<()> {
        if seen.iter().any(|s| *s == key) {
            return self.error(at, format_args!("key {key:?} is given twice"));
        }
        if seen.len() == MAX_KEYS {
            return self.error(at, format_args!("more than {MAX_KEYS} keys in one mapping"));
        }
        Ok(())
    }

    /// Reads the value of the step that was just added to the path, and takes the step back.
    fn value(&mut self, read: &mut dyn FnMut(&mut Self) -> Result<()>) -> Result<()> {
        self.peek()?;
        let at = self.at;
        let result = read(self);
        self.located(at, result)?;
        self.path.pop();
        Ok(())
    }

    /// What to do with the value of `key` in the struct called `name`.
    fn judge(&mut self, name: &str, keys: &'static [&'static str], key: &str, at: Position) -> Result<Then> {
        let known = keys.contains(&key);
        let verdict = keys::verdict(name, key);
        if !known && verdict.is_none() {
            let (fields, shape) = (keys, name);
            return self.error(at, keys::Unknown { key, fields, shape });
        }
        if self.peek_null()? {
            return Ok(Then::Skip);
        }
        let then = if known { Then::Read } else { Then::Skip };
        let Some(Verdict { refused, unless, why }) = verdict else {
            return Ok(then);
        };
        let harmless = matches!(self.peek()?, Event::Scalar(text, ..) if unless.contains(&&**text));
        if harmless {
            return Ok(then);
        }
        // `rule_files: []` asks for nothing.
        if refused && !known && !self.skip_value()? {
            return Ok(Then::Skipped);
        }
        self.path.push(Step::Key(key.into()));
        if refused {
            return self.error(at, why);
        }
        self.warnings.push(Warning {
            position: Some(at),
            file: String::new(),
            key: render(&self.path),
            message: why.into(),
        });
        self.path.pop();
        Ok(then)
    }

    /// Reads a list; `element` reads each of its values.
    pub(super) fn list(&mut self, element: &mut dyn FnMut(&mut Self) -> Result<()>) -> Result<()> {
        let start = self.next()?;
        match start {
            Event::SequenceStart(..) => {}
            Event::Scalar(text, style, ..) if is_null(&text, style) => return Ok(()),
            // An empty file, where a list is the whole file.
            Event::StreamEnd => return Ok(()),
            other => {
                return self.error(self.at, format_args!("found {}, expected a list", describe(&other)));
            }
        }
        self.enter()?;
        let mut index = 0;
        while !matches!(self.peek()?, Event::SequenceEnd) {
            self.path.push(Step::Index(index));
            self.value(element)?;
            index += 1;
        }
        self.depth -= 1;
        self.next().map(|_| ())
    }

    /// Reads one scalar, as text.
    pub(super) fn text(&mut self) -> Result<String> {
        self.scalar("a single value").map(|(text, _)| text.into_owned())
    }

    fn number(&mut self, max: u64) -> Result<u64> {
        let (text, _) = self.scalar("a number")?;
        match text.parse() {
            Ok(number) if number <= max => Ok(number),
            _ => self.error(
                self.at,
                format_args!("found {text:?}, expected a whole number from 0 to {max}"),
            ),
        }
    }
}

impl Read for bool {
    fn read(yaml: &mut Yaml<'_>) -> Result<Self> {
        let (text, _) = yaml.scalar("true or false")?;
        // The spellings of YAML 1.1, which Prometheus accepts.
        match &*text {
            "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "y" | "Y" => Ok(true),
            "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" | "n" | "N" => Ok(false),
            _ => yaml.error(yaml.at, format_args!("found {text:?}, expected true or false")),
        }
    }
}

impl Read for u32 {
    fn read(yaml: &mut Yaml<'_>) -> Result<Self> {
        // Not above its largest value.
        yaml.number(Self::MAX.into()).map(|number| number as Self)
    }
}

impl Read for u64 {
    fn read(yaml: &mut Yaml<'_>) -> Result<Self> {
        yaml.number(Self::MAX)
    }
}

impl Read for String {
    fn read(yaml: &mut Yaml<'_>) -> Result<Self> {
        yaml.text()
    }
}

impl<T: Read> Read for Option<T> {
    fn read(yaml: &mut Yaml<'_>) -> Result<Self> {
        T::read_option(yaml)
    }
}

impl<T: Read> Read for Vec<T> {
    fn read(yaml: &mut Yaml<'_>) -> Result<Self> {
        T::read_list(yaml)
    }
}
