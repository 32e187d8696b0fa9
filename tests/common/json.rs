//! A strict JSON reader, for the answers of the status port.

/// A JSON value.
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number.
    Number(f64),
    /// A string.
    Text(String),
    /// An array.
    Array(Vec<Json>),
    /// An object, in order.
    Object(Vec<(String, Json)>),
}

impl Json {
    /// Reads a whole document.
    ///
    /// # Panics
    /// It is not JSON: the product has sent garbage.
    pub fn parse(text: &str) -> Self {
        let mut reader = Reader { text, at: 0 };
        let value = reader.value();
        reader.blank();
        assert_eq!(reader.at, text.len(), "more than one value in {text}");
        value
    }

    /// The member at `path`, names separated by dots.
    ///
    /// # Panics
    /// There is none.
    pub fn at(&self, path: &str) -> &Self {
        path.split('.').fold(self, |value, name| {
            let Self::Object(members) = value else {
                panic!("{name} of {path} in {value:?}")
            };
            let member = members.iter().find(|(key, _)| key == name);
            &member.unwrap_or_else(|| panic!("no {name} of {path} in {value:?}")).1
        })
    }

    /// The string at `path`.
    ///
    /// # Panics
    /// There is none.
    pub fn text(&self, path: &str) -> &str {
        match self.at(path) {
            Self::Text(text) => text,
            other => panic!("{path} is {other:?}"),
        }
    }

    /// The array at `path`.
    ///
    /// # Panics
    /// There is none.
    pub fn array(&self, path: &str) -> &[Self] {
        match self.at(path) {
            Self::Array(values) => values,
            other => panic!("{path} is {other:?}"),
        }
    }

    /// Names of the members of an object, in order.
    ///
    /// # Panics
    /// It is no object.
    pub fn names(&self) -> Vec<&str> {
        match self {
            Self::Object(members) => members.iter().map(|(name, _)| name.as_str()).collect(),
            other => panic!("{other:?} is no object"),
        }
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn blank(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start_matches([' ', '\t', '\r', '\n']).len();
    }

    fn eat(&mut self, what: &str) -> bool {
        self.blank();
        let found = self.text[self.at..].starts_with(what);
        self.at += if found { what.len() } else { 0 };
        found
    }

    fn value(&mut self) -> Json {
        for (word, value) in [
            ("null", Json::Null),
            ("true", Json::Bool(true)),
            ("false", Json::Bool(false)),
        ] {
            if self.eat(word) {
                return value;
            }
        }
        if self.eat("[") {
            return Json::Array(self.list("]", Self::value));
        }
        if self.eat("{") {
            return Json::Object(self.list("}", |reader| {
                assert!(reader.eat("\""), "a name at {}", reader.at);
                let name = reader.string();
                assert!(reader.eat(":"), "a colon at {}", reader.at);
                (name, reader.value())
            }));
        }
        if self.eat("\"") {
            return Json::Text(self.string());
        }
        let rest = &self.text[self.at..];
        let length = rest
            .find(|c: char| !matches!(c, '0'..='9' | '-' | '+' | '.' | 'e' | 'E'))
            .unwrap_or(rest.len());
        self.at += length;
        Json::Number(
            rest[..length]
                .parse()
                .unwrap_or_else(|error| panic!("a number at {}: {error}: {rest}", self.at)),
        )
    }

    fn list<T>(&mut self, end: &str, mut item: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let mut items = Vec::new();
        if self.eat(end) {
            return items;
        }
        loop {
            items.push(item(self));
            if self.eat(end) {
                return items;
            }
            assert!(self.eat(","), "a comma at {} of {}", self.at, self.text);
        }
    }

    fn string(&mut self) -> String {
        let mut text = String::new();
        loop {
            let c = self.next();
            match c {
                '"' => return text,
                '\\' => {
                    let escaped = self.next();
                    text.push(match escaped {
                        '"' | '\\' | '/' => escaped,
                        'n' => '\n',
                        't' => '\t',
                        'r' => '\r',
                        'u' => {
                            let digits: String = (0..4).map(|_| self.next()).collect();
                            let code = u32::from_str_radix(&digits, 16).expect("four digits");
                            char::from_u32(code).expect("no surrogates")
                        }
                        other => panic!("\\{other} in a string"),
                    });
                }
                c => {
                    assert!(c >= ' ', "control character {c:?} in a string");
                    text.push(c);
                }
            }
        }
    }

    fn next(&mut self) -> char {
        let c = self.text[self.at..].chars().next().expect("the string ends");
        self.at += c.len_utf8();
        c
    }
}
