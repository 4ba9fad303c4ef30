//! From one code to another without encoding anew: what stays, what is read, what is written.
//!
//! A parity of a long stripe is a sum over the data of several short ones. Where the part of each short stripe in that sum is a
//! sum of its own parities, these are all that has to be read (convertible codes: Maturana and Rashmi, ITCS 2020). Nothing here
//! knows families: the rows of all fragments over all data are written down, and the wanted ones expressed by those at hand.
//! That it comes out for
//!
//! - `lch`, with stripe `s` encoded at slot `s` ([`Code::at_slot`]): every parity is the XOR of those of the slots;
//! - `power`: parity `i` of stripe `s` times `2^(i s k)`;
//! - `lrc` with 1 or 2 global parities and even groups: local parities stay, global parity `t` of stripe `s` times
//!   `2^(s l 2^t)`, which moves its groups to cosets of their own; or, for as many groups as before, group `g` of the long stripe is
//!   made of the groups `g` of the short ones
//!
//! is the work of those matrices. What cannot be had so is refused, never read around.

use crate::code::{Code, CodeSpec, RsMatrix, Shape, shard};
use crate::error::{CodeError, DecodeError};
use crate::kernel::{Locality, Transform};
use crate::matrix::Matrix;
use crate::shard::{SHARDS_MAX, ShardIndex};
use std::fmt;

/// A fragment of one of several stripes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StripeShard {
    /// Which stripe, from 0 on.
    pub stripe: usize,
    /// Which of its shards.
    pub index: ShardIndex,
}

impl fmt::Display for StripeShard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.stripe, self.index)
    }
}

/// Why there is no conversion, or it cannot be run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConvertError {
    /// A code of either side is none: it would not be MDS or maximally recoverable, or its numbers do not fit.
    #[error(transparent)]
    Code(#[from] CodeError),
    /// There is no stripe.
    #[error("there are no stripes")]
    NoStripes,
    /// The sides hold different numbers of data shards.
    #[error("{parts} data fragments in the short stripes, {whole} in the long one")]
    DataMismatch {
        /// Of the short stripes together.
        parts: usize,
        /// Of the long stripe.
        whole: usize,
    },
    /// A parity is no sum of what may be read.
    #[error("fragment {wanted} of {code} is no sum of the fragments that a conversion may read; encode anew")]
    NotASum {
        /// The fragment.
        wanted: StripeShard,
        /// Its code.
        code: String,
    },
    /// A fragment that is read was not given.
    #[error("the conversion reads fragment {fragment}, which was not given")]
    MissingInput {
        /// The fragment.
        fragment: StripeShard,
    },
    /// A fragment was given twice.
    #[error("fragment {fragment} was given twice")]
    Duplicate {
        /// The fragment.
        fragment: StripeShard,
    },
    /// The conversion does not write this fragment.
    #[error("the conversion does not write fragment {fragment}")]
    NotWritten {
        /// The fragment.
        fragment: StripeShard,
    },
    /// A fragment that is written got no buffer.
    #[error("the conversion writes fragment {fragment}, which got no buffer")]
    MissingOutput {
        /// The fragment.
        fragment: StripeShard,
    },
    /// A buffer is not as long as the first.
    #[error("the buffer of fragment {fragment} has {found} bytes where the first has {expected}")]
    LengthMismatch {
        /// The fragment: of the old side where it is read, of the new one where it is written.
        fragment: StripeShard,
        /// Bytes of the first buffer.
        expected: usize,
        /// Bytes of this one.
        found: usize,
    },
    /// The products refused buffers that were checked before.
    #[error(transparent)]
    Buffers(#[from] DecodeError),
}

/// How stripes of one code become stripes of another. Good for any number of them and for any byte range: run it on equally
/// placed ranges.
///
/// ```
/// use ec_core::{Code, Conversion, ShardIndex, convert::StripeShard};
///
/// // Two stripes of lrc:12,2,2 become one of lrc:24,4,2: four global parities are read, two are written.
/// let (short, long) = ("lrc:12,2,2".parse()?, "lrc:24,4,2".parse()?);
/// let conversion = Conversion::merge(&short, 2, &long)?;
/// assert_eq!((conversion.reads().len(), conversion.writes().len()), (4, 2));
///
/// let (code, data) = (Code::new(&short)?, [7u8; 24].map(|byte| [byte; 100]));
/// let mut parity = [[[0u8; 100]; 4]; 2];
/// for (stripe, parity) in parity.iter_mut().enumerate() {
///     let data: Vec<&[u8]> = data[12 * stripe..][..12].iter().map(|shard| &shard[..]).collect();
///     code.encode(&data, &mut parity.each_mut().map(|shard| &mut shard[..]))?;
/// }
/// let inputs: Vec<_> = conversion.reads().iter().map(|&it| (it, &parity[it.stripe][it.index.at() - 12][..])).collect();
/// let (mut first, mut second) = ([0u8; 100], [0u8; 100]);
/// let written = |index| StripeShard { stripe: 0, index: ShardIndex::new(index) };
/// conversion.run(&inputs, &mut [(written(28), &mut first), (written(29), &mut second)])?;
///
/// let mut fresh = [[0u8; 100]; 6];
/// Code::new(&long)?.encode(&data.each_ref().map(|shard| &shard[..]), &mut fresh.each_mut().map(|shard| &mut shard[..]))?;
/// assert_eq!((first, second), (fresh[4], fresh[5]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Conversion {
    kept: Vec<(StripeShard, StripeShard)>,
    reads: Vec<StripeShard>,
    writes: Vec<StripeShard>,
    coefficients: Matrix,
    transform: Transform,
}

impl Conversion {
    /// `stripes` stripes of `part` become one of `whole`, from their parities alone. Stripe `s` of the `lch` matrix was encoded
    /// at slot `s`. One stripe is a change of the number of parities.
    ///
    /// # Errors
    /// A [`ConvertError`] with the reason.
    pub fn merge(part: &CodeSpec, stripes: usize, whole: &CodeSpec) -> Result<Self, ConvertError> {
        let (parts, whole) = (part_codes(part, stripes)?, Code::new(whole)?);
        Self::merge_codes(&parts.iter().collect::<Vec<_>>(), &whole)
    }

    /// One stripe of `whole` becomes `stripes` stripes of `part`, from its parities and the data of all parts but the last.
    /// Stripe `s` of the `lch` matrix is encoded at slot `s`.
    ///
    /// # Errors
    /// A [`ConvertError`] with the reason.
    pub fn split(whole: &CodeSpec, part: &CodeSpec, stripes: usize) -> Result<Self, ConvertError> {
        let (parts, whole) = (part_codes(part, stripes)?, Code::new(whole)?);
        Self::split_codes(&whole, &parts.iter().collect::<Vec<_>>())
    }

    /// As [`Conversion::merge`], for stripes of any codes, in the order of their data.
    ///
    /// # Errors
    /// A [`ConvertError`] with the reason.
    pub fn merge_codes(parts: &[&Code], whole: &Code) -> Result<Self, ConvertError> {
        let mut refused = None;
        for order in orders(parts, whole)? {
            let sides = Sides { parts, whole, order: &order };
            let may_read = (0..parts.len()).flat_map(|stripe| sides.parities_of_part(stripe));
            match sides.solve(may_read.collect(), true) {
                Ok(conversion) => return Ok(conversion),
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        Err(refused.unwrap_or(ConvertError::NoStripes))
    }

    /// As [`Conversion::split`], for stripes of any codes, in the order of their data.
    ///
    /// # Errors
    /// A [`ConvertError`] with the reason.
    pub fn split_codes(whole: &Code, parts: &[&Code]) -> Result<Self, ConvertError> {
        let mut refused = None;
        for order in orders(parts, whole)? {
            let sides = Sides { parts, whole, order: &order };
            let parities = (whole.k()..whole.n()).map(|at| StripeShard { stripe: 0, index: shard(at) });
            // The last part follows by subtraction.
            let data = (0..whole.k()).filter(|&at| order[at].0 + 1 < parts.len());
            let may_read = parities.chain(data.map(|at| StripeShard { stripe: 0, index: shard(at) }));
            match sides.solve(may_read.collect(), false) {
                Ok(conversion) => return Ok(conversion),
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        Err(refused.unwrap_or(ConvertError::NoStripes))
    }

    /// Fragments that stay as they are: what they were, what they become. All data, and parities that both codes have.
    pub fn kept(&self) -> &[(StripeShard, StripeShard)] {
        &self.kept
    }

    /// Fragments to read, in rising order.
    pub fn reads(&self) -> &[StripeShard] {
        &self.reads
    }

    /// Fragments to write, in rising order. What is neither kept nor written of the new code does not exist; what is not kept of
    /// the old may be deleted once the new ones are safe.
    pub fn writes(&self) -> &[StripeShard] {
        &self.writes
    }

    /// One row per written fragment, one column per read one.
    pub fn coefficients(&self) -> &Matrix {
        &self.coefficients
    }

    /// Computes the fragments to write. Inputs that are not read are ignored; all buffers are equally long.
    ///
    /// # Errors
    /// A [`ConvertError`], with every output untouched.
    pub fn run(
        &self,
        inputs: &[(StripeShard, &[u8])],
        outputs: &mut [(StripeShard, &mut [u8])],
    ) -> Result<(), ConvertError> {
        let mut sources = Vec::with_capacity(self.reads.len());
        for &fragment in &self.reads {
            let mut given = inputs.iter().filter(|(it, _)| *it == fragment);
            let (_, bytes) = given.next().ok_or(ConvertError::MissingInput { fragment })?;
            if given.next().is_some() {
                return Err(ConvertError::Duplicate { fragment });
            }
            sources.push(*bytes);
        }
        let mut targets: Vec<Option<&mut [u8]>> = self.writes.iter().map(|_| None).collect();
        for (fragment, bytes) in outputs.iter_mut() {
            let at =
                self.writes.binary_search(fragment).map_err(|_| ConvertError::NotWritten { fragment: *fragment })?;
            if targets[at].replace(bytes).is_some() {
                return Err(ConvertError::Duplicate { fragment: *fragment });
            }
        }
        let mut outputs = Vec::with_capacity(self.writes.len());
        for (target, &fragment) in targets.into_iter().zip(&self.writes) {
            outputs.push(target.ok_or(ConvertError::MissingOutput { fragment })?);
        }
        self.equal_lengths(&sources, &outputs)?;
        Ok(self.transform.apply_to_shards(&sources, &mut outputs, Locality::Auto)?)
    }

    /// The products would name a column, which is no fragment of either side.
    fn equal_lengths(&self, sources: &[&[u8]], outputs: &[&mut [u8]]) -> Result<(), ConvertError> {
        let lengths = sources.iter().map(|it| it.len()).chain(outputs.iter().map(|it| it.len()));
        let expected = lengths.clone().next().unwrap_or(0);
        match self.reads.iter().chain(&self.writes).zip(lengths).find(|(_, found)| *found != expected) {
            None => Ok(()),
            Some((&fragment, found)) => Err(ConvertError::LengthMismatch { fragment, expected, found }),
        }
    }
}

impl fmt::Display for Conversion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} kept, {} read, {} written", self.kept.len(), self.reads.len(), self.writes.len())?;
        for (row, fragment) in self.writes.iter().enumerate() {
            write!(f, "; {fragment} =")?;
            for (column, read) in self.reads.iter().enumerate() {
                match self.coefficients.get(row, column) {
                    0 => {}
                    coefficient => write!(f, " + {coefficient:02x}*{read}")?,
                }
            }
        }
        Ok(())
    }
}

/// The codes of the short stripes: by slots where the matrix has them.
fn part_codes(part: &CodeSpec, stripes: usize) -> Result<Vec<Code>, ConvertError> {
    if stripes == 0 {
        return Err(ConvertError::NoStripes);
    }
    let parts = stripes.saturating_mul(part.k());
    if parts > SHARDS_MAX {
        return Err(ConvertError::DataMismatch { parts, whole: SHARDS_MAX });
    }
    let slot = |stripe: usize| match part.shape() {
        Shape::Rs { matrix: RsMatrix::Lch, .. } => Code::at_slot(part, u16::try_from(stripe).unwrap_or(u16::MAX)),
        _ => Code::new(part),
    };
    Ok((0..stripes).map(slot).collect::<Result<_, _>>()?)
}

/// For each data shard of the long stripe the short stripe and the position it has there.
type Order = Vec<(usize, usize)>;

/// The ways in which the data of short stripes may stand in the long one: one stripe after the other, and where all have as
/// many groups, group by group.
fn orders(parts: &[&Code], whole: &Code) -> Result<Vec<Order>, ConvertError> {
    if parts.is_empty() {
        return Err(ConvertError::NoStripes);
    }
    let found: usize = parts.iter().map(|part| part.k()).sum();
    if found != whole.k() {
        return Err(ConvertError::DataMismatch { parts: found, whole: whole.k() });
    }
    let all = |stripe: usize| (0..parts[stripe].k()).map(move |at| (stripe, at));
    let mut orders = vec![(0..parts.len()).flat_map(all).collect::<Order>()];
    let groups = whole.groups().len();
    if groups > 1 && parts.len() > 1 && parts.iter().all(|part| part.groups().len() == groups) {
        let members = |stripe: usize, group: usize| {
            let data = parts[stripe].groups()[group].members();
            (0..parts[stripe].k()).filter(move |&at| data.contains(shard(at))).map(move |at| (stripe, at))
        };
        let by_groups: Order =
            (0..groups).flat_map(|group| (0..parts.len()).flat_map(move |stripe| members(stripe, group))).collect();
        if by_groups.len() == whole.k() {
            orders.push(by_groups);
        }
    }
    Ok(orders)
}

/// Short stripes and the long one, over the same data.
struct Sides<'a> {
    parts: &'a [&'a Code],
    whole: &'a Code,
    order: &'a Order,
}

impl Sides<'_> {
    fn parities_of_part(&self, stripe: usize) -> impl Iterator<Item = StripeShard> {
        (self.parts[stripe].k()..self.parts[stripe].n()).map(move |at| StripeShard { stripe, index: shard(at) })
    }

    /// A fragment of a short stripe over the data of the long one.
    fn row_of_part(&self, fragment: StripeShard) -> Vec<u8> {
        let generator = self.parts[fragment.stripe].generator();
        let coefficient = |&(stripe, at): &(usize, usize)| {
            if stripe == fragment.stripe { generator.get(fragment.index.at(), at) } else { 0 }
        };
        self.order.iter().map(coefficient).collect()
    }

    fn row_of_whole(&self, fragment: StripeShard) -> Vec<u8> {
        self.whole.generator().row(fragment.index.at()).to_vec()
    }

    fn fragments_of_parts(&self) -> Vec<StripeShard> {
        let all = |stripe: usize| (0..self.parts[stripe].n()).map(move |at| StripeShard { stripe, index: shard(at) });
        (0..self.parts.len()).flat_map(all).collect()
    }

    fn fragments_of_whole(&self) -> Vec<StripeShard> {
        (0..self.whole.n()).map(|at| StripeShard { stripe: 0, index: shard(at) }).collect()
    }

    /// What is not kept of the new side, by what `may_read` names of the old.
    fn solve(&self, may_read: Vec<StripeShard>, merges: bool) -> Result<Conversion, ConvertError> {
        let (of_parts, of_whole) = (self.fragments_of_parts(), self.fragments_of_whole());
        let (old, new) = if merges { (of_parts, of_whole) } else { (of_whole, of_parts) };
        let old_row = |it: StripeShard| if merges { self.row_of_part(it) } else { self.row_of_whole(it) };
        let new_row = |it: StripeShard| if merges { self.row_of_whole(it) } else { self.row_of_part(it) };
        let mut left: Vec<(StripeShard, Vec<u8>)> = old.iter().map(|&it| (it, old_row(it))).collect();
        let (mut kept, mut writes) = (Vec::new(), Vec::new());
        for fragment in new {
            let row = new_row(fragment);
            match left.iter().position(|(_, old)| *old == row) {
                // In order: of equal rows a data shard comes before the parity of a group that has it alone.
                Some(at) => kept.push((left.remove(at).0, fragment)),
                None => writes.push(fragment),
            }
        }
        let rows = |fragments: &[StripeShard], row: &dyn Fn(StripeShard) -> Vec<u8>| {
            let rows: Vec<Vec<u8>> = fragments.iter().map(|&it| row(it)).collect();
            Matrix::from_fn(rows.len(), self.whole.k(), |at, column| rows[at][column])
        };
        let readable = rows(&may_read, &old_row);
        let Some(full) = readable.express(&rows(&writes, &new_row)) else {
            let fails = |&&it: &&StripeShard| readable.express(&rows(&[it], &new_row)).is_none();
            // The rows are expressed one by one, so one of them is outside. There may be nothing to read: a code without parities.
            let wanted = writes.iter().find(fails).or(writes.first()).copied();
            let wanted = wanted.unwrap_or(StripeShard { stripe: 0, index: shard(0) });
            let code = if merges { self.whole } else { self.parts[wanted.stripe] };
            return Err(ConvertError::NotASum { wanted, code: code.spec().to_string() });
        };
        kept.sort_unstable();
        Ok(Conversion::new(kept, may_read, writes, &full, self.whole))
    }
}

impl Conversion {
    fn new(
        kept: Vec<(StripeShard, StripeShard)>,
        may_read: Vec<StripeShard>,
        writes: Vec<StripeShard>,
        full: &Matrix,
        whole: &Code,
    ) -> Self {
        let is_used = |column: usize| (0..full.rows()).any(|row| full.get(row, column) != 0);
        let mut used: Vec<usize> = (0..may_read.len()).filter(|&column| is_used(column)).collect();
        used.sort_unstable_by_key(|&column| may_read[column]);
        let coefficients = Matrix::from_fn(writes.len(), used.len(), |row, column| full.get(row, used[column]));
        let transform = Transform::of_shards(whole.kernel(), &coefficients);
        let reads = used.iter().map(|&column| may_read[column]).collect();
        Self { kept, reads, writes, coefficients, transform }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: usize = 77;

    fn spec(text: &str) -> CodeSpec {
        text.parse().unwrap()
    }

    fn encoded(code: &Code, data: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let mut parity = vec![vec![0; BYTES]; code.m()];
        let sources: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
        code.encode(&sources, &mut parity.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>()).unwrap();
        [data.to_vec(), parity].concat()
    }

    fn part_data(stripe: usize, k: usize) -> Vec<Vec<u8>> {
        (0..k).map(|at| (0..BYTES).map(|byte| ((byte + 7 * at + 91 * stripe) % 251) as u8).collect()).collect()
    }

    /// Runs the conversion on real stripes and compares every fragment of the new side with a fresh encode.
    fn is_a_fresh_encode(conversion: &Conversion, old: &[Vec<Vec<u8>>], new_codes: &[&Code]) {
        let inputs: Vec<(StripeShard, &[u8])> =
            conversion.reads().iter().map(|&it| (it, &old[it.stripe][it.index.at()][..])).collect();
        let mut written: Vec<(StripeShard, Vec<u8>)> =
            conversion.writes().iter().map(|&it| (it, vec![0xEE; BYTES])).collect();
        let mut outputs: Vec<_> = written.iter_mut().map(|(it, bytes)| (*it, &mut bytes[..])).collect();
        conversion.run(&inputs, &mut outputs).unwrap();
        let mut new: Vec<Vec<Option<Vec<u8>>>> = new_codes.iter().map(|code| vec![None; code.n()]).collect();
        let kept = conversion.kept().iter().map(|(was, is)| (*is, old[was.stripe][was.index.at()].clone()));
        for (it, bytes) in kept.chain(written) {
            assert!(new[it.stripe][it.index.at()].replace(bytes).is_none(), "{it} twice");
        }
        for (code, new) in new_codes.iter().zip(new) {
            let new: Vec<Vec<u8>> = new.into_iter().map(|fragment| fragment.expect("kept or written")).collect();
            assert!(encoded(code, &new[..code.k()]) == new, "{}", code.spec());
        }
    }

    fn merges(part: &str, stripes: usize, whole: &str) -> (usize, usize) {
        let conversion = Conversion::merge(&spec(part), stripes, &spec(whole)).unwrap();
        let codes = part_codes(&spec(part), stripes).unwrap();
        let old: Vec<Vec<Vec<u8>>> =
            codes.iter().enumerate().map(|(stripe, code)| encoded(code, &part_data(stripe, code.k()))).collect();
        is_a_fresh_encode(&conversion, &old, &[&Code::new(&spec(whole)).unwrap()]);
        (conversion.reads().len(), conversion.writes().len())
    }

    fn splits(whole: &str, part: &str, stripes: usize) -> (usize, usize) {
        let conversion = Conversion::split(&spec(whole), &spec(part), stripes).unwrap();
        let code = Code::new(&spec(whole)).unwrap();
        let codes = part_codes(&spec(part), stripes).unwrap();
        let old = [encoded(&code, &part_data(0, code.k()))];
        is_a_fresh_encode(&conversion, &old, &codes.iter().collect::<Vec<_>>());
        (conversion.reads().len(), conversion.writes().len())
    }

    fn refused(part: &str, stripes: usize, whole: &str) -> ConvertError {
        Conversion::merge(&spec(part), stripes, &spec(whole)).unwrap_err()
    }

    #[test]
    fn merges_read_parities_alone() {
        for (part, stripes, whole, reads, writes) in [
            ("lrc:12,2,2", 2, "lrc:24,4,2", 4, 2),
            ("lrc:12,2,2", 2, "lrc:24,2,2", 8, 4),
            ("lrc:6,2,2", 4, "lrc:24,8,2", 8, 2),
            ("lrc:6,1,2", 3, "lrc:18,3,2", 6, 2),
            ("lrc:12,2,1", 2, "lrc:24,4,1", 2, 1),
            ("lrc:12,2,2", 2, "lrc:24,4,1", 2, 1),
            ("rs:10+4", 2, "rs:20+4", 8, 4),
            ("rs:6+3", 5, "rs:30+3", 15, 3),
            ("rs:10+4@power", 2, "rs:20+4@power", 8, 4),
            ("rs:6+3@power", 2, "rs:12+3@power", 6, 3),
            ("rs:6+3@power", 2, "rs:12+2@power", 4, 2),
            ("rs:6+4", 2, "rs:12+3", 6, 3),
            ("rs:63+4", 4, "rs:252+4", 16, 4),
            ("rs:10+4@jerasure", 1, "rs:10+4@jerasure", 0, 0),
        ] {
            assert_eq!(merges(part, stripes, whole), (reads, writes), "{part} {whole}");
        }
    }

    #[test]
    fn splits_read_all_parts_but_one() {
        for (whole, part, stripes, reads, writes) in [
            ("lrc:24,4,2", "lrc:12,2,2", 2, 14, 4),
            ("rs:20+4", "rs:10+4", 2, 14, 8),
            ("rs:12+3@power", "rs:4+3@power", 3, 11, 9),
            ("lrc:24,2,2", "lrc:12,2,2", 2, 16, 8),
        ] {
            assert_eq!(splits(whole, part, stripes), (reads, writes), "{whole} {part}");
        }
    }

    #[test]
    fn fewer_parities_are_kept_where_the_rows_are_the_same() {
        for (part, whole) in [
            ("rs:10+4", "rs:10+3"),
            ("rs:10+4@power", "rs:10+1@power"),
            ("lrc:12,2,2", "lrc:12,2,1"),
            ("replicate:5", "replicate:2"),
            ("rs:10+4@vandermonde", "rs:10+2@vandermonde"),
        ] {
            assert_eq!(merges(part, 1, whole), (0, 0), "{part} {whole}");
        }
        // The points of another power of two are others.
        assert!(matches!(refused("rs:10+4", 1, "rs:10+2"), ConvertError::NotASum { .. }));
    }

    #[test]
    fn what_the_algebra_does_not_give_is_refused_and_says_what() {
        for (part, stripes, whole) in [
            ("rs:10+4@cauchy", 2, "rs:20+4@cauchy"),
            ("rs:10+4@vandermonde", 2, "rs:20+4@vandermonde"),
            ("rs:10+3", 2, "rs:20+4"),
            ("rs:10+4", 1, "rs:10+5@cauchy"),
            ("lrc:11,2,2", 2, "lrc:22,4,2"),
            ("lrc:12,2,2", 2, "rs:24+4"),
        ] {
            assert!(matches!(refused(part, stripes, whole), ConvertError::NotASum { .. }), "{part} {whole}");
        }
        assert!(matches!(refused("rs:12+4@power", 2, "rs:24+4@power"), ConvertError::Code(CodeError::NotMds { .. })));
        assert_eq!(refused("rs:10+4", 2, "rs:21+4"), ConvertError::DataMismatch { parts: 20, whole: 21 });
        assert_eq!(refused("rs:10+4", 0, "rs:20+4"), ConvertError::NoStripes);
        assert!(matches!(refused("rs:10+4", 300, "rs:20+4"), ConvertError::DataMismatch { .. }));
        assert!(matches!(refused("rs:10+4", usize::MAX, "rs:20+4"), ConvertError::DataMismatch { .. }));
        // Codes without parities give nothing to read.
        for (part, stripes, whole) in [("replicate:1", 1, "replicate:3"), ("replicate:1", 2, "rs:2+1@power")] {
            assert!(matches!(refused(part, stripes, whole), ConvertError::NotASum { .. }), "{part} {whole}");
        }
        let split = Conversion::split(&spec("replicate:1"), &spec("replicate:3"), 1);
        assert!(matches!(split, Err(ConvertError::NotASum { .. })));
        // One shard more than the field has points for.
        assert!(matches!(refused("rs:64+4", 4, "rs:252+4"), ConvertError::Code(CodeError::Slot { .. })));
    }

    #[test]
    fn data_stays_data_where_a_parity_has_the_same_row() {
        for (part, stripes, whole) in
            [("lrc:2,2,2", 2, "lrc:4,4,2"), ("rs:1+1", 3, "rs:3+1"), ("replicate:3", 1, "replicate:2")]
        {
            let (part, whole) = (spec(part), spec(whole));
            let conversion = Conversion::merge(&part, stripes, &whole).unwrap();
            for (was, is) in conversion.kept() {
                assert_eq!(was.index.at() < part.k(), is.index.at() < whole.k(), "{was} > {is}");
            }
        }
    }

    #[test]
    fn stripes_at_other_slots_are_no_part_of_the_sum() {
        let (zero, whole) = (Code::new(&spec("rs:10+4")).unwrap(), Code::new(&spec("rs:20+4")).unwrap());
        assert!(matches!(Conversion::merge_codes(&[&zero, &zero], &whole), Err(ConvertError::NotASum { .. })));
        let one = Code::at_slot(&spec("rs:10+4"), 1).unwrap();
        assert_eq!(Conversion::merge_codes(&[&zero, &one], &whole).unwrap().reads().len(), 8);
        // Of different length, too: the points go on where the first ends.
        let long = Code::at_slot(&spec("rs:5+4"), 2).unwrap();
        let sum = Code::new(&spec("rs:15+4")).unwrap();
        assert_eq!(Conversion::merge_codes(&[&zero, &long], &sum).unwrap().writes().len(), 4);
    }

    #[test]
    fn a_code_at_a_slot_is_as_good_as_any() {
        for (text, slot) in [("rs:4+2", 3), ("rs:10+4", 1), ("rs:40+20", 3)] {
            let code = Code::at_slot(&spec(text), slot).unwrap();
            let shards = encoded(&code, &part_data(0, code.k()));
            for first in 0..code.n() - code.m() {
                let lost: Vec<usize> = (first..first + code.m()).collect();
                let present: Vec<_> =
                    (0..code.n()).filter(|at| !lost.contains(at)).map(|at| (shard(at), &shards[at][..])).collect();
                let mut rebuilt: Vec<_> = lost.iter().map(|&at| (shard(at), vec![0; BYTES])).collect();
                let mut wanted: Vec<_> = rebuilt.iter_mut().map(|(at, bytes)| (*at, &mut bytes[..])).collect();
                code.decode(&present, &mut wanted).unwrap();
                assert!(rebuilt.iter().all(|(at, bytes)| *bytes == shards[at.at()]), "{text} {first}");
            }
        }
        assert!(matches!(Code::at_slot(&spec("rs:10+4"), 25), Err(CodeError::Slot { .. })));
        assert!(matches!(Code::at_slot(&spec("rs:10+4@power"), 0), Err(CodeError::Slot { .. })));
        assert_eq!(Code::at_slot(&spec("rs:10+4"), 24).unwrap().slot(), 24);
    }

    #[test]
    fn a_conversion_checks_its_guests_at_the_door() {
        let conversion = Conversion::merge(&spec("rs:2+1"), 2, &spec("rs:4+1")).unwrap();
        let at = |stripe, index| StripeShard { stripe, index: ShardIndex::new(index) };
        assert_eq!(conversion.to_string(), "4 kept, 2 read, 1 written; 0:4 = + 01*0:2 + 01*1:2");
        let (a, b) = ([1u8; 5], [2u8; 5]);
        let mut out = [9u8; 5];
        let inputs = [(at(0, 2), &a[..]), (at(1, 2), &b[..])];
        let missing = conversion.run(&inputs[..1], &mut [(at(0, 4), &mut out)]);
        assert_eq!(missing, Err(ConvertError::MissingInput { fragment: at(1, 2) }));
        let twice = conversion.run(&[inputs[0], inputs[0], inputs[1]], &mut [(at(0, 4), &mut out)]);
        assert_eq!(twice, Err(ConvertError::Duplicate { fragment: at(0, 2) }));
        let other = conversion.run(&inputs, &mut [(at(0, 3), &mut out)]);
        assert_eq!(other, Err(ConvertError::NotWritten { fragment: at(0, 3) }));
        assert_eq!(conversion.run(&inputs, &mut []), Err(ConvertError::MissingOutput { fragment: at(0, 4) }));
        let short = conversion.run(&[inputs[0], (at(1, 2), &b[..4])], &mut [(at(0, 4), &mut out)]);
        assert_eq!(short, Err(ConvertError::LengthMismatch { fragment: at(1, 2), expected: 5, found: 4 }));
        let short = conversion.run(&inputs, &mut [(at(0, 4), &mut out[..3])]);
        assert_eq!(short, Err(ConvertError::LengthMismatch { fragment: at(0, 4), expected: 5, found: 3 }));
        assert_eq!(out, [9; 5]);
        conversion.run(&inputs, &mut [(at(0, 4), &mut out)]).unwrap();
        assert_eq!(out, [3; 5]);
    }
}
