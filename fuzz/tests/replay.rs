//! The fuzz targets without a fuzzer: every saved input, and inputs changed from them by dice with a printed seed.

#[path = "../examples/make_saved.rs"]
#[allow(dead_code)]
mod make_saved;

use fuzz::{INPUT_BYTES_MAX, TARGETS, Target};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Changed inputs for each target, where the variables below do not say otherwise.
const CHANGED: u64 = 3_000;
/// Changed inputs for each target.
const COUNT_VARIABLE: &str = "NINEFOLD_FUZZ_EXECUTIONS";
/// Seconds for each target, whatever comes of it: for a slice of a long run.
const SECONDS_VARIABLE: &str = "NINEFOLD_FUZZ_SECONDS";
/// Replays one changed input of each target.
const SEED_VARIABLE: &str = "NINEFOLD_FUZZ_SEED";
/// An input takes milliseconds; what takes this long is a hang.
const INPUT_TIME_MAX: Duration = Duration::from_secs(10);
type Saved = Vec<(PathBuf, Vec<u8>)>;

fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("saved").join(target)
}

/// The saved inputs by name, so that a seed always means the same input.
fn saved(target: &str) -> Saved {
    let folder = folder(target);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "no inputs in {}", folder.display());
    paths.into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

/// Counts the bytes that this thread holds: others of the test runner allocate when they like. Nothing is refused, so that what
/// asked for too much ends as a failure that names its input.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static HELD_MAX: Cell<isize> = const { Cell::new(0) };
}

fn count(more: usize, less: usize) {
    // A layout is at most isize::MAX.
    let held = HELD.get() + more.cast_signed() - less.cast_signed();
    HELD.set(held);
    HELD_MAX.set(HELD_MAX.get().max(held));
}

// SAFETY: everything is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        // Where it moves, both are there for a moment.
        count(bytes, 0);
        count(0, layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.realloc(at, layout, bytes) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(0, layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// The most bytes that `job` had at once, beside those there were before.
fn bytes_held(job: impl FnOnce()) -> usize {
    let before = HELD.get();
    HELD_MAX.set(before);
    job();
    (HELD_MAX.get() - before).cast_unsigned()
}

/// Runs one input; when it fails, takes too long or too much memory, `which` says how to see it again. Gives the bytes it held.
fn run((_, target, bytes_max): (&str, Target, usize), bytes: &[u8], which: &dyn Fn() -> String) -> usize {
    let began = Instant::now();
    let mut ended = Ok(());
    let held = bytes_held(|| ended = catch_unwind(AssertUnwindSafe(|| target(bytes))));
    if let Err(panic) = ended {
        eprintln!("{}", which());
        resume_unwind(panic);
    }
    assert!(began.elapsed() < INPUT_TIME_MAX, "{}: {:?}", which(), began.elapsed());
    assert!(held <= bytes_max, "{}: {held} bytes allocated at once, the limit is {bytes_max}", which());
    held
}

#[test]
fn memory_is_counted_at_its_peak() {
    assert_eq!(bytes_held(|| drop(std::hint::black_box(vec![1u8; 1000]))), 1000);
    let grown = bytes_held(|| {
        let mut bytes = vec![0u8; 5000];
        bytes.reserve_exact(20_000);
        drop(std::hint::black_box(bytes));
    });
    assert_eq!(grown, 30_000, "while it moves, both are there");
    // What a hostile length would ask for fails the input that has it, not the process.
    let hostile = (|_: &[u8]| drop(std::hint::black_box(vec![0u8; 1 << 30]))) as Target;
    let refused = catch_unwind(|| run(("hostile", hostile, 1 << 20), &[], &|| "hostile".into()));
    let message = *refused.expect_err("a GiB is over the limit").downcast::<String>().unwrap();
    assert!(message.contains("1073741824 bytes allocated at once, the limit is 1048576"), "{message}");
}

#[test]
fn saved_inputs() {
    for target in TARGETS {
        let name = target.0;
        for (path, bytes) in saved(name) {
            run(target, &bytes, &|| format!("{name} fails on {}", path.display()));
        }
    }
}

#[test]
fn the_first_inputs_are_saved() {
    let made = make_saved::files();
    for (path, bytes) in &made {
        assert!(std::fs::read(folder(path)).unwrap() == *bytes, "{path}: run the example make_saved");
    }
    for (name, ..) in TARGETS {
        assert!(made.iter().filter(|(path, _)| path.starts_with(&format!("{name}/"))).count() >= 12, "{name}");
    }
}

#[test]
fn changed_inputs_of_code_spec() {
    changed_inputs("code_spec");
}

#[test]
fn changed_inputs_of_fragment_header() {
    changed_inputs("fragment_header");
}

#[test]
fn changed_inputs_of_fragment_set() {
    changed_inputs("fragment_set");
}

#[test]
fn changed_inputs_of_fragment_file() {
    changed_inputs("fragment_file");
}

#[test]
fn changed_inputs_of_fragment_tail() {
    changed_inputs("fragment_tail");
}

#[test]
fn changed_inputs_of_node_journal() {
    changed_inputs("node_journal");
}

#[test]
fn changed_inputs_of_kernel_pair() {
    changed_inputs("kernel_pair");
}

#[test]
fn changed_inputs_of_vector_set() {
    changed_inputs("vector_set");
}

#[test]
fn changed_inputs_of_wide_code() {
    changed_inputs("wide_code");
}

#[test]
fn changed_inputs_of_wire_message() {
    changed_inputs("wire_message");
}

#[test]
fn changed_inputs_of_decode_set() {
    changed_inputs("decode_set");
}

#[test]
fn changed_inputs_of_matrix_file() {
    changed_inputs("matrix_file");
}

#[test]
fn changed_inputs_of_planner() {
    changed_inputs("planner");
}

#[test]
fn changed_inputs_of_store_index() {
    changed_inputs("store_index");
}

fn changed_inputs(name: &str) {
    let target = TARGETS.into_iter().find(|(known, ..)| *known == name).unwrap();
    let saved = saved(name);
    let number = |variable: &str| {
        let value = std::env::var(variable).ok()?;
        Some(value.parse::<u64>().unwrap_or_else(|_| panic!("{variable}={value} is no number")))
    };
    let (seeds, until) = match (number(SEED_VARIABLE), number(SECONDS_VARIABLE)) {
        (Some(seed), _) => (seed..=seed, None),
        (None, Some(seconds)) => (1..=u64::MAX, Some(Instant::now() + Duration::from_secs(seconds))),
        (None, None) => (1..=number(COUNT_VARIABLE).unwrap_or(CHANGED), None),
    };
    let (mut executed, mut held_max) = (0u64, 0);
    for seed in seeds {
        if until.is_some_and(|until| Instant::now() > until) {
            break;
        }
        let bytes = Dice(seed).changed(&saved);
        let held =
            run(target, &bytes, &|| format!("replay {name} with {SEED_VARIABLE}={seed} ({} bytes)", bytes.len()));
        held_max = held_max.max(held);
        executed += 1;
    }
    println!("{name}: {executed} inputs, at most {held_max} bytes of {} allocated at once", target.2);
}

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        value ^ (value >> 31)
    }

    fn below(&mut self, count: usize) -> usize {
        usize::try_from(self.next() % count.max(1) as u64).unwrap()
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }

    /// A saved input with 1 to 8 changes, mostly near its start, where the fields are.
    fn changed(&mut self, saved: &Saved) -> Vec<u8> {
        let mut bytes = saved[self.below(saved.len())].1.clone();
        for _ in 0..1 + self.below(8) {
            let other = &saved[self.below(saved.len())].1;
            self.change(&mut bytes, other);
        }
        bytes.truncate(INPUT_BYTES_MAX);
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>, other: &[u8]) {
        let reach = if self.below(4) > 0 { bytes.len().min(256) } else { bytes.len() };
        let at = self.below(reach + 1);
        let count = self.below(12).min(bytes.len() - at);
        match self.below(9) {
            0 | 1 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << self.below(8)),
            2 => bytes[at..at + count].fill_with(|| self.byte()),
            3 => {
                let value = [0, 1, 0x7f, 0x80, 0xff, b'0', b'9'][self.below(7)];
                bytes[at..at + count].fill(value);
            }
            4 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte = byte.wrapping_add(1)),
            5 => drop(bytes.drain(at..at + count)),
            6 => {
                let more: Vec<u8> = (0..self.below(12)).map(|_| self.byte()).collect();
                drop(bytes.splice(at..at, more));
            }
            // A part of another input in this place, or all of it after this one.
            7 => {
                let from = self.below(other.len());
                let to = (from + 1 + self.below(64)).min(other.len());
                drop(bytes.splice(at..at + count, other[from..to].iter().copied()));
            }
            _ => bytes.extend_from_slice(other.get(2.min(other.len())..).unwrap_or(&[])),
        }
    }
}
