//! Keys of an AWS account: given, in the environment, or in a profile of the shared files.
//!
//! The order is that of AWS' own programs: keys of the configuration; the profile that the configuration names; the environment
//! (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`); the profile named by `AWS_PROFILE`, or `default`. A profile is
//! looked up in `~/.aws/credentials` and then in `~/.aws/config`, or where `AWS_SHARED_CREDENTIALS_FILE` and `AWS_CONFIG_FILE` say. The region
//! likewise, from the configuration, `AWS_REGION`, `AWS_DEFAULT_REGION` or the profile.
//!
//! Not done: roles, single sign-on, programs that print keys, keys of the machine (EC2, ECS). A profile that needs one of
//! them is named in the error: each of them asks a further service before anything is sent.
//!
//! Files are read anew for every request, at most [`PROFILES_BYTES`] of each; any content gives keys or an error.
//!
//! Sources: the AWS SDKs and tools reference guide, "Shared config and credentials files".

use alloc::format;
use alloc::string::{String, ToString as _};
use core::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::auth::Secret;
use super::error::HttpError;

/// Bytes read of a file of profiles.
pub const PROFILES_BYTES: usize = 16 * 1024;

/// Keys of a profile that ask for what is not done.
const NOT_DONE: [&str; 7] = [
    "role_arn",
    "credential_process",
    "credential_source",
    "source_profile",
    "sso_session",
    "sso_start_url",
    "web_identity_token_file",
];

/// Where the keys of an account are.
#[derive(Clone, Debug)]
pub enum AwsKeys {
    /// In the configuration.
    Inline {
        /// `access_key`.
        access_key: String,
        /// `secret_key`, or the file that holds it.
        secret_key: Secret,
    },
    /// Where AWS' own programs look.
    Shared {
        /// `profile`; without one the environment comes first.
        profile: Option<String>,
    },
}

/// Why a request cannot be signed.
#[derive(Debug)]
#[non_exhaustive]
pub enum SignError {
    /// The wall time is not known or not believed.
    ClockUnknown,
    /// Neither configuration nor environment nor profile name a region.
    NoRegion,
    /// No keys in the environment, and the profile has none.
    NoKeys {
        /// The profile.
        profile: String,
        /// Where it was looked for.
        file: PathBuf,
        /// What it has instead.
        instead: Option<&'static str>,
    },
    /// The keys found there cannot be sent in a header.
    Keys(String),
    /// A file cannot be read.
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        error: String,
    },
}

impl fmt::Display for SignError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sign request: ")?;
        match self {
            Self::ClockUnknown => f.write_str("the clock is not set"),
            Self::NoRegion => f.write_str("no region: set sigv4.region or AWS_REGION"),
            Self::NoKeys { profile, file, instead } => {
                write!(
                    f,
                    "no keys in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY nor in profile {profile:?} of {}",
                    file.display()
                )?;
                match instead {
                    Some(key) => write!(
                        f,
                        ", which has {key}: expected aws_access_key_id and aws_secret_access_key"
                    ),
                    None => Ok(()),
                }
            }
            Self::Keys(origin) => write!(f, "keys from {origin} have a byte that a header does not allow"),
            Self::File { path, error } => write!(f, "read {}: {error}", path.display()),
        }
    }
}

impl core::error::Error for SignError {}

/// Keys for one request.
pub(super) struct Keys {
    pub(super) access: Zeroizing<String>,
    pub(super) secret: Zeroizing<String>,
    pub(super) token: Option<Zeroizing<String>>,
    pub(super) region: String,
    /// Where the keys are from, for the operator.
    pub(super) origin: String,
}

/// Environment variables.
pub(super) struct Environment<'a>(&'a dyn Fn(&str) -> Option<String>);

impl Environment<'_> {
    pub(super) fn of_process() -> Self {
        Self(&|name| std::env::var(name).ok())
    }

    fn get(&self, name: &str) -> Option<String> {
        (self.0)(name).filter(|value| !value.is_empty())
    }

    /// Where the credentials and the configuration file are.
    fn files(&self) -> [PathBuf; 2] {
        let home = self.get("HOME").unwrap_or_default();
        let file = |name: &str, usual: &str| {
            self.get(name)
                .map_or_else(|| Path::new(&home).join(usual), PathBuf::from)
        };
        [
            file("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials"),
            file("AWS_CONFIG_FILE", ".aws/config"),
        ]
    }
}

impl AwsKeys {
    /// The keys as of now. `region` is the configured one, or empty.
    pub(super) fn read(&self, region: &str, environment: &Environment<'_>) -> Result<Keys, SignError> {
        let mut keys = match self {
            Self::Inline { access_key, secret_key } => Keys {
                access: Zeroizing::new(access_key.clone()),
                secret: secret_key.read().map_err(secret_error)?,
                token: None,
                region: String::new(),
                origin: "the configuration".into(),
            },
            Self::Shared { profile: None } => match from_environment(environment) {
                Some(keys) => keys,
                None => from_profile(None, environment)?,
            },
            Self::Shared { profile } => from_profile(profile.as_deref(), environment)?,
        };
        let given = (!region.is_empty()).then(|| region.to_string());
        let found = given
            .or_else(|| environment.get("AWS_REGION"))
            .or_else(|| environment.get("AWS_DEFAULT_REGION"))
            .or_else(|| (!keys.region.is_empty()).then(|| core::mem::take(&mut keys.region)))
            // Keys from elsewhere, and yet a profile with a region.
            .or_else(|| profile(&profile_name(None, environment), environment).ok()?.region);
        keys.region = found.ok_or(SignError::NoRegion)?;
        Ok(keys)
    }
}

fn secret_error(error: HttpError) -> SignError {
    match error {
        HttpError::Secret { path, error } => SignError::File {
            path,
            error: error.to_string(),
        },
        // A secret fails in no other way.
        other => SignError::Keys(other.to_string()),
    }
}

fn from_environment(environment: &Environment<'_>) -> Option<Keys> {
    Some(Keys {
        access: Zeroizing::new(environment.get("AWS_ACCESS_KEY_ID")?),
        secret: Zeroizing::new(environment.get("AWS_SECRET_ACCESS_KEY")?),
        token: environment.get("AWS_SESSION_TOKEN").map(Zeroizing::new),
        region: String::new(),
        origin: "the environment".into(),
    })
}

fn profile_name(configured: Option<&str>, environment: &Environment<'_>) -> String {
    let named = configured.map(String::from).or_else(|| environment.get("AWS_PROFILE"));
    named.unwrap_or_else(|| "default".into())
}

fn from_profile(configured: Option<&str>, environment: &Environment<'_>) -> Result<Keys, SignError> {
    let name = profile_name(configured, environment);
    let found = profile(&name, environment)?;
    let [file, _] = environment.files();
    match (found.access, found.secret) {
        (Some(access), Some(secret)) => Ok(Keys {
            access,
            secret,
            token: found.token,
            region: found.region.unwrap_or_default(),
            origin: format!("profile {name:?}"),
        }),
        _ => Err(SignError::NoKeys {
            profile: name,
            file,
            instead: found.not_done,
        }),
    }
}

/// What the shared files say of one profile.
#[derive(Default)]
struct Profile {
    access: Option<Zeroizing<String>>,
    secret: Option<Zeroizing<String>>,
    token: Option<Zeroizing<String>>,
    region: Option<String>,
    not_done: Option<&'static str>,
}

fn profile(name: &str, environment: &Environment<'_>) -> Result<Profile, SignError> {
    let mut found = Profile::default();
    for path in environment.files() {
        match read(&path) {
            Ok(text) => found.add(name, &text),
            // Either of the two may be missing.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(SignError::File {
                    path,
                    error: error.to_string(),
                });
            }
        }
    }
    Ok(found)
}

fn read(path: &Path) -> io::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::new());
    File::open(path)?
        .take(PROFILES_BYTES as u64 + 1)
        .read_to_string(&mut text)?;
    if text.len() > PROFILES_BYTES {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            "file is longer than 16384 bytes",
        ));
    }
    Ok(text)
}

impl Profile {
    /// Adds what a file says and an earlier one did not.
    fn add(&mut self, name: &str, text: &str) {
        let mut inside = false;
        for line in text.lines() {
            // What is indented belongs to the setting above.
            let setting = line.trim_end();
            if setting.starts_with(['#', ';', ' ', '\t']) {
                continue;
            }
            if let Some(section) = setting.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
                // The configuration file writes `[profile name]`, the other one `[name]`.
                let section = section.trim();
                let short = section
                    .strip_prefix("profile")
                    .filter(|rest| rest.starts_with([' ', '\t']));
                inside = short.map_or(section, str::trim) == name;
                continue;
            }
            if let (true, Some((key, value))) = (inside, setting.split_once('=')) {
                self.set(key.trim(), value.trim());
            }
        }
    }

    fn set(&mut self, key: &str, value: &str) {
        let secret = |place: &mut Option<Zeroizing<String>>| {
            place.get_or_insert_with(|| Zeroizing::new(value.into()));
        };
        match key {
            _ if value.is_empty() => {}
            "aws_access_key_id" => secret(&mut self.access),
            "aws_secret_access_key" => secret(&mut self.secret),
            "aws_session_token" => secret(&mut self.token),
            "region" => {
                self.region.get_or_insert_with(|| value.into());
            }
            _ => {
                let known = NOT_DONE.iter().find(|known| **known == key);
                self.not_done = self.not_done.or(known.copied());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CREDENTIALS: &str = "# comment\n[default]\naws_access_key_id = AKDEFAULT\naws_secret_access_key=s/e+c==\n\n\
        [site]\r\naws_access_key_id=AKSITE\r\naws_secret_access_key = two\r\naws_session_token = tok\r\n[empty]\n[role]\nrole_arn = arn:x\n";
    const CONFIG: &str = "[default]\nregion = eu-west-1\ns3 =\n  region = not-this\n[profile site]\nregion=us-east-2\n[profile process]\ncredential_process = /bin/x\n";

    struct Files(PathBuf);

    impl Files {
        fn new(name: &str) -> Self {
            let files = Self(std::env::temp_dir().join(format!("tidegate-aws-{name}-{}", std::process::id())));
            std::fs::create_dir_all(files.0.join(".aws")).expect("temp directory");
            std::fs::write(files.0.join(".aws/credentials"), CREDENTIALS).expect("written");
            std::fs::write(files.0.join(".aws/config"), CONFIG).expect("written");
            files
        }

        fn read(&self, keys: &AwsKeys, region: &str, variables: &[(&str, &str)]) -> Result<Keys, SignError> {
            let home = self.0.display().to_string();
            let get = |name: &str| match name {
                "HOME" => Some(home.clone()),
                _ => {
                    let found = variables.iter().find(|(variable, _)| *variable == name);
                    found.map(|(_, value)| String::from(*value))
                }
            };
            keys.read(region, &Environment(&get))
        }
    }

    impl Drop for Files {
        fn drop(&mut self) {
            // Left behind where it cannot be removed; it holds nothing secret.
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    type Seen = (String, String, Option<String>, String);

    fn seen(keys: Result<Keys, SignError>) -> Result<Seen, String> {
        let owned = |text: Zeroizing<String>| text.as_str().to_owned();
        keys.map(|k| (owned(k.access), owned(k.secret), k.token.map(owned), k.region))
            .map_err(|error| error.to_string())
    }

    fn four(access: &str, secret: &str, token: Option<&str>, region: &str) -> Result<Seen, String> {
        Ok((access.into(), secret.into(), token.map(Into::into), region.into()))
    }

    #[test]
    fn keys_come_in_the_order_of_the_aws_programs() {
        let files = Files::new("order");
        let any = AwsKeys::Shared { profile: None };
        let named = |name: &str| AwsKeys::Shared {
            profile: Some(name.into()),
        };
        let env = [
            ("AWS_ACCESS_KEY_ID", "AKENV"),
            ("AWS_SECRET_ACCESS_KEY", "three"),
            ("AWS_REGION", "ap-south-1"),
        ];
        let all = [env[0], env[1], env[2], ("AWS_SESSION_TOKEN", "t")];
        assert_eq!(
            seen(files.read(&any, "", &[])),
            four("AKDEFAULT", "s/e+c==", None, "eu-west-1")
        );
        assert_eq!(
            seen(files.read(&any, "", &env)),
            four("AKENV", "three", None, "ap-south-1")
        );
        assert_eq!(
            seen(files.read(&any, "given", &all)),
            four("AKENV", "three", Some("t"), "given")
        );
        assert_eq!(
            seen(files.read(&named("site"), "", &[])),
            four("AKSITE", "two", Some("tok"), "us-east-2")
        );
        // A profile of the configuration comes before the environment, one of the environment after it.
        assert_eq!(
            seen(files.read(&named("site"), "x", &env)),
            four("AKSITE", "two", Some("tok"), "x")
        );
        let profile = [("AWS_PROFILE", "site")];
        assert_eq!(
            seen(files.read(&any, "", &profile)),
            four("AKSITE", "two", Some("tok"), "us-east-2")
        );
        let inline = AwsKeys::Inline {
            access_key: "AKMINE".into(),
            secret_key: Secret::inline("mine"),
        };
        assert_eq!(
            seen(files.read(&inline, "", &all)),
            four("AKMINE", "mine", None, "ap-south-1")
        );
        assert_eq!(
            seen(files.read(&inline, "", &[])),
            four("AKMINE", "mine", None, "eu-west-1")
        );
    }

    #[test]
    fn what_is_missing_is_named() {
        let files = Files::new("missing");
        let why = |profile: &str, region: &str| {
            let keys = AwsKeys::Shared {
                profile: Some(profile.into()),
            };
            seen(files.read(&keys, region, &[])).expect_err("no keys")
        };
        let file = files.0.join(".aws/credentials").display().to_string();
        let none = "sign request: no keys in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY nor in profile";
        let expected = "expected aws_access_key_id and aws_secret_access_key";
        assert_eq!(why("empty", "r"), format!("{none} \"empty\" of {file}"));
        assert_eq!(
            why("role", "r"),
            format!("{none} \"role\" of {file}, which has role_arn: {expected}")
        );
        assert_eq!(
            why("process", "r"),
            format!("{none} \"process\" of {file}, which has credential_process: {expected}")
        );
        let inline = AwsKeys::Inline {
            access_key: "a".into(),
            secret_key: Secret::File("/nonexistent/secret".into()),
        };
        let error = seen(files.read(&inline, "r", &[])).expect_err("no file");
        assert!(error.starts_with("sign request: read /nonexistent/secret: "), "{error}");
        std::fs::write(files.0.join(".aws/config"), "").expect("written");
        let no_region = seen(files.read(&AwsKeys::Shared { profile: None }, "", &[]));
        assert_eq!(
            no_region,
            Err("sign request: no region: set sigv4.region or AWS_REGION".into())
        );
        std::fs::write(files.0.join(".aws/credentials"), [b'#'; PROFILES_BYTES + 1]).expect("written");
        assert!(why("site", "r").ends_with("file is longer than 16384 bytes"));
    }
}
