//! Credentials of a request, and where they come from.

use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use ureq_proto::http::HeaderValue;
use zeroize::Zeroizing;

use super::error::HttpError;
use super::oauth2::TokenSource;
#[cfg(feature = "sigv4")]
use super::sigv4::Signer;
use crate::host::limits::SECRET_BYTES;

/// A text that must not be shown: inline, or in a file that is read anew for every request.
#[derive(Clone)]
pub enum Secret {
    /// From the configuration itself.
    Inline(Zeroizing<String>),
    /// Path of a file; white space around its content is dropped.
    File(PathBuf),
}

impl core::fmt::Debug for Secret {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Inline(_) => f.write_str("<secret>"),
            Self::File(path) => write!(f, "<secret file {}>", path.display()),
        }
    }
}

impl Secret {
    /// An inline secret.
    #[must_use]
    pub fn inline(text: &str) -> Self {
        Self::Inline(Zeroizing::new(text.into()))
    }

    /// The text as of now.
    ///
    /// # Errors
    ///
    /// [`HttpError::Secret`] when the file cannot be read, is longer than [`SECRET_BYTES`] or is not UTF-8.
    pub(super) fn read(&self) -> Result<Zeroizing<String>, HttpError> {
        match self {
            Self::Inline(text) => Ok(text.clone()),
            Self::File(path) => read_trimmed(path).map_err(|error| HttpError::Secret {
                path: path.clone(),
                error,
            }),
        }
    }
}

fn read_trimmed(path: &PathBuf) -> io::Result<Zeroizing<String>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(SECRET_BYTES + 1));
    // One byte more than allowed tells a file that is too long.
    File::open(path)?
        .take(SECRET_BYTES as u64 + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() > SECRET_BYTES {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            "secret is longer than 6144 bytes",
        ));
    }
    let text = core::str::from_utf8(&bytes).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    Ok(Zeroizing::new(text.trim().into()))
}

/// How a request is authorised.
#[derive(Clone, Debug, Default)]
pub enum Authorization {
    /// Not at all.
    #[default]
    None,
    /// HTTP basic authentication.
    Basic {
        /// User name.
        user: Secret,
        /// Password; none is the empty password.
        password: Option<Secret>,
    },
    /// `Authorization: <scheme> <credentials>`.
    Scheme {
        /// The scheme, `Bearer` unless configured otherwise.
        name: String,
        /// The credentials.
        credentials: Secret,
    },
    /// The access token of an OAuth 2.0 client.
    Token(Rc<TokenSource>),
    /// A signature of the whole request.
    #[cfg(feature = "sigv4")]
    Signed(Rc<Signer>),
}

impl Authorization {
    /// `Authorization: Bearer <token>`.
    #[must_use]
    pub fn bearer(token: Secret) -> Self {
        Self::Scheme {
            name: "Bearer".into(),
            credentials: token,
        }
    }

    /// Basic authentication with inline values, as from a URL.
    #[must_use]
    pub fn basic(user: &str, password: &str) -> Self {
        Self::Basic {
            user: Secret::inline(user),
            password: Some(Secret::inline(password)),
        }
    }

    /// The header value for the next request; files are read here.
    pub(crate) fn header(&self) -> Result<Option<HeaderValue>, HttpError> {
        let text = match self {
            Self::None => return Ok(None),
            // Added once the request is complete.
            #[cfg(feature = "sigv4")]
            Self::Signed(_) => return Ok(None),
            // The request has seen to it that there is one.
            Self::Token(source) => return Ok(source.header()),
            Self::Basic { user, password } => {
                let password = password.as_ref().map(Secret::read).transpose()?;
                let user = user.read()?;
                let pair = Zeroizing::new([user.as_str(), ":", password.as_ref().map_or("", |text| text)].concat());
                Zeroizing::new(["Basic ", base64(pair.as_bytes()).as_str()].concat())
            }
            Self::Scheme { name, credentials } => Zeroizing::new([name.as_str(), " ", &credentials.read()?].concat()),
        };
        header_value(&text).map(Some)
    }
}

/// A header value that http's own debug output hides.
pub(super) fn header_value(text: &str) -> Result<HeaderValue, HttpError> {
    let mut value = HeaderValue::from_str(text).map_err(|_| HttpError::BadHeader)?;
    value.set_sensitive(true);
    Ok(value)
}

/// Base64 with padding (RFC 4648, section 4).
fn base64(bytes: &[u8]) -> Zeroizing<String> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = Zeroizing::new(String::with_capacity(bytes.len().div_ceil(3) * 4));
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            // Six bits index a table of 64.
            let symbol = ALPHABET[(bits >> (18 - 6 * place)) as usize & 63];
            out.push(if place <= group.len() { char::from(symbol) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_matches_rfc_4648() {
        for (plain, coded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(plain.as_bytes()).as_str(), coded);
        }
    }

    #[test]
    fn headers_are_built_from_inline_values() {
        let basic = Authorization::basic("Aladdin", "open sesame")
            .header()
            .expect("valid")
            .expect("some");
        assert_eq!(basic.as_bytes(), b"Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        let bearer = Authorization::bearer(Secret::inline("t0ken"))
            .header()
            .expect("valid")
            .expect("some");
        assert_eq!(bearer.as_bytes(), b"Bearer t0ken");
        assert!(bearer.is_sensitive());
        assert!(matches!(
            Authorization::bearer(Secret::inline("a\nb")).header(),
            Err(HttpError::BadHeader)
        ));
    }

    #[test]
    fn secret_files_are_read_again_trimmed_and_bounded() {
        let path = std::env::temp_dir().join(format!("tidegate-secret-{}", std::process::id()));
        let secret = Secret::File(path.clone());
        std::fs::write(&path, " first \n").expect("temp file");
        assert_eq!(secret.read().expect("readable").as_str(), "first");
        std::fs::write(&path, "second").expect("temp file");
        assert_eq!(secret.read().expect("readable").as_str(), "second");
        std::fs::write(&path, [b'x'; SECRET_BYTES + 1]).expect("temp file");
        assert!(matches!(secret.read(), Err(HttpError::Secret { .. })));
        std::fs::remove_file(&path).expect("temp file");
        let missing = secret.read().expect_err("gone").to_string();
        assert!(missing.contains("tidegate-secret-"), "{missing}");
    }

    #[test]
    fn debug_output_hides_secrets() {
        let shown = format!("{:?}", Authorization::basic("joe", "hunter2"));
        assert!(!shown.contains("joe") && !shown.contains("hunter2"), "{shown}");
    }
}
