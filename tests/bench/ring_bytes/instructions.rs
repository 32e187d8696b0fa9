//! Counts instructions: by the kernel, or under valgrind.

use std::process::Command;

/// First argument of the process that is counted from outside.
pub const WORK: &str = "--work";

pub enum Counter {
    Kernel(std::fs::File),
    /// Says why the kernel does not.
    Callgrind(String),
    /// Says what is missing.
    Nothing(String),
}

impl Counter {
    pub fn new() -> Self {
        let why = match kernel_counter() {
            Ok(file) => return Self::Kernel(file),
            Err(error) => format!("perf_event_open: {error}"),
        };
        match Command::new("valgrind").arg("--version").output() {
            Ok(output) if output.status.success() => Self::Callgrind(why),
            _ => Self::Nothing(why),
        }
    }

    pub fn source(&self) -> String {
        match self {
            Self::Kernel(_) => "counted by the kernel, user space only".to_owned(),
            Self::Callgrind(why) => format!("counted by valgrind's callgrind ({why})"),
            Self::Nothing(why) => format!("NOT COUNTED: {why}, and valgrind is not installed"),
        }
    }

    /// Instructions of one `run`. This program started with [`WORK`], a number of passes and `work` does the same, so many times,
    /// besides what it needs to begin.
    pub fn count(&mut self, work: &[&str], run: &mut dyn FnMut()) -> Option<f64> {
        match self {
            Self::Kernel(counter) => {
                let before = read_counter(counter)?;
                run();
                Some((read_counter(counter)? - before) as f64)
            }
            Self::Callgrind(_) => {
                // The difference of two runs leaves out reading the file and starting up.
                let more = callgrind(work, 1)?.checked_sub(callgrind(work, 0)?)?;
                Some(more as f64)
            }
            Self::Nothing(_) => None,
        }
    }
}

fn callgrind(work: &[&str], passes: u32) -> Option<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe().ok()?)
        .args([WORK, &passes.to_string()])
        .args(work)
        .output()
        .ok()?;
    let said = String::from_utf8_lossy(&output.stderr);
    let collected = said.lines().find_map(|line| line.split_once("Collected :"));
    let count = collected.and_then(|(_, count)| count.trim().parse().ok());
    if count.is_none() {
        eprintln!("callgrind did not count: {said}");
    }
    count
}

fn read_counter(file: &std::fs::File) -> Option<u64> {
    use std::io::Read;
    let mut bytes = [0; 8];
    let mut file = file;
    file.read_exact(&mut bytes).ok()?;
    Some(u64::from_le_bytes(bytes))
}

/// Hardware instructions of this thread in user space (`perf_event_open(2)`).
#[cfg(all(feature = "host", target_os = "linux", target_endian = "little"))]
fn kernel_counter() -> std::io::Result<std::fs::File> {
    use std::os::fd::FromRawFd;
    /// `PERF_ATTR_SIZE_VER1`.
    const ATTRIBUTES: usize = 72;
    const COUNT_INSTRUCTIONS: u64 = 1;
    const EXCLUDE_KERNEL_AND_HYPERVISOR: u64 = 1 << 5 | 1 << 6;
    let mut attributes = [0_u64; ATTRIBUTES / 8];
    // u32 type (0: hardware), u32 size; u64 config; sample period, sample type, read format; flags.
    attributes[0] = (ATTRIBUTES as u64) << 32;
    attributes[1] = COUNT_INSTRUCTIONS;
    attributes[5] = EXCLUDE_KERNEL_AND_HYPERVISOR;
    let (this_thread, any_cpu, no_group, no_flags) = (0, -1, -1, 0_u64);
    // SAFETY: the kernel reads `size` bytes of the attributes, which live through the call, and writes nothing.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            attributes.as_ptr(),
            this_thread,
            any_cpu,
            no_group,
            no_flags,
        )
    };
    if fd < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: a descriptor just made, owned by nobody else.
    Ok(unsafe { std::fs::File::from_raw_fd(fd as i32) })
}

#[cfg(not(all(feature = "host", target_os = "linux", target_endian = "little")))]
fn kernel_counter() -> std::io::Result<std::fs::File> {
    Err(std::io::Error::other("not in this build"))
}
