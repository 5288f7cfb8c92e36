"""Which coarse cell a fine cell belongs to, where its block is not the answer.

A block that a wall or a jump of the coefficient cuts in two would tie together what A hardly couples, and a few such
ties spoil conjugate gradients. The part of a block with the largest coefficients keeps it; another part joins the
block of the neighbour it is strongly coupled to, provided that neighbour keeps its own block or has just moved.
"""

import numpy as np
from numba import njit, prange

OPTIONS = {"error_model": "numpy", "cache": True}

# A face is strong when its transmissibility is at least this fraction of the largest of its two cells'.
STRONG = 0.02
# A part leaves its block when the pull of its neighbour is so many times its coupling to the rest of the block.
PULL = 4.0
# The part that keeps the block is the first one not outweighed by this factor: neighbours then choose alike.
OUTWEIGHS = 1.2


@njit(inline="always")
def _face(s0, s1, s2, i, j, k, face):
    if face == 0:
        return s0[i, j, k]
    if face == 1:
        return s0[i + 1, j, k]
    if face == 2:
        return s1[i, j, k]
    if face == 3:
        return s1[i, j + 1, k]
    if face == 4:
        return s2[i, j, k]
    return s2[i, j, k + 1]


@njit(inline="always")
def _wrapped(index, n):
    """index modulo n, for one that is past an end by one at most: a division costs more than all else here."""
    if index < 0:
        return index + n
    return index - n if index >= n else index


@njit(inline="always")
def _across(i, j, k, face, shape):
    """The cell behind a face, periodic or not: only open faces are asked about."""
    step = 2 * (face % 2) - 1
    if face < 2:
        return _wrapped(i + step, shape[0]), j, k
    if face < 4:
        return i, _wrapped(j + step, shape[1]), k
    return i, j, _wrapped(k + step, shape[2])


@njit(**OPTIONS)
def _largest(s0, s1, s2, i, j, k):
    return max(s0[i, j, k], s0[i + 1, j, k], s1[i, j, k], s1[i, j + 1, k], s2[i, j, k], s2[i, j, k + 1])


@njit(**OPTIONS)
def _add_face_row(t, strongest, weakest, inside):
    """What the faces across the row do to the strongest face of each cell, and to the weakest inside its block."""
    for k in range(np.uint64(strongest.size)):
        strongest[k] = t[k] if t[k] > strongest[k] else strongest[k]
    if inside:
        for k in range(np.uint64(weakest.size)):
            weakest[k] = t[k] if t[k] < weakest[k] else weakest[k]


@njit(**OPTIONS)
def _add_faces_along(t, strongest, weakest, inside):
    """The same for the faces along the row; those before cells of odd index are inside a block of two."""
    one, two, n = np.uint64(1), np.uint64(2), np.uint64(strongest.size)
    for k in range(n):
        larger = t[k] if t[k] > t[k + one] else t[k + one]
        strongest[k] = larger if larger > strongest[k] else strongest[k]
    if inside:
        for m in range(n // two):
            k = two * m + one
            weakest[k] = t[k] if t[k] < weakest[k] else weakest[k]


@njit(**OPTIONS)
def _find_whole(s0, s1, s2, factors, bi, bj, strongest, weakest, whole):
    """Whether all faces inside each block of a row are strong: the common case, told without labels."""
    n0, n1, n2 = s0.shape[0] - 1, s0.shape[1], s0.shape[2]
    i0, j0 = bi * factors[0], bj * factors[1]
    i1, j1 = min(i0 + factors[0], n0), min(j0 + factors[1], n1)
    strongest[:] = 0
    weakest[:] = np.inf
    for i in range(i0, i1 + 1):
        for j in range(j0, j1 + 1):
            if j < j1:
                _add_face_row(s0[i, j], strongest, weakest, i0 < i < i1)
            if i < i1:
                _add_face_row(s1[i, j], strongest, weakest, j0 < j < j1)
            if i < i1 and j < j1:
                _add_faces_along(s2[i, j], strongest, weakest, factors[2] == 2)
    share, zero, one, two = np.float32(STRONG), np.float32(0), np.uint64(1), np.uint64(2)
    if factors[2] == 1:
        for k in range(np.uint64(n2)):
            whole[k] = strongest[k] == zero or (weakest[k] > zero and weakest[k] >= share * strongest[k])
        return
    for m in range(np.uint64(n2 // 2)):
        k = two * m
        most = strongest[k] if strongest[k] > strongest[k + one] else strongest[k + one]
        least = weakest[k] if weakest[k] < weakest[k + one] else weakest[k + one]
        whole[m] = most == zero or (least > zero and least >= share * most)
    if n2 % 2:
        k = n2 - 1
        whole[n2 // 2] = strongest[k] == zero or (weakest[k] > zero and weakest[k] >= share * strongest[k])


@njit(**OPTIONS)
def _parts_of_block(s0, s1, s2, dinv, shape, factors, bi, bj, bk, part, cells, label, largest):
    """Label the parts of one block in part: 0 keeps the block, 1.. do not; returns whether there are several."""
    m = 0
    for i in range(bi * factors[0], min((bi + 1) * factors[0], shape[0])):
        for j in range(bj * factors[1], min((bj + 1) * factors[1], shape[1])):
            for k in range(bk * factors[2], min((bk + 1) * factors[2], shape[2])):
                if dinv[i, j, k] > 0:
                    cells[m, 0], cells[m, 1], cells[m, 2] = i, j, k
                    label[m] = m
                    largest[m] = _largest(s0, s1, s2, i, j, k)
                    m += 1
    several = m > 1
    if not several:
        return False
    groups = m
    for a in range(m):
        for b in range(a + 1, m):
            # Cells of a block come in C order, so b is behind a high face of a wherever they touch.
            d0, d1, d2 = cells[b, 0] - cells[a, 0], cells[b, 1] - cells[a, 1], cells[b, 2] - cells[a, 2]
            if abs(d0) + abs(d1) + abs(d2) != 1:
                continue
            t = _face(s0, s1, s2, cells[a, 0], cells[a, 1], cells[a, 2], 1 if d0 else (3 if d1 else 5))
            if t > 0 and t >= STRONG * max(largest[a], largest[b]) and label[a] != label[b]:
                old, new = label[b], label[a]
                for c in range(m):
                    if label[c] == old:
                        label[c] = new
                groups -= 1
    if groups == 1:
        return False
    keeps, best = -1, 0.0
    for group in range(m):
        weight = 0.0
        for c in range(m):
            if label[c] == group:
                weight += 1 / dinv[cells[c, 0], cells[c, 1], cells[c, 2]]
        if weight > OUTWEIGHS * best:
            keeps, best = group, weight
    for c in range(m):
        if label[c] != keeps:
            part[cells[c, 0], cells[c, 1], cells[c, 2]] = label[c] + 1
    return True


@njit(parallel=True, **OPTIONS)
def find_parts(s0, s1, s2, dinv, factors, part):
    """Label every block's parts in part (zero at first); returns for each block whether it has several."""
    shape = dinv.shape
    m0, m1, m2 = -(-shape[0] // factors[0]), -(-shape[1] // factors[1]), -(-shape[2] // factors[2])
    several = np.zeros((m0 * m1, m2), np.bool_)
    for row in prange(m0 * m1):
        cells = np.empty((8, 3), np.int64)
        label = np.empty(8, np.int64)
        largest = np.empty(8, np.float32)
        extremes, whole = np.empty((2, shape[2]), np.float32), np.empty(m2, np.bool_)
        bi, bj = np.int64(row) // m1, np.int64(row) % m1
        _find_whole(s0, s1, s2, factors, bi, bj, extremes[0], extremes[1], whole)
        for bk in range(m2):
            if not whole[bk]:
                several[row, bk] = _parts_of_block(
                    s0, s1, s2, dinv, shape, factors, bi, bj, bk, part, cells, label, largest
                )
    return several


@njit(**OPTIONS)
def _move_block(s0, s1, s2, shape, factors, bi, bj, bk, part, target, settled, pull, whither):
    """Find a new block for each part of one block that does not keep it; settled says whose target counts."""
    m1, m2 = -(-shape[1] // factors[1]), -(-shape[2] // factors[2])
    waiting = 0  # a bit for each part without a new block
    for i in range(bi * factors[0], min((bi + 1) * factors[0], shape[0])):
        for j in range(bj * factors[1], min((bj + 1) * factors[1], shape[1])):
            for k in range(bk * factors[2], min((bk + 1) * factors[2], shape[2])):
                if target[i, j, k] < 0:
                    waiting |= 1 << np.int64(part[i, j, k])
    if waiting <= 1:
        return
    h0, h1, h2 = factors[0] - 1, factors[1] - 1, factors[2] - 1  # i >> h0 is the block of cell i
    for label in range(1, 9):
        if not waiting >> label & 1:
            continue
        held = 0.0
        for face in range(6):
            pull[face] = 0.0
        for i in range(bi * factors[0], min((bi + 1) * factors[0], shape[0])):
            for j in range(bj * factors[1], min((bj + 1) * factors[1], shape[1])):
                for k in range(bk * factors[2], min((bk + 1) * factors[2], shape[2])):
                    if part[i, j, k] != label or target[i, j, k] >= 0:
                        continue
                    for face in range(6):
                        t = _face(s0, s1, s2, i, j, k, face)
                        if t <= 0:
                            continue
                        ii, jj, kk = _across(i, j, k, face, shape)
                        if ii >> h0 == bi and jj >> h1 == bj and kk >> h2 == bk:
                            if part[ii, jj, kk] != label:
                                held += t
                        elif part[ii, jj, kk] == 0:
                            pull[face] += t
                            whither[face] = ((ii >> h0) * m1 + (jj >> h1)) * m2 + (kk >> h2)
                        elif settled[ii, jj, kk] >= 0:
                            pull[face] += t
                            whither[face] = settled[ii, jj, kk]
        best = np.argmax(pull)
        if pull[best] > PULL * held:
            for i in range(bi * factors[0], min((bi + 1) * factors[0], shape[0])):
                for j in range(bj * factors[1], min((bj + 1) * factors[1], shape[1])):
                    for k in range(bk * factors[2], min((bk + 1) * factors[2], shape[2])):
                        if part[i, j, k] == label:
                            target[i, j, k] = whither[best]


@njit(parallel=True, **OPTIONS)
def move_parts(s0, s1, s2, factors, several, part, target, settled):
    """One round of :func:`_move_block` over the blocks of several parts."""
    shape = part.shape
    m1 = -(-shape[1] // factors[1])
    for row in prange(several.shape[0]):
        bi, bj = np.int64(row) // m1, np.int64(row) % m1
        pull, whither = np.empty(6), np.empty(6, np.int64)
        for bk in range(several.shape[1]):
            if several[row, bk]:
                _move_block(s0, s1, s2, shape, factors, bi, bj, bk, part, target, settled, pull, whither)


@njit(**OPTIONS)
def _add_face(a, b, t, coarse_shape, periodic, t0, t1, t2):
    """Add t to the face between coarse cells a and b; cells that share no face are left uncoupled."""
    _, m1, m2 = coarse_shape
    pa = (a // (m1 * m2), a // m2 % m1, a % m2)
    pb = (b // (m1 * m2), b // m2 % m1, b % m2)
    axis, apart = -1, 0
    for d in range(3):
        if pa[d] != pb[d]:
            axis = d
            apart += 1
    if apart != 1:
        return
    low, high = min(pa[axis], pb[axis]), max(pa[axis], pb[axis])
    if high - low == 1:
        at = high
    elif periodic[axis] and high - low == coarse_shape[axis] - 1:
        at = 0
    else:
        return
    if axis == 0:
        t0[at, pa[1], pa[2]] += t
    elif axis == 1:
        t1[pa[0], at, pa[2]] += t
    else:
        t2[pa[0], pa[1], at] += t


@njit(**OPTIONS)
def add_moved(moved, s0, s1, s2, given, target, factors, periodic, t0, t1, t2, extra, factor, factor_given):
    """Add to the next level the faces and given parts of the moved cells (flat indices, ascending)."""
    shape, coarse_shape = given.shape, extra.shape
    _, m1, m2 = coarse_shape
    for cell in moved:
        i, j, k = cell // (shape[1] * shape[2]), cell // shape[2] % shape[1], cell % shape[2]
        here = target[i, j, k]
        extra[here // (m1 * m2), here // m2 % m1, here % m2] += factor_given * given[i, j, k]
        for face in range(6):
            t = _face(s0, s1, s2, i, j, k, face)
            if t <= 0:
                continue
            ii, jj, kk = _across(i, j, k, face, shape)
            there = np.int64(target[ii, jj, kk])
            if there < 0:
                there = (ii // factors[0] * m1 + jj // factors[1]) * m2 + kk // factors[2]
            elif (ii * shape[1] + jj) * shape[2] + kk < cell:
                continue  # a moved neighbour has added their face already
            if there != here:
                _add_face(here, there, factor * t / factors[face // 2], coarse_shape, periodic, t0, t1, t2)
