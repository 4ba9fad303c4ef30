//! Two kernels, the same sums: any shape, length, places of buffers, coefficients and hint.

use crate::{Input, bounded};
use ec_core::{AlignedBuffer, Code, Kernel, Locality, Matrix, ShardIndex, ShardSet, Transform, WideCode, WideSpec};

/// As many as a code has shards.
const ROWS_MAX: usize = 255;
/// More than the lanes of one loop: the rest is added by another.
const COLUMNS_MAX: usize = 300;
const LENGTH_MAX: usize = 5_000;
/// Products of one call, so that the slowest kernel takes milliseconds.
const PRODUCTS_MAX: usize = 400_000;
/// And yet more than a step of every kernel.
const LENGTH_MIN: usize = 300;
/// Data shards, and parities, of a code over GF(2^16): three passes of its transform.
const WIDE_SHARDS_MAX: usize = 600;
/// A cache line, and the widest register.
const LINE: usize = 64;
const BEFORE: u8 = 0xEE;

/// Two kernels (1 byte each), the hint, what is computed, its shape (2 numbers), the length, where inputs and outputs begin, and
/// then the coefficients or the losses.
pub fn kernel_pair(bytes: &[u8]) {
    let mut input = Input(bounded(bytes));
    let mut kernels = Kernel::available();
    kernels.push(Kernel::portable().another());
    let pair = [kernels[usize::from(input.byte()) % kernels.len()], kernels[usize::from(input.byte()) % kernels.len()]];
    let locality = [Locality::Auto, Locality::Cached, Locality::Streaming][usize::from(input.byte()) % 3];
    let what = input.byte() % 3;
    let (first, second) = (input.word(), input.word());
    let (len, places) = (input.below(LENGTH_MAX), Places { inputs: input.array(), outputs: input.array() });
    let setting = Setting { pair, locality, len, places };
    match what {
        0 => {
            let (rows, columns) = (first % (ROWS_MAX + 1), second % (COLUMNS_MAX + 1));
            sums(&setting, &coefficients(&mut input, rows, columns));
        }
        1 => native(&setting, first, second, &mut input),
        _ => wide(&setting, first, second, &mut input),
    }
}

struct Setting {
    pair: [Kernel; 2],
    locality: Locality,
    len: usize,
    places: Places,
}

impl Setting {
    /// The length, less where it would take long.
    fn len(&self, products_per_byte: usize) -> usize {
        self.len.min((PRODUCTS_MAX / products_per_byte.max(1)).max(LENGTH_MIN))
    }
}

/// Where buffers begin after a cache line: the first one, and how much further each one is than the one before.
struct Places {
    inputs: [u8; 2],
    outputs: [u8; 2],
}

fn place([first, step]: [u8; 2], buffer: usize) -> usize {
    (usize::from(first) + usize::from(step) * buffer) % LINE
}

/// Buffers of one length in one allocation, with bytes around each that nobody may touch.
struct Buffers {
    bytes: AlignedBuffer,
    stride: usize,
    places: [u8; 2],
    len: usize,
}

impl Buffers {
    fn new(count: usize, len: usize, places: [u8; 2]) -> Self {
        let stride = (LINE + len + 1).next_multiple_of(LINE) + LINE;
        let mut bytes = AlignedBuffer::zeroed(stride * count).expect("at most some MiB");
        bytes.fill(BEFORE);
        Self { bytes, stride, places, len }
    }

    /// 251 is prime and below 256: shifted or exchanged buffers do not look alike.
    fn painted(count: usize, len: usize, places: [u8; 2]) -> Self {
        let mut buffers = Self::new(count, len, places);
        for (buffer, bytes) in buffers.slices_mut().into_iter().enumerate() {
            bytes.iter_mut().zip((0..251).cycle().skip(7 * buffer % 251)).for_each(|(byte, value)| *byte = value);
        }
        buffers
    }

    fn slices(&self) -> Vec<&[u8]> {
        let chunks = self.bytes.chunks_exact(self.stride).enumerate();
        chunks.map(|(at, chunk)| &chunk[place(self.places, at)..][..self.len]).collect()
    }

    fn slices_mut(&mut self) -> Vec<&mut [u8]> {
        let (places, len) = (self.places, self.len);
        let chunks = self.bytes.chunks_exact_mut(self.stride).enumerate();
        chunks.map(|(at, chunk)| &mut chunk[place(places, at)..][..len]).collect()
    }

    fn around_stayed(&self) -> bool {
        self.bytes.chunks_exact(self.stride).enumerate().all(|(at, chunk)| {
            let (before, rest) = chunk.split_at(place(self.places, at));
            before.iter().chain(&rest[self.len..]).all(|&byte| byte == BEFORE)
        })
    }
}

/// A style, then one byte each. At the end of the input a generator goes on.
fn coefficients(input: &mut Input<'_>, rows: usize, columns: usize) -> Matrix {
    let style = input.byte();
    let mut state = u64::from(input.byte());
    Matrix::from_fn(rows, columns, |_, _| {
        // The constants of Knuth's MMIX; the high bits are good enough.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let byte = if input.is_empty() { state.to_be_bytes()[0] } else { input.byte() };
        match style % 5 {
            0 => byte,
            1 => byte % 2,
            2 => byte.saturating_sub(128),
            3 => byte.saturating_sub(240),
            _ => byte.max(128) - 127,
        }
    })
}

fn sums(setting: &Setting, matrix: &Matrix) {
    let len = setting.len(matrix.rows() * matrix.columns());
    let inputs = Buffers::painted(matrix.columns(), len, setting.places.inputs);
    let outputs = setting.pair.map(|kernel| {
        let mut outputs = Buffers::new(matrix.rows(), len, setting.places.outputs);
        let transform = Transform::new(kernel, matrix).expect("a matrix of few rows and columns");
        transform
            .apply_with(&inputs.slices(), &mut outputs.slices_mut(), setting.locality)
            .expect("buffers of its shape");
        assert!(outputs.around_stayed(), "{transform:?} wrote outside, {len} bytes");
        outputs
    });
    let [one, other] = &outputs;
    assert!(
        one.slices() == other.slices(),
        "{:?}, {} x {}, {len} bytes",
        setting.pair,
        matrix.rows(),
        matrix.columns()
    );
}

/// Parities by one kernel and by the other; then what is lost is rebuilt.
fn native(setting: &Setting, k: usize, m: usize, input: &mut Input<'_>) {
    let k = 1 + k % 255;
    let m = 1 + m % (256 - k);
    // Without a matrix: the native one, or where its points do not fit into the field that of Cauchy.
    let spec = format!("rs:{k}+{m}").parse().expect("at most 256 shards");
    let codes = setting.pair.map(|kernel| Code::with_kernel(&spec, kernel).expect("MDS by theorem"));
    // Shards are never empty.
    let len = setting.len(k * m).max(1);
    let data = Buffers::painted(k, len, setting.places.inputs);
    let parities = codes.each_ref().map(|code| {
        let mut parity = Buffers::new(m, len, setting.places.outputs);
        code.encode_with(&data.slices(), &mut parity.slices_mut(), setting.locality).expect("buffers of its shape");
        assert!(parity.around_stayed(), "{} by {:?} wrote outside, {len} bytes", code.spec(), code.kernel());
        parity
    });
    let [one, other] = &parities;
    assert!(one.slices() == other.slices(), "{:?}, {spec}, {len} bytes", setting.pair);

    let mut lost = ShardSet::EMPTY;
    while lost.len() < m && !input.is_empty() {
        let at = usize::from(input.byte()) % (k + m);
        lost.insert(ShardIndex::new(u16::try_from(at).expect("at most 255")));
    }
    let shards = [data.slices(), one.slices()].concat();
    let there = lost.complement(k + m);
    let present = there.iter().map(|index| (index, shards[usize::from(index.get())])).collect::<Vec<_>>();
    for code in &codes {
        let mut rebuilt = Buffers::new(lost.len(), len, setting.places.outputs);
        let mut wanted = lost.iter().zip(rebuilt.slices_mut()).collect::<Vec<_>>();
        code.decode(&present, &mut wanted).expect("at most as many losses as parities");
        for (index, bytes) in wanted {
            let which = (code.spec(), code.kernel(), len);
            assert!(*bytes == *shards[usize::from(index.get())], "{which:?}: shard {index} of {lost:?}");
        }
        assert!(rebuilt.around_stayed(), "{} by {:?} wrote outside, {len} bytes", code.spec(), code.kernel());
    }
}

/// The same over GF(2^16), where kernels without GFNI leave encoding to another library.
fn wide(setting: &Setting, k: usize, m: usize, input: &mut Input<'_>) {
    let (k, m) = (1 + k % WIDE_SHARDS_MAX, 1 + m % WIDE_SHARDS_MAX);
    let spec = WideSpec::new(k as u32, m as u32).expect("few shards");
    let codes = setting.pair.map(|kernel| WideCode::with_kernel(&spec, kernel).expect("a sound kernel"));
    // Whole elements, and shards are never empty.
    let len = (setting.len(k + m) / 2 * 2).max(2);
    let data = Buffers::painted(k, len, setting.places.inputs);
    let parities = codes.each_ref().map(|code| {
        let mut parity = Buffers::new(m, len, setting.places.outputs);
        code.encode(&data.slices(), &mut parity.slices_mut()).expect("buffers of its shape");
        assert!(parity.around_stayed(), "{code:?} wrote outside, {len} bytes");
        parity
    });
    let [one, other] = &parities;
    assert!(one.slices() == other.slices(), "{:?}, {spec}, {len} bytes", setting.pair);

    let index = |at: usize| ShardIndex::new(u16::try_from(at).expect("few shards"));
    let mut lost = Vec::new();
    while lost.len() < m && !input.is_empty() {
        lost.push(input.below(k + m));
        lost.sort_unstable();
        lost.dedup();
    }
    let shards = [data.slices(), one.slices()].concat();
    let there = (0..k + m).filter(|at| lost.binary_search(at).is_err());
    let present = there.map(|at| (index(at), shards[at])).collect::<Vec<_>>();
    for code in &codes {
        let mut rebuilt = Buffers::new(lost.len(), len, setting.places.outputs);
        let mut wanted = lost.iter().map(|&at| index(at)).zip(rebuilt.slices_mut()).collect::<Vec<_>>();
        code.decode(&present, &mut wanted).expect("at most as many losses as parities");
        for (&at, (_, bytes)) in lost.iter().zip(&wanted) {
            assert!(**bytes == *shards[at], "{code:?}, {len} bytes: shard {at} of {lost:?}");
        }
        assert!(rebuilt.around_stayed(), "{code:?} wrote outside, {len} bytes");
    }
}
