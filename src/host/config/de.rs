//! serde's half of the YAML deserializer: what each kind of field takes from the events.
//!
//! Struct keys are checked here, before serde sees them, against the struct's own field list and the
//! verdicts of [`super::keys`].

use super::error::Warning;
use super::keys::{self, Verdict};
use super::yaml::{Error, MAX_KEYS, Result, Step, Yaml, describe, is_null, render};
use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;
use saphyr_parser::{Event, ScalarStyle};
use serde::de::value::{CowStrDeserializer, MapDeserializer, SeqDeserializer};
use serde::de::{self, DeserializeSeed, Visitor};

/// What a mapping is read into.
struct Shape {
    /// Name of the struct; empty for a free mapping.
    name: &'static str,
    /// Keys the struct has; `None`: any key.
    fields: Option<&'static [&'static str]>,
}

struct Map<'x, 'a> {
    yaml: &'x mut Yaml<'a>,
    shape: Shape,
    seen: Vec<String>,
    key: Cow<'a, str>,
}

impl<'a> Map<'_, 'a> {
    /// Reads the next key that concerns the struct; `None` at the end of the mapping.
    fn next_key(&mut self) -> Result<Option<Cow<'a, str>>> {
        loop {
            if matches!(self.yaml.peek()?, Event::MappingEnd) {
                return Ok(None);
            }
            let at = self.yaml.at;
            let (key, style) = self.yaml.scalar("a key")?;
            if key == "<<" && style == ScalarStyle::Plain {
                return self
                    .yaml
                    .error(at, "merge keys (<<) are not supported: write the keys out");
            }
            if self.seen.iter().any(|s| *s == key) {
                return self.yaml.error(at, format_args!("key {key:?} is given twice"));
            }
            if self.seen.len() == MAX_KEYS {
                return self
                    .yaml
                    .error(at, format_args!("more than {MAX_KEYS} keys in one mapping"));
            }
            self.seen.push(key.clone().into_owned());
            match self.shape.fields {
                None => return Ok(Some(key)),
                Some(fields) => {
                    if self.judge(&key, at, fields)? {
                        return Ok(Some(key));
                    }
                    self.yaml.skip_value()?;
                }
            }
        }
    }

    /// True when the value of `key` is to be read into the struct, false to skip it.
    fn judge(&mut self, key: &str, at: super::error::Position, fields: &'static [&'static str]) -> Result<bool> {
        let known = fields.contains(&key);
        let verdict = keys::verdict(self.shape.name, key);
        if !known && verdict.is_none() {
            return self.yaml.error(
                at,
                keys::Unknown {
                    key,
                    fields,
                    shape: self.shape.name,
                },
            );
        }
        if self.yaml.peek_null()? {
            return Ok(false);
        }
        let Some(Verdict { refused, unless, why }) = verdict else {
            return Ok(true);
        };
        let harmless = matches!(self.yaml.peek()?, Event::Scalar(text, ..) if unless.contains(&&**text));
        if harmless {
            return Ok(known);
        }
        self.yaml.path.push(Step::Key(Cow::Owned(key.into())));
        if refused {
            return self.yaml.error(at, why);
        }
        self.yaml.warnings.push(Warning {
            position: Some(at),
            file: String::new(),
            key: render(&self.yaml.path),
            message: why.into(),
        });
        self.yaml.path.pop();
        Ok(known)
    }
}

impl<'de> de::MapAccess<'de> for Map<'_, '_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>> {
        let Some(key) = self.next_key()? else {
            return Ok(None);
        };
        let at = self.yaml.at;
        let result = seed.deserialize(CowStrDeserializer::<Error>::new(Cow::Borrowed(&*key)));
        self.key = key;
        self.yaml.located(at, result).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value> {
        self.yaml.path.push(Step::Key(core::mem::take(&mut self.key)));
        self.yaml.peek()?;
        let at = self.yaml.at;
        let result = seed.deserialize(&mut *self.yaml);
        let value = self.yaml.located(at, result)?;
        self.yaml.path.pop();
        Ok(value)
    }
}

struct Seq<'x, 'a> {
    yaml: &'x mut Yaml<'a>,
    index: usize,
}

impl<'de> de::SeqAccess<'de> for Seq<'_, '_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>> {
        if matches!(self.yaml.peek()?, Event::SequenceEnd) {
            return Ok(None);
        }
        let at = self.yaml.at;
        self.yaml.path.push(Step::Index(self.index));
        let result = seed.deserialize(&mut *self.yaml);
        let value = self.yaml.located(at, result)?;
        self.yaml.path.pop();
        self.index += 1;
        Ok(Some(value))
    }
}

impl Yaml<'_> {
    fn read_map<'de, V: Visitor<'de>>(&mut self, shape: Shape, visitor: V) -> Result<V::Value> {
        let start = self.next()?;
        let at = self.at;
        match start {
            Event::MappingStart(..) => {}
            Event::Scalar(text, style, ..) if is_null(&text, style) => {
                return visitor.visit_map(MapDeserializer::<_, Error>::new(core::iter::empty::<((), ())>()));
            }
            Event::StreamEnd => {
                return visitor.visit_map(MapDeserializer::<_, Error>::new(core::iter::empty::<((), ())>()));
            }
            other => {
                return self.error(
                    at,
                    format_args!("found {}, expected a mapping (key: value)", describe(&other)),
                );
            }
        }
        self.enter()?;
        let map = Map {
            yaml: &mut *self,
            shape,
            seen: Vec::new(),
            key: Cow::Borrowed(""),
        };
        let result = visitor.visit_map(map);
        let value = self.located(at, result)?;
        self.depth -= 1;
        // The visitor stopped at the end of the mapping.
        self.next()?;
        Ok(value)
    }

    fn number<T: core::str::FromStr>(&mut self, range: &str) -> Result<T> {
        let (text, _) = self.scalar("a number")?;
        match text.parse() {
            Ok(number) => Ok(number),
            Err(_) => self.error(self.at, format_args!("found {text:?}, expected {range}")),
        }
    }
}

impl<'de> de::Deserializer<'de> for &mut Yaml<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self.peek()? {
            Event::MappingStart(..) => self.deserialize_map(visitor),
            Event::SequenceStart(..) => self.deserialize_seq(visitor),
            _ => self.deserialize_str(visitor),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        let (text, _) = self.scalar("true or false")?;
        // The spellings of YAML 1.1, which Prometheus accepts.
        match &*text {
            "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "y" | "Y" => {
                visitor.visit_bool(true)
            }
            "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" | "n" | "N" => {
                visitor.visit_bool(false)
            }
            _ => self.error(self.at, format_args!("found {text:?}, expected true or false")),
        }
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        let number = self.number("a whole number from 0 to 4294967295")?;
        visitor.visit_u32(number)
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        let number = self.number("a whole number from 0 to 18446744073709551615")?;
        visitor.visit_u64(number)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self.scalar("a single value")?.0 {
            Cow::Borrowed(text) => visitor.visit_str(text),
            Cow::Owned(text) => visitor.visit_string(text),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        if self.peek_null()? {
            self.next()?;
            return visitor.visit_none();
        }
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        self.read_map(Shape { name: "", fields: None }, visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        self.read_map(
            Shape {
                name,
                fields: Some(fields),
            },
            visitor,
        )
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        let start = self.next()?;
        let at = self.at;
        match start {
            Event::SequenceStart(..) => {}
            // An empty file, where a list is the whole file.
            Event::StreamEnd => return visitor.visit_seq(SeqDeserializer::<_, Error>::new(core::iter::empty::<()>())),
            other => return self.error(at, format_args!("found {}, expected a list", describe(&other))),
        }
        self.enter()?;
        let result = visitor.visit_seq(Seq {
            yaml: &mut *self,
            index: 0,
        });
        let value = self.located(at, result)?;
        self.depth -= 1;
        // The visitor read up to the end of the list.
        self.next()?;
        Ok(value)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        let accepted = keys::List(variants);
        let (text, _) = self.scalar("a single value")?;
        if !variants.contains(&&*text) {
            return self.error(self.at, format_args!("found {text:?}, expected {accepted}"));
        }
        visitor.visit_enum(CowStrDeserializer::<Error>::new(Cow::Borrowed(&*text)))
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        self.deserialize_str(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        self.skip_value()?;
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u128 f32 f64 char bytes byte_buf unit unit_struct tuple tuple_struct
    }
}
