"""Reads a stream back from a folder of Ninefold fragments: reader.py DIR OUT [--stream NAME|ID]
Written from docs/format/fragment.md alone (section numbers below are its), with the standard library and `blake3`.
Exit code 0: OUT is the stream, every byte proven. 1: it cannot be had from what is in DIR, and OUT is not written."""
import collections, functools, operator, os, struct, sys, zlib
from blake3 import blake3
Record = collections.namedtuple("Record", "raw extent code size hash stream ordinal stream_size name entries extents")
EXP = [1] * 510
for e in range(1, 510): EXP[e] = EXP[e - 1] << 1 ^ (0x11D if EXP[e - 1] & 0x80 else 0)
LOG = {value: e for e, value in enumerate(EXP[:255])}
def mul(a, b): return EXP[LOG[a] + LOG[b]] if a and b else 0
def inv(a): return EXP[255 - LOG[a]]
def power(a, e): return 1 if e == 0 else EXP[LOG[a] * e % 255] if a else 0
def shard_size(size, k): return -(-(-(-size // k)) // 4096) * 4096
def crc_ok(raw): return zlib.crc32(raw[:-4]) == int.from_bytes(raw[-4:], "little")
def need(ok, what):
    if not ok: raise ValueError(what)

def solve(rows, k):  # X with X * rows = identity of order k, or None
    work = [list(row) + [int(i == j) for j in range(len(rows))] for i, row in enumerate(rows)]
    for c in range(k):
        pivot = next((i for i in range(c, len(work)) if work[i][c]), None)
        if pivot is None: return None
        work[c], work[pivot] = work[pivot], work[c]
        work[c] = [mul(inv(work[c][c]), x) for x in work[c]]
        for i, row in enumerate(work):
            if i != c and row[c]: work[i] = [x ^ mul(row[c], y) for x, y in zip(row, work[c])]
    return [row[k:] for row in work[:k]]

def solved(E, k):  # the parities of equations over all shards, data first, as rows over the data
    m = len(E)
    columns = list(zip(*solve([row[k:] for row in E], m)))
    return [[functools.reduce(operator.xor, map(mul, [inverse[p] for inverse in columns], [row[j] for row in E])) for j in range(k)] for p in range(m)]

def runs(members, l):  # (group, place in the group) of each
    return [(group, i) for group in range(l) for i in range(members // l + (group < members % l))]

TABLES = {(3, 1): "01020407080b0d0e10131516191a1c", (3, 2): "0104071a2c43b8/02081022305c", (3, 3): "0104102183/02081730ba/030c1e48",
    (3, 4): "0106104c/02081797/030c18/040d24", (3, 5): "0107169c/02081d/030c25/041027/050b4a",
    (3, 6): "010820/020c18/03102a/040b4f/051237/061f", (4, 1): "010204080f1121354364839b", (4, 2): "0104071b77/0208112b",
    (4, 3): "01080be3/021049/042227", (4, 4): "010841/0210/0426/0738", (4, 5): "0110/021c/0428/0746/086c",
    (4, 6): "0110/021c/0429/0740/0893/0be5"}

def generator(code):  # sections 5 and 6: the n rows of a code, unit vectors, then P
    family, field, matrix, zero, k, n, l, g, slot = struct.unpack("<4B4HI", code)
    need(field == 1 and zero == slot == 0 and 1 <= k <= n <= 256 and (family in (3, 4) or l == g == 0), "unknown code")
    m = n - k
    if (family, matrix, k) == (1, 0, 1): P = [[1]] * m
    elif (family, matrix) == (2, 1):
        M = 1 << (m - 1).bit_length()
        c, W = functools.reduce(mul, range(1, M), 1), [functools.reduce(mul, (M + j ^ v for v in range(M))) for j in range(k)]
        P = [[mul(W[j], inv(mul(c, i ^ M + j))) for j in range(k)] for i in range(m)]
    elif (family, matrix) == (2, 2): P = [[inv(k + i ^ j) for j in range(k)] for i in range(m)]
    elif (family, matrix) == (2, 3): P = [[power(2, i * j) for j in range(k)] for i in range(m)]
    elif (family, matrix) in ((2, 4), (2, 5)):
        V = [[power(r, c) for c in range(k)] for r in range(n)]
        if matrix == 5: V[-1] = [0] * (k - 1) + [1]
        columns = list(zip(*solve(V[:k], k)))
        P = [[functools.reduce(operator.xor, map(mul, row, column)) for column in columns] for row in V[k:]]
        if matrix == 5:
            P = [[mul(x, inv(top)) for x, top in zip(row, P[0])] for row in P]
            P = [[mul(x, inv(row[0])) for x in row] for row in P]
    elif family == 3 and l + g == m and 1 <= l <= k and (matrix, g) in ((1, 1), (1, 2), (2, 3), (2, 4)):
        members = runs(k, l)
        table = [bytes.fromhex(row) for row in TABLES[g, l].split("/")] if matrix == 2 else None
        a = [table[group][i] if table else power(2, group + 17 * i) for group, i in members]
        P = [[int(group == own) for group, _ in members] for own in range(l)] + [[power(x, t + 1) for x in a] for t in range(g)]
    elif (family, matrix) == (4, 1) and l + g == m and 1 <= l <= k and g in (1, 2):
        E = [[0] * n for _ in range(m)]
        for own in range(l): E[own][k + own] = 1
        for member, (group, i) in enumerate(runs(k + g, l)):
            at = member if member < k else member + l
            E[group][at] = 1
            for t in range(g): E[l + t][at] = power(power(2, group + 17 * i), t + 1)
        P = solved(E, k)
    elif (family, matrix, k, m) == (5, 1, 10, 6):
        P = [[int(j // 5 == half) for j in range(10)] for half in range(2)]
        P += solved([[power(2, i * j) for j in range(14)] for i in range(4)], 10)
    else: raise ValueError("unknown code")
    return [[int(i == j) for j in range(k)] for i in range(k)] + P

def read_record(raw):  # section 4
    need(len(raw) >= 164 and raw[:8] == b"NFXR\1\0\0\0" and crc_ok(raw), "record")
    size, digest, stream, ordinal, _, total, _, name_size, n, _, extents, more = struct.unpack_from("<Q32s16s3Q4H2I", raw, 64)
    entries_at = 160 + name_size
    list_at, at = entries_at + 88 * n, entries_at + 88 * n + 32 * extents
    need(len(raw) == at + more + 4 and n == int.from_bytes(raw[54:56], "little"), "lengths in the record")
    entries = [(raw[i:i + 56], raw[i + 56:i + 88]) for i in range(entries_at, list_at, 88)]
    listed = [raw[i:i + 16] for i in range(list_at, at, 32)]
    while at < len(raw) - 4:
        kind, length = struct.unpack_from("<HH", raw, at)
        need(kind < 0x8000, "unknown critical extension")
        at += 4 + length
    return Record(raw, raw[24:40], raw[48:64], size, digest, stream, ordinal, total, raw[160:entries_at], entries, listed)

def read_fragment(path):  # sections 2 and 3: the record, the birth identity, the root as computed, and the payload
    with open(path, "rb") as file: raw = file.read()
    header, footer = raw[:4096], raw[-128:]
    need(len(header) == 4096 and header[:8] == b"\x89NFF\r\n\x1a\n" and crc_ok(header), "header")
    need(header[10:16] == b"\1\0\0\0\0\0" and header[74:80] == b"\x0c\1\1\0\0\0", "newer format, or values that nobody knows")
    identity, (L, k, size, record_size) = header[24:80], struct.unpack_from("<Q12xH10xQI", header, 64)
    need(k and size <= 1 << 30 and 1 <= record_size <= 65536 and L == shard_size(size, k), "numbers in the header")
    table_at, record_at = 4096 + L, 4096 + L + L // 1024
    need(len(raw) == table_at + -(-(L // 1024 + record_size + 128) // 4096) * 4096, "size of the file")
    need(footer[:8] == b"NFFSEAL1" and crc_ok(footer) and footer[104:124] == identity[40:48] + bytes(12), "footer")
    need(footer[8:40] == blake3(header).digest() and footer[40:72] == blake3(raw[table_at:-128]).digest(), "seal")
    seed, payload = int.from_bytes(blake3(identity).digest()[:4], "little"), raw[4096:table_at]
    for block, crc in enumerate(struct.unpack_from(f"<{L // 4096}I", raw, table_at)):
        need(zlib.crc32(payload[4096 * block:4096 * block + 4096], seed ^ block) == crc, f"block {block}")
    root = blake3(identity + blake3(payload).digest()).digest()
    need(root == footer[72:104], "root")
    return read_record(raw[record_at:record_at + record_size]), identity, root, payload

def decode(record, fragments):  # the bytes of an extent, from those fragments that its record on file names and that carry it
    shards = {record.entries.index((identity, root)): payload for kept, identity, root, payload in fragments
              if kept.raw == record.raw and (identity, root) in record.entries}
    rows, at_hand, k = generator(record.code), sorted(shards), record.code[4] + 256 * record.code[5]
    combinations = solve([rows[index] for index in at_hand], k)
    need(combinations, f"extent {record.extent.hex()}: not decodable from fragments {at_hand}")
    data = bytearray()
    for factors in combinations:
        terms = (shards[index].translate(bytes(mul(f, x) for x in range(256))) for index, f in zip(at_hand, factors) if f)
        total = functools.reduce(operator.xor, (int.from_bytes(term, "little") for term in terms), 0)
        data += total.to_bytes(shard_size(record.size, k), "little")
    need(blake3(data[:record.size]).digest() == record.hash, f"extent {record.extent.hex()}: hash")
    return data[:record.size]

def read_stream(folder, wanted):
    found, on_file = collections.defaultdict(list), {}
    for entry in (entry for entry in os.scandir(folder) if entry.is_file(follow_symlinks=False)):
        try: fragment = read_fragment(entry.path)
        except (ValueError, struct.error) as why: print(f"{entry.name}: {why}", file=sys.stderr)
        else: found[fragment[1][16:32]].append(fragment)
    for extent, fragments in found.items():
        carried = collections.Counter(fragment[0].raw for fragment in fragments)  # section 3: most carriers, revision, least hash
        record = read_record(max(carried, key=lambda raw: (carried[raw], raw[47:39:-1], [-b for b in blake3(raw).digest()])))
        if wanted is None or wanted in (os.fsdecode(record.name), record.stream.hex()): on_file[extent] = record
    need(len({record.stream for record in on_file.values()}) == 1, "no fragments of the stream, or of several streams")
    records = sorted(on_file.values(), key=lambda record: record.ordinal)
    extents = next((record.extents for record in records if record.extents), [record.extent for record in records])
    here = [on_file[extent].ordinal for extent in extents if extent in on_file]
    need(here == list(range(len(extents))), f"of {len(extents)} extents of the stream only {here} have fragments here")
    data = b"".join(decode(on_file[extent], found[extent]) for extent in extents)
    need(records[0].stream_size in (len(data), 2**64 - 1), "size of the stream")
    return data

if __name__ == "__main__":
    try: data = read_stream(sys.argv[1], sys.argv[4] if sys.argv[3:4] == ["--stream"] else None)
    except ValueError as why: sys.exit(f"reader.py: {why}")
    with open(sys.argv[2], "wb") as out: out.write(data)
