//! Files that are damaged, hostile, or in several parts.

use super::*;

#[test]
fn job_files_are_merged_and_blamed_by_their_own_name() {
    let dir = Dir::new("files");
    fs::create_dir_all(dir.0.join("d")).unwrap();
    dir.write(
        "d/1.yml",
        "scrape_configs:\n- job_name: x\n  basic_auth: {username: u, password_file: p}\n",
    );
    dir.write("d/2.yml", "scrape_configs:\n- job_name: y\n- job_name: a\n");
    let error = dir
        .load("scrape_config_files: ['d/*.yml']\nscrape_configs: [{job_name: a}]\n")
        .unwrap_err();
    assert!(
        error.to_string().ends_with(
            "d/2.yml:3:13: scrape_configs[1].job_name: found \"a\" a second time, expected a name that no other job has"
        ),
        "{error}"
    );
    let loaded = dir
        .load("scrape_config_files: ['d/1.yml']\nscrape_configs: [{job_name: a}]\n")
        .unwrap();
    let auth = loaded.config.scrape_configs[1].basic_auth.as_ref().unwrap();
    assert_eq!(auth.password_file, dir.0.join("d/p").to_str().unwrap());
    // A pattern that matches nothing is no error: the directory may be filled later.
    assert!(dir.load("scrape_config_files: ['d/*.json']\n").is_ok());
}

#[test]
fn unreadable_and_oversized_files_are_refused() {
    let dir = Dir::new("size");
    let error = Config::load(dir.0.join("none.yml").to_str().unwrap()).unwrap_err();
    assert!(error.to_string().contains("open: No such file"), "{error}");
    let comment = |n: usize| format!("#{}\n", "x".repeat(n - 2));
    assert!(dir.load(comment(MAX_CONFIG_BYTES)).is_ok());
    let error = dir.load(comment(MAX_CONFIG_BYTES + 1)).unwrap_err();
    assert!(
        error.to_string().ends_with("the file is larger than 262144 bytes"),
        "{error}"
    );
    let error = dir.load(b"global:\n  external_labels: {a: \xff}\n").unwrap_err();
    assert!(
        error.to_string().ends_with("tidegate.yml:2:24: not UTF-8 text"),
        "{error}"
    );
}

#[test]
fn bombs_are_refused_quickly() {
    let dir = Dir::new("bombs");
    let n = MAX_CONFIG_BYTES - 64;
    let laughs: String = (1..10)
        .map(|i| format!("k{i}: &k{i} [{}]\n", vec![format!("*k{}", i - 1); 9].join(",")))
        .collect();
    let bombs = [
        format!("k0: &k0 [lol]\n{laughs}"),
        "[".repeat(n),
        "{a: ".repeat(n / 4),
        "- ".repeat(n / 2),
        "? ".repeat(n / 2),
        format!(
            "global: {{external_labels: {{{}}}}}",
            (0..n / 10).map(|i| format!("k{i}: v,")).collect::<String>()
        ),
        format!("global:\n  external_labels:\n    {}: a", "k".repeat(n)),
        format!("runtime: \"{}", "\\n".repeat(n / 2)),
        format!("%TAG !a! {}\n--- 1", "t".repeat(n)),
        "---\n".repeat(n / 4),
        format!("rule: |\n{}", " \n".repeat(n / 2)),
        "\t".repeat(n),
        "a:\n".repeat(n / 3),
    ];
    for bomb in bombs {
        let start = std::time::Instant::now();
        let result = dir.load(&bomb);
        let took = start.elapsed();
        assert!(took.as_secs() < 10, "{took:?} for {:?}", bomb.get(..40));
        // Tabs alone are an empty file; all the others are refused, in a few words.
        match result {
            Ok(_) => assert!(bomb.trim().is_empty()),
            Err(error) => assert!(error.to_string().len() < 1_024, "{error:.200}"),
        }
    }
}

#[test]
fn arbitrary_bytes_never_panic() {
    let seeds = [
        fs::read_to_string(testdata("gateway.yml")).unwrap(),
        fs::read_to_string(testdata("bad.txt")).unwrap(),
    ];
    let mut rng = fastrand::Rng::with_seed(7);
    let mut refused = 0;
    for round in 0..4_000 {
        let mut bytes = if round % 4 == 0 {
            let alphabet = b"a:-? \n\t{}[],&*!|>'\"%@`#\\0\xc3\xa9";
            (0..rng.usize(..200))
                .map(|_| alphabet[rng.usize(..alphabet.len())])
                .collect()
        } else {
            let seed = seeds[round % 2].as_bytes();
            let from = rng.usize(..seed.len());
            seed[from..seed.len().min(from + rng.usize(..2_000))].to_vec()
        };
        for _ in 0..rng.usize(..6) {
            if bytes.is_empty() {
                break;
            }
            let at = rng.usize(..bytes.len());
            match rng.u8(..3) {
                0 => bytes[at] = rng.u8(..),
                1 => bytes.insert(at, b" \n:-[]{}\t\"'"[rng.usize(..11)]),
                _ => drop(bytes.remove(at)),
            }
        }
        // Bytes that are no text end before the parser; they are tested with real files.
        let text = String::from_utf8_lossy(&bytes);
        match Config::from_text(&text, "/nowhere/tidegate.yml") {
            Ok(loaded) => {
                drop(loaded.config.expand());
                let dump = yaml(&loaded.config);
                assert!(Config::from_text(&dump, "/nowhere/tidegate.yml").is_ok(), "{dump}");
            }
            Err(error) => {
                refused += 1;
                assert!(!error.to_string().is_empty());
            }
        }
    }
    assert!(refused > 1_000, "{refused}");
}
