//! `ninefold code SPEC`.

use super::{Outcome, print, print_json};
use crate::files::FilesError;
use ec_core::code::PatternCount;
use ec_core::code::{Evidence, Guarantee, parse_parity_rows};
use ec_core::vector::VectorShape;
use ec_core::{Code, CodeError, CodeSpec, VectorCode, VectorSpec, WideSpec};
use serde::Serialize;
use std::fmt::Write;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// More than the longest matrix of 255 parities, with room for comments.
const MATRIX_FILE_BYTES_MAX: u64 = 1 << 20;

/// Arguments of `code`.
#[derive(Debug, clap::Args)]
pub struct CodeCommand {
    /// For example rs:10+4, lrc:12,2,2, lrc-uniform:12,2,2, xorbas or replicate:3; also the library's wide:1000+200,
    /// hitchhiker:10+4, clay:10+4 and lrc:16,2,3@gf16, and matrix:FILE: one parity row a line in hex.
    spec: String,
    /// Print the facts as one JSON object.
    #[arg(long, conflicts_with = "matrix")]
    json: bool,
    /// Print the generator matrix: n lines of k bytes in hex, data rows first.
    #[arg(long)]
    matrix: bool,
}

#[derive(Serialize)]
struct Facts {
    schema: u32,
    code: String,
    n: usize,
    k: usize,
    overhead: f64,
    /// Sub-chunks of a fragment; 1 for codes that work byte by byte.
    sub_chunks: usize,
    guaranteed_tolerance: usize,
    guarantee: &'static str,
    /// Fragments that cannot all be lost: the first such pattern of one loss more than are surely survived. Absent where it is any,
    /// or none was found.
    undecodable: Option<Vec<u16>>,
    patterns: Vec<Patterns>,
    mean_repair_reads: Option<f64>,
    /// Absent for codes of the library alone, which this program does not store with.
    kernel: Option<&'static str>,
}

#[derive(Serialize)]
struct Patterns {
    erasures: usize,
    decodable: u128,
    total: u128,
    /// `exact`, or `sampled`: then `total` is the size of the sample.
    method: &'static str,
    /// The share that can be decoded, from and to: of a sample the interval that holds the true share with 95 %.
    share_min: f64,
    share_max: f64,
}

impl CodeCommand {
    pub(super) fn run(self) -> Result<Outcome, FilesError> {
        let facts = match self.spec.parse::<CodeSpec>() {
            Err(CodeError::LibraryOnly { .. }) if !self.matrix => match self.spec.parse::<VectorSpec>() {
                Ok(spec) => vector_facts(&VectorCode::new(&spec)?),
                Err(_) => wide_facts(&self.spec.parse()?),
            },
            spec => {
                let code = match self.spec.strip_prefix("matrix:") {
                    Some(file) => {
                        Code::from_parity_rows(&parse_parity_rows(&matrix_file(file)?).map_err(CodeError::from)?)?
                    }
                    None => Code::new(&spec?)?,
                };
                if self.matrix {
                    print(&matrix_text(&code))?;
                    return Ok(Outcome::Done);
                }
                facts(&code)
            }
        };
        if self.json {
            print_json(&facts)?
        } else {
            print(&text(&facts))?
        }
        Ok(Outcome::Done)
    }
}

fn matrix_file(name: &str) -> Result<String, FilesError> {
    let path = Path::new(name);
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(FilesError::io(path, "open"))?;
    file.take(MATRIX_FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(FilesError::io(path, "read"))?;
    if bytes.len() as u64 > MATRIX_FILE_BYTES_MAX {
        return Err(FilesError::Usage(format!(
            "{name}: more than {MATRIX_FILE_BYTES_MAX} bytes are no matrix of a code"
        )));
    }
    String::from_utf8(bytes).map_err(|_| FilesError::Usage(format!("{name} is no text")))
}

fn matrix_text(code: &Code) -> String {
    let mut text = String::new();
    for row in 0..code.n() {
        for value in code.generator().row(row) {
            let _ = write!(text, "{value:02x}");
        }
        text.push('\n');
    }
    text
}

fn patterns(counts: &[PatternCount]) -> Vec<Patterns> {
    let pattern = |count: &PatternCount| Patterns {
        erasures: count.erasures,
        decodable: count.decodable,
        total: count.total,
        method: if count.sampled { "sampled" } else { "exact" },
        share_min: count.share().0,
        share_max: count.share().1,
    };
    counts.iter().map(pattern).collect()
}

fn undecodable(code: &Code) -> Option<Vec<u16>> {
    let lost = if code.guarantee() == Guarantee::Mds { None } else { code.first_undecodable() };
    lost.map(|lost| lost.iter().map(ec_core::ShardIndex::get).collect())
}

impl Facts {
    /// What every code has; the rest as for one of the library that survives `tolerance` losses and no pattern of more.
    fn of(code: String, n: usize, k: usize, tolerance: usize, guarantee: &'static str) -> Self {
        Self {
            schema: 1,
            code,
            n,
            k,
            overhead: n as f64 / k as f64,
            sub_chunks: 1,
            guaranteed_tolerance: tolerance,
            guarantee,
            undecodable: None,
            patterns: Vec::new(),
            mean_repair_reads: None,
            kernel: None,
        }
    }
}

fn facts(code: &Code) -> Facts {
    Facts {
        undecodable: undecodable(code),
        patterns: patterns(&code.pattern_counts()),
        mean_repair_reads: code.mean_repair_reads(),
        kernel: Some(code.kernel().name()),
        ..Facts::of(code.spec().to_string(), code.n(), code.k(), code.guaranteed_tolerance(), guarantee(code))
    }
}

/// What is survived, and how that is known.
fn guarantee(code: &Code) -> &'static str {
    match (code.guarantee(), code.evidence()) {
        (Guarantee::Mds, Evidence::Tested) => "MDS: any n-k losses, by the rank of every pattern of them, tested now",
        (Guarantee::Mds, _) => "MDS: any n-k losses, by theorem or by checking every square submatrix",
        (Guarantee::MaximallyRecoverable, Evidence::Theorem) => {
            "maximally recoverable: every loss any code with these local groups survives, by the spread of its coefficients"
        }
        (Guarantee::MaximallyRecoverable, Evidence::Table) => {
            "maximally recoverable: every loss any code with these local groups survives, by the rank of every maximal pattern, tested when its table was made"
        }
        (Guarantee::MaximallyRecoverable, Evidence::Tested) => {
            "maximally recoverable: every loss any code with these local groups survives, by the rank of every maximal pattern, tested now"
        }
        (Guarantee::Ranked, Evidence::Tested) => {
            "neither MDS nor maximally recoverable as far as 2,000,000 patterns tell: it may survive more than is said here"
        }
        (Guarantee::Ranked, _) => {
            "neither MDS nor maximally recoverable: what it survives is counted pattern by pattern"
        }
    }
}

/// Any `m` losses are survived and every rebuild reads `k`, so there are no patterns to count.
fn wide_facts(spec: &WideSpec) -> Facts {
    let guarantee =
        "MDS: any n-k losses, by theorem; for the library alone (ec_core::WideCode), no command stores with it";
    Facts {
        mean_repair_reads: Some(spec.k() as f64),
        ..Facts::of(spec.to_string(), spec.n(), spec.k(), spec.m(), guarantee)
    }
}

fn vector_facts(code: &VectorCode) -> Facts {
    let guarantee = match code.spec().shape() {
        VectorShape::Lrc { .. } => {
            "maximally recoverable: every loss any code with these local groups survives, by theorem (sum-rank construction over GF(2^16)); for the library alone (ec_core::VectorCode), no command stores with it"
        }
        _ => "MDS: any n-k losses, by theorem; for the library alone (ec_core::VectorCode), no command stores with it",
    };
    Facts {
        sub_chunks: code.alpha(),
        patterns: patterns(&code.pattern_counts()),
        mean_repair_reads: code.mean_repair_reads(),
        ..Facts::of(code.spec().to_string(), code.n(), code.k(), code.guaranteed_tolerance(), guarantee)
    }
}

fn text(facts: &Facts) -> String {
    let mut text = format!(
        "{}: {} data and {} parity fragments, {:.4}x the bytes\nsurvives any {} losses; {}\n",
        facts.code,
        facts.k,
        facts.n - facts.k,
        facts.overhead,
        facts.guaranteed_tolerance,
        facts.guarantee
    );
    if let Some(lost) = &facts.undecodable {
        let _ = writeln!(text, "does not survive, for one, the loss of {lost:?}");
    }
    for count in &facts.patterns {
        let sampled = if count.method == "sampled" { " sampled" } else { "" };
        let share = match count.method {
            "sampled" => {
                format!("{:.2} to {:.2} % with 95 % confidence", 100.0 * count.share_min, 100.0 * count.share_max)
            }
            _ => format!("{:.2} %", 100.0 * count.share_min),
        };
        let _ = writeln!(
            text,
            "  {:>3} lost: {} of {}{sampled} patterns decodable ({share})",
            count.erasures, count.decodable, count.total
        );
    }
    match facts.mean_repair_reads {
        Some(reads) => {
            let kernel = facts.kernel.map_or(String::new(), |name| format!("; kernel {name}"));
            let _ = writeln!(text, "one lost fragment is rebuilt from {reads:.2} others on average{kernel}");
        }
        None => text.push_str("a lost fragment cannot be rebuilt\n"),
    }
    text
}
