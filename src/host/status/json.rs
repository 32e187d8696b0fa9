//! JSON strings without a serializer: escaping is all that the status answers need.

use core::fmt::{self, Display, Write};

/// Displays any value as a JSON string, quotes included.
pub struct Text<T: Display>(pub T);

struct Escape<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl Write for Escape<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            match character {
                '"' => self.0.write_str("\\\"")?,
                '\\' => self.0.write_str("\\\\")?,
                '\n' => self.0.write_str("\\n")?,
                // `<`, `>` and `&` as Go's encoder writes them: the answers stay safe inside a page.
                '\0'..='\x1f' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                    write!(self.0, "\\u{:04x}", u32::from(character))?;
                }
                _ => self.0.write_char(character)?,
            }
        }
        Ok(())
    }
}

impl<T: Display> Display for Text<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", Escaped(&self.0))
    }
}

/// Displays any value as the inside of a JSON string, to be written in pieces.
pub struct Escaped<T: Display>(pub T);

impl<T: Display> Display for Escaped<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escape(f), "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::Text;
    use alloc::string::ToString;

    #[test]
    fn strings_are_escaped() {
        assert_eq!(
            Text("a\"b\\c\n\u{1}<é>").to_string(),
            "\"a\\\"b\\\\c\\n\\u0001\\u003cé\\u003e\""
        );
    }
}
