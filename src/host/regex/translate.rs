//! Go's RE2 syntax rewritten for regex-lite.

use crate::relabel::PatternError;
use alloc::format;
use alloc::string::{String, ToString};

/// Counts above this are refused, as Go refuses them.
const MAX_REPEAT: u32 = 1000;

/// Go's `\s`: unlike regex-lite's, without vertical tab. The second is its complement as class ranges.
const SPACES: &str = r"\t\n\x0C\r ";
const NOT_SPACES: &str = r"\x00-\x08\x0B\x0E-\x1F\x21-\x{10FFFF}";

/// Names of `[:name:]` classes; both dialects have the same.
const CLASS_NAMES: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper", "word",
    "xdigit",
];

/// Rewrites an RE2 `pattern` so that regex-lite takes it to mean the same.
///
/// # Errors
/// [`PatternError`] for what is wrong in Go too, and for what regex-lite cannot say.
pub fn translate(pattern: &str) -> Result<String, PatternError> {
    let mut translator = Translator {
        pattern,
        at: 0,
        out: String::new(),
        depth: 0,
        before: Before::Nothing,
    };
    while let Some(c) = translator.bump() {
        translator.item(c)?;
    }
    if translator.depth > 0 {
        return Err(translator.error("missing closing )"));
    }
    translator.check_case_folding()?;
    Ok(translator.out)
}

/// What a repetition operator would apply to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    Nothing,
    Item,
    Repetition,
}

struct Translator<'p> {
    pattern: &'p str,
    /// Byte offset behind the character taken last.
    at: usize,
    out: String,
    depth: usize,
    before: Before,
}

type Step<T = ()> = Result<T, PatternError>;

impl<'p> Translator<'p> {
    fn rest(&self) -> &'p str {
        self.pattern.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn take(&mut self, text: &str) -> bool {
        let found = self.rest().starts_with(text);
        self.at += if found { text.len() } else { 0 };
        found
    }

    /// An error at the character taken last.
    fn error(&self, message: &str) -> PatternError {
        let taken = self.pattern.get(..self.at).unwrap_or_default();
        PatternError {
            column: taken.chars().count(),
            message: message.to_string(),
        }
    }

    /// One item outside of a class.
    fn item(&mut self, c: char) -> Step {
        match c {
            '\\' => return self.escape(),
            '[' => self.class()?,
            '(' => return self.open_group(),
            ')' if self.depth == 0 => return Err(self.error("unexpected )")),
            ')' => {
                self.depth -= 1;
                self.out.push(')');
            }
            '|' => {
                self.out.push('|');
                self.before = Before::Nothing;
                return Ok(());
            }
            '*' | '+' | '?' => return self.repetition(&c.to_string()),
            '{' => match repeat(self.rest()) {
                Some(text) => {
                    self.at += text.len();
                    self.check_count(text)?;
                    return self.repetition(&format!("{{{text}"));
                }
                None => self.literal('{'),
            },
            '.' | '^' | '$' => self.out.push(c),
            _ => self.literal(c),
        }
        self.before = Before::Item;
        Ok(())
    }

    fn repetition(&mut self, operator: &str) -> Step {
        match self.before {
            Before::Nothing => return Err(self.error("missing argument to repetition operator")),
            Before::Repetition => return Err(self.error("invalid nested repetition operator")),
            Before::Item => {}
        }
        self.out.push_str(operator);
        if self.take("?") {
            self.out.push('?');
        }
        self.before = Before::Repetition;
        Ok(())
    }

    /// Both numbers of `n,m}` within bounds.
    fn check_count(&self, text: &str) -> Step {
        let mut previous = 0;
        for number in text
            .trim_end_matches('}')
            .split(',')
            .filter(|number| !number.is_empty())
        {
            // All digits; what does not fit is too large.
            let count = number.parse().unwrap_or(u32::MAX);
            if count > MAX_REPEAT || count < previous {
                return Err(self.error(&format!("invalid repeat count, limit is {MAX_REPEAT}")));
            }
            previous = count;
        }
        Ok(())
    }

    fn open_group(&mut self) -> Step {
        self.depth += 1;
        self.before = Before::Nothing;
        if !self.take("?") {
            self.out.push('(');
            return Ok(());
        }
        if self.take("P<") || self.take("<") {
            return self.group_name();
        }
        self.out.push_str("(?");
        loop {
            match self.bump() {
                Some(c @ ('i' | 'm' | 's' | 'U' | '-')) => self.out.push(c),
                Some(':') => {
                    self.out.push(':');
                    return Ok(());
                }
                Some(')') => {
                    self.depth -= 1;
                    self.out.push(')');
                    return Ok(());
                }
                Some(_) => return Err(self.error("invalid or unsupported group, known flags are i, m, s and U")),
                None => return Err(self.error("missing closing )")),
            }
        }
    }

    fn group_name(&mut self) -> Step {
        let Some((name, _)) = self.rest().split_once('>') else {
            return Err(self.error("group name has no closing >"));
        };
        let valid = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || !name.chars().all(valid) || name.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(self.error("invalid group name, expected letters, digits and _"));
        }
        self.at += name.len() + 1;
        self.out.push_str(&format!("(?P<{name}>"));
        Ok(())
    }

    /// An escape outside of a class.
    fn escape(&mut self) -> Step {
        match self.peek() {
            Some('Q') => {
                self.at += 1;
                return self.quoted();
            }
            Some(c @ ('A' | 'z' | 'b' | 'B' | 'd' | 'D' | 'w' | 'W')) => {
                self.at += 1;
                self.out.push('\\');
                self.out.push(c);
            }
            Some('s') => {
                self.at += 1;
                self.out.push_str(&format!("[{SPACES}]"));
            }
            Some('S') => {
                self.at += 1;
                self.out.push_str(&format!("[^{SPACES}]"));
            }
            _ => {
                let c = self.escaped_char()?;
                self.literal(c);
            }
        }
        self.before = Before::Item;
        Ok(())
    }

    /// `\Q...\E`: every character stands for itself; the end of the pattern ends it, too.
    fn quoted(&mut self) -> Step {
        while !self.take("\\E") {
            let Some(c) = self.bump() else {
                return Ok(());
            };
            self.literal(c);
            self.before = Before::Item;
        }
        Ok(())
    }

    /// The one character that the escape behind a backslash stands for.
    fn escaped_char(&mut self) -> Step<char> {
        let Some(c) = self.bump() else {
            return Err(self.error("trailing backslash"));
        };
        match c {
            'a' => Ok('\x07'),
            'f' => Ok('\x0c'),
            'n' => Ok('\n'),
            'r' => Ok('\r'),
            't' => Ok('\t'),
            'v' => Ok('\x0b'),
            'x' => self.hexadecimal(),
            '0'..='7' => self.octal(c),
            'p' | 'P' => Err(self.error("Unicode classes are not supported")),
            'C' => Err(self.error("\\C is not supported")),
            c if c.is_ascii() && !c.is_ascii_alphanumeric() => Ok(c),
            _ => Err(self.error("invalid escape sequence")),
        }
    }

    /// `\x7F` or `\x{10FFFF}`.
    fn hexadecimal(&mut self) -> Step<char> {
        let digits = if self.take("{") {
            let inside = self.rest().split_once('}').map_or("", |(digits, _)| digits);
            self.at += inside.len() + usize::from(!inside.is_empty());
            inside
        } else {
            let two = self.rest().get(..2).unwrap_or_default();
            self.at += two.len();
            two
        };
        // `from_str_radix` takes a sign, RE2 does not.
        let plain = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let code = u32::from_str_radix(digits, 16).ok().filter(|_| plain);
        code.and_then(char::from_u32)
            .ok_or_else(|| self.error("invalid hexadecimal escape"))
    }

    /// `\0`, `\01`, `\123`: at most three digits; one digit other than zero would be a back-reference.
    fn octal(&mut self, first: char) -> Step<char> {
        let digit = |c: Option<char>| c.and_then(|c| c.to_digit(8));
        if first != '0' && digit(self.peek()).is_none() {
            return Err(self.error("back-references are not supported"));
        }
        let mut code = digit(Some(first)).unwrap_or(0);
        for _ in 0..2 {
            let Some(next) = digit(self.peek()) else {
                break;
            };
            self.at += 1;
            code = code * 8 + next;
        }
        char::from_u32(code).ok_or_else(|| self.error("invalid octal escape"))
    }

    /// A class; its opening bracket has been taken.
    fn class(&mut self) -> Step {
        let open = self.error("missing closing ]");
        self.out.push('[');
        if self.take("^") {
            self.out.push('^');
        }
        let mut first = true;
        loop {
            match self.peek() {
                None => return Err(open),
                Some(']') if !first => break,
                Some('[') if self.rest().starts_with("[:") && self.rest().contains(":]") => self.named_class()?,
                Some('\\') if self.perl_class() => {}
                Some(_) => self.range(&open)?,
            }
            first = false;
        }
        self.at += 1;
        self.out.push(']');
        Ok(())
    }

    /// `[:alpha:]` or `[:^alpha:]`.
    fn named_class(&mut self) -> Step {
        let (text, _) = self.rest().split_once(":]").unwrap_or_default();
        let name = text.trim_start_matches("[:");
        if !CLASS_NAMES.contains(&name.strip_prefix('^').unwrap_or(name)) {
            self.at += 1;
            return Err(self.error(&format!("unknown character class [:{name}:]")));
        }
        self.at += text.len() + 2;
        self.out.push_str(&format!("{text}:]"));
        Ok(())
    }

    /// `\d`, `\s` and their like inside of a class; false when the escape is none of them.
    fn perl_class(&mut self) -> bool {
        let text = match self.rest().chars().nth(1) {
            Some('d') => r"\d",
            Some('D') => r"\D",
            Some('w') => r"\w",
            Some('W') => r"\W",
            Some('s') => SPACES,
            Some('S') => NOT_SPACES,
            _ => return false,
        };
        self.at += 2;
        self.out.push_str(text);
        true
    }

    /// One character of a class, or two with a dash between them.
    fn range(&mut self, open: &PatternError) -> Step {
        let low = self.class_char(open)?;
        self.class_literal(low);
        let mut ahead = self.rest().chars();
        if ahead.next() != Some('-') || matches!(ahead.next(), None | Some(']')) {
            return Ok(());
        }
        self.at += 1;
        let high = self.class_char(open)?;
        if high < low {
            return Err(self.error("invalid character class range"));
        }
        self.out.push('-');
        self.class_literal(high);
        Ok(())
    }

    fn class_char(&mut self, open: &PatternError) -> Step<char> {
        match self.bump() {
            Some('\\') => self.escaped_char(),
            Some(c) => Ok(c),
            None => Err(open.clone()),
        }
    }

    fn class_literal(&mut self, c: char) {
        // Every other punctuation character may be escaped, and some (`&`, `~`, `-`, `[`) must be.
        if c.is_ascii_punctuation() && c != '<' && c != '>' {
            self.out.push('\\');
        }
        self.out.push(c);
    }

    fn literal(&mut self, c: char) {
        if r"\.+*?()|[]{}^$".contains(c) {
            self.out.push('\\');
        }
        self.out.push(c);
    }

    /// regex-lite folds the case of ASCII letters only, so what else `(?i)` could apply to is refused.
    fn check_case_folding(&self) -> Step {
        let folds = self.pattern.match_indices("(?").any(|(at, _)| {
            let flags = self.pattern.get(at + 2..).unwrap_or_default();
            let end = flags.find([':', ')', '<']).unwrap_or(flags.len());
            flags.get(..end).is_some_and(|flags| flags.contains('i'))
        });
        match self.out.char_indices().find(|(_, c)| !c.is_ascii()) {
            Some((_, c)) if folds => Err(PatternError {
                column: 0,
                message: format!("(?i) together with the non-ASCII character {c:?} is not supported"),
            }),
            _ => Ok(()),
        }
    }
}

/// `n}`, `n,}` or `n,m}` at the front of `text`; anything else is no repetition, and its brace a literal.
fn repeat(text: &str) -> Option<&str> {
    let end = text.find('}')?;
    let inside = text.get(..end)?;
    let (low, high) = inside.split_once(',').unwrap_or((inside, ""));
    let is_number = |digits: &str| {
        !digits.is_empty()
            && digits.bytes().all(|byte| byte.is_ascii_digit())
            && (digits.len() == 1 || !digits.starts_with('0'))
    };
    (is_number(low) && (high.is_empty() || is_number(high))).then(|| text.get(..=end))?
}
