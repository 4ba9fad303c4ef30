"""Derives parities of codes.txt from the constructions as they are written down, and from nothing else.

    python3 codes.py codes.txt

Independent of the library: field, matrices, equations and the greedy search are written anew from docs/format/fragment.md,
section 6. Prints how many lines were derived; a difference ends with status 1.
"""

import itertools
import sys

POLYNOMIAL, SHARD_BYTES = 0x11D, 16


def mul(a, b):
    product = 0
    while b:
        if b & 1:
            product ^= a
        a <<= 1
        if a & 0x100:
            a ^= POLYNOMIAL
        b >>= 1
    return product


PRODUCTS = [bytes(mul(a, b) for b in range(256)) for a in range(256)]
INVERSES = [0] + [PRODUCTS[a].index(1) for a in range(1, 256)]


def times(*factors):
    product = 1
    for factor in factors:
        product = PRODUCTS[product][factor]
    return product


def power(base, exponent):
    return times(*[base] * exponent)


def solve(square, right):
    """X with X * square = right, by columns."""
    n = len(square)
    rows = [[square[j][i] for j in range(n)] + [row[i] for row in right] for i in range(n)]
    for column in range(n):
        pivot = next(r for r in range(column, n) if rows[r][column])
        rows[column], rows[pivot] = rows[pivot], rows[column]
        scale = INVERSES[rows[column][column]]
        rows[column] = [times(scale, value) for value in rows[column]]
        for r in range(n):
            if r != column and rows[r][column]:
                factor = rows[r][column]
                rows[r] = [a ^ times(factor, b) for a, b in zip(rows[r], rows[column])]
    return [[rows[i][n + t] for i in range(n)] for t in range(len(right))]


def lch(k, m):
    order = 1
    while order < m:
        order *= 2
    c = times(*range(1, order))
    rows = []
    for i in range(m):
        row = []
        for j in range(k):
            y = order + j
            w = times(*[y ^ v for v in range(order)])
            row.append(times(w, INVERSES[times(c, i ^ y)]))
        rows.append(row)
    return rows


def cauchy(k, m):
    return [[INVERSES[(k + i) ^ j] for j in range(k)] for i in range(m)]


def power_rows(k, m):
    return [[power(2, i * j % 255) for j in range(k)] for i in range(m)]


def vandermonde(k, m):
    full = [[power(r, c) for c in range(k)] for r in range(k + m)]
    return solve(full[:k], full[k:])


def jerasure(k, m):
    full = [[power(r, c) for c in range(k)] for r in range(k + m - 1)] + [[0] * (k - 1) + [1]]
    rows = solve(full[:k], full[k:])
    rows = [[times(value, INVERSES[top]) for value, top in zip(row, rows[0])] for row in rows]
    return [[times(value, INVERSES[row[0]]) for value in row] for row in rows]


def runs(members, groups):
    start, found = 0, []
    for group in range(groups):
        length = members // groups + (group < members % groups)
        found.append(range(start, start + length))
        start += length
    return found


def spread(group, member):
    return power(2, (group + 17 * member) % 255)


def independent(columns):
    rows, rank = [list(column) for column in columns], 0
    for at in range(len(columns[0]) if columns else 0):
        pivot = next((r for r in range(rank, len(rows)) if rows[r][at]), None)
        if pivot is None:
            continue
        rows[rank], rows[pivot] = rows[pivot], rows[rank]
        scale = INVERSES[rows[rank][at]]
        for r in range(rank + 1, len(rows)):
            factor = times(rows[r][at], scale)
            rows[r] = [a ^ times(factor, b) for a, b in zip(rows[r], rows[rank])]
        rank += 1
    return rank == len(rows)


def decodes_all(groups, globals_):
    """Members of each group (with 0 for its local parity): one is free, the others' differences must be independent in any
    choice of as many global rows."""
    choices = [[]]
    for members in groups:
        longer = []
        for chosen in choices:
            for extra in range(globals_ - len(chosen) + 1):
                for some in itertools.combinations(members, extra + 1) if extra else [()]:
                    differences = [
                        [power(a, t + 1) ^ power(some[0], t + 1) for t in range(globals_)] for a in some[1:]
                    ]
                    longer.append(chosen + differences)
        choices = longer
    return all(
        independent([[column[row] for row in rows] for column in chosen])
        for chosen in choices
        for rows in itertools.combinations(range(globals_), len(chosen))
    )


def greedy(k, count, globals_):
    groups = [[0] for _ in range(count)]
    for member in range(k):
        group = groups[member % count]
        for value in range(1, 256):
            group.append(value)
            if decodes_all(groups, globals_):
                break
            group.pop()
        else:
            sys.exit("no byte is left")
    return [group[1:] for group in groups]


def lrc(k, count, globals_):
    found = runs(k, count)
    if globals_ <= 2:
        coefficients = [spread(g, i) for g, run in enumerate(found) for i in range(len(run))]
    else:
        coefficients = [value for group in greedy(k, count, globals_) for value in group]
    local = [[int(column in run) for column in range(k)] for run in found]
    return local + [[power(a, t + 1) for a in coefficients] for t in range(globals_)]


def uniform(k, count, globals_):
    n = k + count + globals_
    equations = [[0] * n for _ in range(count + globals_)]
    for g, run in enumerate(runs(k + globals_, count)):
        equations[g][k + g] = 1
        for i, member in enumerate(run):
            position = member if member < k else member + count
            equations[g][position] = 1
            for t in range(globals_):
                equations[count + t][position] = power(spread(g, i), t + 1)
    return solved(equations, k)


def solved(equations, k):
    parities = len(equations)
    square = [[equations[e][k + p] for e in range(parities)] for p in range(parities)]
    data = [[equations[e][d] for e in range(parities)] for d in range(k)]
    weights = solve(square, data)
    return [[weights[d][p] for d in range(k)] for p in range(parities)]


def xorbas():
    equations = [[power(2, i * j % 255) for j in range(14)] for i in range(4)]
    halves = [[int(j // 5 == half) for j in range(10)] for half in range(2)]
    return halves + solved(equations, 10)


def parity_rows(spec):
    if spec.startswith("slot"):
        slot, name = spec[4:].split(":", 1)
        k, m = map(int, name.removeprefix("rs:").split("+"))
        return [row[-k:] for row in lch(k * (int(slot) + 1), m)]
    if spec == "xorbas":
        return xorbas()
    family, numbers = spec.split(":")
    if family == "replicate":
        return [[1]] * (int(numbers) - 1)
    if family == "rs":
        shape, _, matrix = numbers.partition("@")
        k, m = map(int, shape.split("+"))
        names = {"": lch, "cauchy": cauchy, "power": power_rows, "vandermonde": vandermonde, "jerasure": jerasure}
        return names[matrix](k, m)
    k, count, globals_ = map(int, numbers.split(","))
    return lrc(k, count, globals_) if family == "lrc" else uniform(k, count, globals_)


def data_byte(shard, at):
    return (29 * shard * shard + 13 * at * at + 7 * shard * at + shard + 3 * at + 1) % 256


def main():
    derived = 0
    for line in open(sys.argv[1], encoding="ascii"):
        spec, *parities = line.split()
        rows = parity_rows(spec)
        for at, parity in enumerate(parities):
            expected = bytearray(SHARD_BYTES)
            for shard, factor in enumerate(rows[at]):
                for byte in range(SHARD_BYTES):
                    expected[byte] ^= PRODUCTS[factor][data_byte(shard, byte)]
            if bytes.fromhex(parity) != bytes(expected):
                sys.exit(f"{spec}: parity {at} is {parity}, by the construction {expected.hex()}")
        if len(parities) != len(rows):
            sys.exit(f"{spec}: {len(parities)} parities, by the construction {len(rows)}")
        derived += 1
    print(derived)


main()
