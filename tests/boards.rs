//! Every board: its folder is whole, its configuration is one that `check` takes, and both keep the board's budgets.

mod common;

use common::agent::run;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Each README has these, in this order.
const HEADINGS: [&str; 6] = [
    "## Hardware",
    "## Build",
    "## Install",
    "## Storage layout",
    "## Measured sizes",
    "## Known problems",
];

/// What a board may have beside: the features it is built with.
const FEATURES: &str = "build.features";

/// Each `board.toml` has these and no others.
const KEYS: [&str; 12] = [
    "budget.file_bytes",
    "budget.flash_bytes",
    "budget.plan_bytes",
    "budget.rss_bytes",
    "build.cpu",
    "build.libc",
    "build.target",
    "package.deb",
    "package.memory_max",
    "storage.erase_bytes",
    "storage.kind",
    "storage.medium",
];

/// A folder of `boards/`.
struct Board {
    name: String,
    folder: PathBuf,
    /// `table.key` to the text of its value, without quotes.
    manifest: BTreeMap<String, String>,
}

impl Board {
    fn read(folder: PathBuf) -> Self {
        let name = folder.file_name().expect("a folder").to_string_lossy().into_owned();
        let text = std::fs::read_to_string(folder.join("board.toml"))
            .unwrap_or_else(|error| panic!("boards/{name}/board.toml: {error}"));
        let mut manifest = BTreeMap::new();
        let mut table = String::new();
        for line in text.lines() {
            let line = line.split(" #").next().unwrap_or("").trim();
            if let Some(inner) = line.strip_prefix('[') {
                table = inner.trim_end_matches(']').to_owned();
            } else if let Some((key, value)) = line.split_once('=').filter(|_| !line.starts_with('#')) {
                let value = value.trim().trim_matches('"').to_owned();
                manifest.insert(format!("{table}.{}", key.trim()), value);
            }
        }
        Self { name, folder, manifest }
    }

    fn text(&self, key: &str) -> &str {
        let found = self.manifest.get(key);
        found.unwrap_or_else(|| panic!("boards/{}/board.toml: {key} is missing", self.name))
    }

    fn bytes(&self, key: &str) -> u64 {
        let text = self.text(key).replace('_', "");
        text.parse()
            .unwrap_or_else(|_| panic!("boards/{}/board.toml: {key} is {text:?}, no number", self.name))
    }

    fn file(&self, file: &str) -> String {
        std::fs::read_to_string(self.folder.join(file))
            .unwrap_or_else(|error| panic!("boards/{}/{file}: {error}", self.name))
    }

    /// What `check` says about the configuration.
    fn check(&self) -> String {
        let output = run(&["check", "--config", &self.folder.join("tidegate.yml").to_string_lossy()]);
        let out = String::from_utf8_lossy(&output.stdout).into_owned();
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{}: {out}{err}", self.name);
        out
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn boards() -> Vec<Board> {
    let mut boards: Vec<Board> = std::fs::read_dir(root().join("boards"))
        .expect("boards/ is there")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.is_dir() && !path.ends_with("common"))
        .map(Board::read)
        .collect();
    boards.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(boards.len() >= 8, "only {} boards", boards.len());
    boards
}

/// `64MiB`, `4MiB`: the words of `check`.
fn size(text: &str) -> u64 {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let scale = match &text[digits.len()..] {
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        unit => panic!("unit {unit:?} in {text}"),
    };
    digits.parse::<u64>().expect("a number") << scale
}

#[test]
fn every_folder_is_whole_and_listed() {
    let listed = std::fs::read_to_string(root().join("boards/README.md")).expect("there");
    let cross = std::fs::read_to_string(root().join("cross/README.md")).expect("there");
    let containers = std::fs::read_to_string(root().join("cross/Cross.toml")).expect("there");
    for board in boards() {
        let keys = board.manifest.keys().map(String::as_str);
        let keys: Vec<&str> = keys.filter(|key| *key != FEATURES).collect();
        assert_eq!(keys, KEYS, "boards/{}/board.toml", board.name);
        let readme = board.file("README.md");
        let headings: Vec<&str> = readme.lines().filter(|line| line.starts_with("## ")).collect();
        assert_eq!(headings, HEADINGS, "boards/{}/README.md", board.name);
        assert!(readme.starts_with(&format!("# {}\n", board.name)), "{}", board.name);
        let row = format!("| [{0}]({0}/README.md)", board.name);
        let row = listed.lines().find(|line| line.starts_with(&row));
        let row = row.unwrap_or_else(|| panic!("boards/README.md does not list {}", board.name));
        assert!(row.contains(board.text("build.target")), "{row}");
        let row = format!("| {} |", board.text("build.target"));
        let row = cross.lines().find(|line| line.starts_with(&row)).unwrap_or_default();
        assert!(
            row.contains(&board.name),
            "cross/README.md does not name {}",
            board.name
        );
        let table = format!("[target.{}]\n", board.text("build.target"));
        assert!(containers.contains(&table), "cross/Cross.toml has no {table}");
    }
}

/// The words of a list in one line: `["a", "b"]`.
fn words(list: &str) -> Vec<&str> {
    let inner = list.trim().trim_start_matches('[').trim_end_matches(']');
    let words = inner.split(',').map(|word| word.trim().trim_matches('"'));
    words.filter(|word| !word.is_empty()).collect()
}

#[test]
fn a_board_that_leaves_features_out_names_those_it_has() {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).expect("there");
    let default = manifest.lines().find_map(|line| line.strip_prefix("default = "));
    let default = words(default.expect("a list of default features"));
    let mut leaner = 0;
    for board in boards() {
        let Some(features) = board.manifest.get(FEATURES) else {
            continue;
        };
        let features = words(features);
        for feature in &features {
            assert!(
                default.contains(feature) && *feature != "host",
                "boards/{}/board.toml: {feature:?} is no feature to choose, expected some of {default:?}",
                board.name
            );
        }
        let left_out = default
            .iter()
            .filter(|name| **name != "host" && !features.contains(name));
        let readme = board.file("README.md");
        for feature in left_out {
            assert!(
                readme.contains(&format!("`{feature}`")),
                "boards/{}/README.md does not say that it leaves out {feature}",
                board.name
            );
            leaner += 1;
        }
    }
    assert!(leaner > 0, "no board leaves anything out");
}

#[test]
fn every_configuration_is_valid_and_inside_its_memory_and_flash_budget() {
    for board in boards() {
        let said = board.check();
        assert!(!said.contains("warning"), "{}: {said}", board.name);
        let total = said.lines().find(|line| line.contains("  total")).expect("a sum");
        let total: u64 = total
            .split_whitespace()
            .next()
            .and_then(|n| n.parse().ok())
            .expect("bytes");
        let budget = board.bytes("budget.plan_bytes");
        assert!(total <= budget, "{}: plan {total} bytes, budget {budget}", board.name);
        let ring = said.lines().find(|line| line.starts_with("Ring ")).expect("a ring");
        let (path, rest) = ring["Ring ".len()..].split_once(": ").expect("path and sizes");
        let sizes: Vec<&str> = rest.split(", ").collect();
        let flash = board.bytes("budget.flash_bytes");
        assert_eq!(
            size(sizes[0]),
            flash,
            "{}: ring.size and budget.flash_bytes",
            board.name
        );
        let segment = size(sizes[1].trim_start_matches("segments of "));
        let erase = board.bytes("storage.erase_bytes");
        assert_eq!(segment % erase, 0, "{}: {segment} and {erase}", board.name);
        let kind = match path {
            _ if path.starts_with("/dev/mtd") => "mtd",
            _ if path.starts_with("/dev/") => "block",
            _ => "file",
        };
        assert_eq!(board.text("storage.kind"), kind, "{}: {path}", board.name);
        // The service is killed above this: the plan, the program's own pages and the kernel's share must have room.
        let limit = board.text("package.memory_max");
        let limit = size(&limit.replace('M', "MiB"));
        let needed = budget + board.bytes("budget.file_bytes");
        assert!(
            limit >= 2 * needed,
            "{}: memory_max {limit}, needed {needed}",
            board.name
        );
    }
}

#[test]
fn what_a_board_runs_as_is_scrapes_a_node_exporter_and_the_agent_itself() {
    for board in boards() {
        let said = board.check();
        for target in [
            "  http://127.0.0.1:9100/metrics  every ",
            "  http://self/metrics  every ",
        ] {
            assert!(said.contains(target), "{}: {target} in {said}", board.name);
        }
    }
}

/// Built ones only: a cross build belongs to `scripts/build`, which fails over the budget by itself.
#[test]
fn binaries_that_are_built_are_for_their_board() {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    for board in boards() {
        let Ok(binary) = std::fs::read(target.join("boards").join(&board.name).join("tidegate")) else {
            eprintln!("{}: not built", board.name);
            continue;
        };
        let machine = match board.text("build.target").split('-').next() {
            Some("aarch64") => 183,
            Some("arm" | "armv7") => 40,
            Some("riscv64gc") => 243,
            Some("x86_64") => 62,
            other => panic!("{}: architecture {other:?} is not known here", board.name),
        };
        assert_eq!(&binary[..4], b"\x7fELF", "{}", board.name);
        assert_eq!(u16::from_le_bytes([binary[18], binary[19]]), machine, "{}", board.name);
        let budget = board.bytes("budget.file_bytes");
        if binary.len() as u64 > budget {
            eprintln!("{}: {} bytes, budget {budget}", board.name, binary.len());
        }
    }
}

/// Every `name = "..."` of the command line and every field of its structures, as it is typed.
fn words_of_the_command_line() -> Vec<String> {
    let read = |file: &str| std::fs::read_to_string(root().join("src/host/cli").join(file)).expect("there");
    let source = [read("args/tools.rs"), read("args.rs")].concat();
    let source = source.split("#[cfg(test)]").next().expect("the first part");
    let mut words = Vec::new();
    for line in source.lines().map(str::trim) {
        if let Some((_, name)) = line.split_once("subcommand, name = \"") {
            words.push(name.split('"').next().expect("a name").to_owned());
        } else if let Some((field, _)) = line.strip_prefix("pub ").and_then(|line| line.split_once(": "))
            && !["path", "command"].contains(&field)
            && !field.contains(' ')
        {
            words.push(format!("--{}", field.replace('_', "-")));
        }
    }
    assert!(words.len() > 25, "{words:?}");
    words
}

/// Every key that the configuration's structures have.
fn keys_of_the_configuration() -> Vec<String> {
    let mut keys = Vec::new();
    for file in ["mod.rs", "global.rs", "scrape.rs", "http.rs", "remote.rs", "own.rs"] {
        let source = std::fs::read_to_string(root().join("src/host/config").join(file)).expect("there");
        // Structs declared with `record!`: their fields are the keys, down to `not read`.
        let mut inside = false;
        for line in source.lines() {
            if line.starts_with("    pub struct ") {
                inside = true;
            } else if line == "    }" {
                inside = false;
            } else if let Some((key, _)) = line.strip_prefix("        pub ").and_then(|line| line.split_once(": "))
                && inside
            {
                keys.push(key.trim_start_matches("r#").to_owned());
            }
        }
    }
    keys.sort();
    keys.dedup();
    assert!(keys.len() > 100, "{keys:?}");
    keys
}

/// The page's words, with roff's escaped dashes undone.
fn words_of_page(page: &str) -> Vec<String> {
    let text = std::fs::read_to_string(root().join("boards/common/man").join(page)).expect("there");
    let text = text.replace("\\-", "-").replace("\\fR", " ");
    text.split(|c: char| !(c.is_ascii_alphanumeric() || "_-".contains(c)))
        .map(|word| word.trim_end_matches('-').to_owned())
        .collect()
}

#[test]
fn manual_pages_name_every_subcommand_option_and_key() {
    let page = words_of_page("tidegate.8");
    for word in words_of_the_command_line() {
        assert!(page.contains(&word), "tidegate.8 does not name {word}");
    }
    let page = words_of_page("tidegate.yml.5");
    for key in keys_of_the_configuration() {
        assert!(page.contains(&key), "tidegate.yml.5 does not name {key}");
    }
    let words = words_of_page("tidegate.8");
    for code in ["0", "1", "2", "3"] {
        assert!(
            words.iter().any(|word| word == code),
            "tidegate.8 does not name exit code {code}"
        );
    }
}
