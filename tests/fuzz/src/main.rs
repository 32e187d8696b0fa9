//! The fuzzer: libFuzzer around the target named by `TIDEGATE_FUZZ_TARGET`. Built and run by scripts/fuzz.
#![no_main]

#[path = "../targets/mod.rs"]
mod targets;

use std::sync::OnceLock;

#[global_allocator]
static ALLOCATOR: targets::memory::Counting = targets::memory::Counting;

static TARGET: OnceLock<&'static targets::Target> = OnceLock::new();

fn chosen() -> &'static targets::Target {
    let name = std::env::var("TIDEGATE_FUZZ_TARGET").unwrap_or_default();
    let found = targets::ALL.iter().find(|target| target.name == name);
    found.unwrap_or_else(|| {
        let names: Vec<&str> = targets::ALL.iter().map(|target| target.name).collect();
        eprintln!("TIDEGATE_FUZZ_TARGET is {name:?}, expected one of {}", names.join(" "));
        std::process::exit(2)
    })
}

libfuzzer_sys::fuzz_target!(init: { TARGET.get_or_init(chosen); }, |data: &[u8]| {
    TARGET.get_or_init(chosen).run(data);
});
