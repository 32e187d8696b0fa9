//! The `tidegate` command: parse arguments, run, map the result to an exit code.

use std::process::ExitCode;
use tidegate::host::cli;
use tidegate::host::heap::CountedHeap;

#[global_allocator]
static HEAP: CountedHeap = CountedHeap;

fn main() -> ExitCode {
    cli::main()
}
