"""Checks vector.txt against the constructions of docs/design/0012-vector-codes.md, and against nothing else.

Its own tables, no third-party package. Each code is checked by its equations instead of being encoded: a word that
satisfies them is the only one with its data, since the equations of the parities are regular.

Usage: python3 vector.py vector.txt
"""

import sys

# GF(2^8), x^8+x^4+x^3+x^2+1, generator 2.
EXP = [1]
for _ in range(254):
    EXP.append((EXP[-1] << 1) ^ (0x11D if EXP[-1] & 0x80 else 0))
LOG = {value: power for power, value in enumerate(EXP)}


def mul(a, b):
    return EXP[(LOG[a] + LOG[b]) % 255] if a and b else 0


def inv(a):
    return EXP[-LOG[a] % 255]


def total(values):
    result = 0
    for value in values:
        result ^= value
    return result


# GF(2^16): (low, high) is low + high u, u^2 = u + 0x20; w = 4 + u.
def mul16(a, b):
    highs = mul(a[1], b[1])
    return mul(a[0], b[0]) ^ mul(highs, 0x20), mul(a[0], b[1]) ^ mul(a[1], b[0]) ^ highs


W = [(1, 0)]
for _ in range(65534):
    W.append(mul16(W[-1], (4, 1)))
LOG16 = {value: power for power, value in enumerate(W)}


def w(exponent):
    return W[exponent % 65535]


def power16(a, exponent):
    return w(LOG16[a] * exponent) if a in LOG16 else (0, 0)


def add16(a, b):
    return a[0] ^ b[0], a[1] ^ b[1]


def native_row(k, m, i):
    """Row i of the native matrix of rs:k+m."""
    order = 1
    while order < m:
        order *= 2
    c = 1
    for v in range(1, order):
        c = mul(c, v)
    row = []
    for j in range(k):
        y, vanishing = order + j, 1
        for v in range(order):
            vanishing = mul(vanishing, y ^ v)
        row.append(mul(vanishing, inv(mul(c, i ^ y))))
    return row


def hitchhiker(k, m, shards):
    half = len(shards[0]) // 2
    # The last k mod (m-1) sets have one member more.
    sizes = [k // (m - 1)] * (m - 1)
    for larger in range(k % (m - 1)):
        sizes[-1 - larger] += 1
    sets = [[]] + [list(range(sum(sizes[:s]), sum(sizes[: s + 1]))) for s in range(m - 1)]
    for i in range(m):
        row = native_row(k, m, i)
        for at in range(half):
            first = total(mul(row[j], shards[j][at]) for j in range(k))
            second = total(mul(row[j], shards[j][half + at]) for j in range(k))
            second ^= total(shards[j][at] for j in sets[i])
            if (first, second) != (shards[k + i][at], shards[k + i][half + at]):
                return f"parity {i} at byte {at}"
    return None


def lrc(k, l, r, shards):
    half = len(shards[0]) // 2
    sizes = [k // l + (1 if g < k % l else 0) for g in range(l)]
    starts = [sum(sizes[:g]) for g in range(l)]
    # Heavy row t has these elements at the data and at the globals, and 0 at the local parities.
    def heavy(t):
        def twisted(group, beta):
            return mul16(w(group * ((16**t - 1) // 15)), power16(beta, 16**t))

        row = []
        for g in range(l):
            for i in range(sizes[g]):
                beta = (0, 0)
                for s in range(1, r + 1):
                    beta = add16(beta, w(4369 * i * s + s - 1))
                row.append((len(row), twisted(g, beta)))
        return row + [(k + l + j, twisted(l, w(j))) for j in range(r)]

    rows = [heavy(t) for t in range(r)]
    for at in range(half):
        word = [(shard[at], shard[half + at]) for shard in shards]
        for g in range(l):
            members = word[starts[g] : starts[g] + sizes[g]] + [word[k + g]]
            if total(low for low, _ in members) or total(high for _, high in members):
                return f"local group {g} at byte {at}"
        for t, row in enumerate(rows):
            sum16 = (0, 0)
            for place, element in row:
                sum16 = add16(sum16, mul16(element, word[place]))
            if sum16 != (0, 0):
                return f"heavy row {t} at byte {at}"
    return None


def clay(k, m, shards):
    rows = -(-(k + m) // m)
    nodes, alpha = rows * m, m**rows
    zero = [0] * len(shards[0])
    grid = shards[:k] + [zero] * (nodes - k - m) + shards[k:]
    size = len(shards[0]) // alpha
    data = nodes - m
    inverse = inv(1 ^ mul(2, 2))
    for layer in range(alpha):
        digits = [layer // m ** (rows - 1 - y) % m for y in range(rows)]
        for at in range(size):
            uncoupled = []
            for node in range(nodes):
                x, y = node % m, node // m
                own = grid[node][layer * size + at]
                if digits[y] != x:
                    other = layer + (x - digits[y]) * m ** (rows - 1 - y)
                    partner = grid[y * m + digits[y]][other * size + at]
                    own = mul(inverse, own ^ mul(2, partner))
                uncoupled.append(own)
            for i in range(m):
                if total(mul(inv((data + i) ^ j), uncoupled[j]) for j in range(data)) != uncoupled[data + i]:
                    return f"layer {layer}, row {i} at byte {at}"
    return None


def check(line):
    spec, *fields = line.split()
    shards = [list(bytes.fromhex(field)) for field in fields]
    family, numbers = spec.split(":")
    numbers = [int(number) for number in numbers.removesuffix("@gf16").replace("+", ",").split(",")]
    for i, shard in enumerate(shards[: numbers[0]]):
        if shard != [(i * 31 + j * 7 + 1) % 256 for j in range(len(shard))]:
            return spec, f"data shard {i} is not the one agreed on"
    if len(shards) != sum(numbers):
        return spec, f"{len(shards)} shards"
    return spec, {"hitchhiker": hitchhiker, "lrc": lrc, "clay": clay}[family](*numbers, shards)


def main():
    with open(sys.argv[1], encoding="ascii") as text:
        lines = [line for line in text if line.strip() and not line.startswith("#")]
    for line in lines:
        spec, wrong = check(line)
        if wrong:
            sys.exit(f"{spec}: {wrong}")
        print(spec)


if __name__ == "__main__":
    main()
