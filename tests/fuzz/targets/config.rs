//! Configuration texts.
//!
//! Promised: loading ends with a configuration or an error that names a place; what is printed of a loaded one loads
//! again and prints the same.

use tidegate::host::config::Config;

/// The input is the text. Files it would include are not read: the fuzzer's machine is no test data.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let reads_files = ["scrape_config_files", "file_sd_configs", "\\x", "\\u", "\\U"];
    if reads_files.iter().any(|key| text.contains(key)) {
        return;
    }
    let path = "/nonexistent/tidegate.yml";
    let loaded = match Config::from_text(text, path) {
        Ok(loaded) => loaded,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    let mut printed = String::new();
    loaded.config.write_yaml(&mut printed).expect("a string takes anything");
    let again = Config::from_text(&printed, path);
    let again = again.unwrap_or_else(|error| panic!("what was printed does not load: {error}\n{printed}"));
    let mut twice = String::new();
    again.config.write_yaml(&mut twice).expect("a string takes anything");
    assert_eq!(printed, twice);
}
