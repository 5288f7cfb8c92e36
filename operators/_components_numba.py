"""Connected components of the unknowns of a Poisson operator, by runs along the last axis."""

import numpy as np
from numba import njit, prange


@njit(cache=True)
def _root(parent, a):
    while parent[a] != a:
        parent[a] = parent[parent[a]]
        a = parent[a]
    return a


@njit(cache=True)
def _join(parent, a, b):
    a, b = _root(parent, a), _root(parent, b)
    if a != b:
        if a < b:
            parent[b] = a
        else:
            parent[a] = b


@njit(cache=True)
def _join_rows(parent, start, stop, row_a, row_b, first, line, face):
    """Join the runs of two rows that share an open face: ``line`` is the code of one, ``face`` the bit to the other."""
    a, b = first[row_a], first[row_b]
    while a < first[row_a + 1] and b < first[row_b + 1]:
        for k in range(max(start[a], start[b]), min(stop[a], stop[b])):
            if line[k] & face:
                _join(parent, a, b)
                break
        if stop[a] <= stop[b]:
            a += 1
        else:
            b += 1


@njit(parallel=True, cache=True)
def _count_runs(code):
    n0, n1, n2 = code.shape
    count = np.zeros(n0 * n1 + 1, np.int64)
    for row in prange(n0 * n1):
        line = code[row // n1, row % n1]
        total = np.int64(line[0] != 0)
        for k in range(1, n2):
            total += np.int64((line[k] != 0) & ((line[k - 1] == 0) | ((line[k] & 16) == 0)))
        count[row + 1] = total
    return count


@njit(parallel=True, cache=True)
def _fill_runs(code, first, start, stop, given):
    n0, n1, n2 = code.shape
    for row in prange(n0 * n1):
        line = code[row // n1, row % n1]
        run = first[row]
        if first[row + 1] == run:
            continue
        if first[row + 1] == run + 1:  # nearly every row: look for the ends alone
            low, high, any_given = 0, n2, np.uint8(0)
            while line[low] == 0:
                low += 1
            while line[high - 1] == 0:
                high -= 1
            for k in range(np.uint64(n2)):
                any_given |= line[k]
            start[run], stop[run], given[run] = low, high, any_given & np.uint8(128)
            continue
        inside = False
        for k in range(n2):
            c = line[k]
            if inside and c != 0 and (c & 16) == 0:  # a closed face between two unknowns
                stop[run] = k
                run += 1
                inside = False
            if c != 0:
                if not inside:
                    start[run] = k
                    inside = True
                given[run] |= c & 128
            elif inside:
                stop[run] = k
                run += 1
                inside = False
        if inside:
            stop[run] = n2


@njit(cache=True)
def _join_all(code, first, start, stop, periodic):
    n0, n1, n2 = code.shape
    parent = np.arange(start.size)
    for i in range(n0):
        for j in range(n1):
            row, line = i * n1 + j, code[i, j]
            if j > 0:
                _join_rows(parent, start, stop, row - 1, row, first, line, 4)
            elif periodic[1] and n1 > 1:
                _join_rows(parent, start, stop, row, row + n1 - 1, first, line, 4)
            if i > 0:
                _join_rows(parent, start, stop, row - n1, row, first, line, 1)
            elif periodic[0] and n0 > 1:
                _join_rows(parent, start, stop, row, row + (n0 - 1) * n1, first, line, 1)
            a, b = first[row], first[row + 1] - 1
            if periodic[2] and b > a and start[a] == 0 and stop[b] == n2 and line[0] & 16:
                _join(parent, a, b)
    return parent


def runs_of_components(code, periodic):
    """Connected components of the unknowns, run by run along the last axis.

    Returns (first run of each row, start, stop, label of each run from 1, whether each component has a given value).
    """
    first = np.cumsum(_count_runs(code))
    start = np.empty(first[-1], np.int64)
    stop = np.empty(first[-1], np.int64)
    given = np.zeros(first[-1], np.uint8)
    _fill_runs(code, first, start, stop, given)
    parent = _join_all(code, first, start, stop, periodic)
    label, count = _number(parent)
    held = np.zeros(count + 1, bool)
    held[label[given != 0]] = True
    return first, start, stop, label, held[1:]


@njit(cache=True)
def _number(parent):
    """Consecutive labels from 1; a parent always comes before its children."""
    label = np.empty(parent.size, np.int64)
    count = 0
    for a in range(parent.size):
        if parent[a] == a:
            count += 1
            label[a] = count
        else:
            label[a] = label[_root(parent, a)]
    return label, count


@njit(parallel=True, cache=True)
def paint(first, start, stop, label, out):
    """Write every run's label into its cells of out, shape (rows, n)."""
    for row in prange(out.shape[0]):
        for run in range(first[row], first[row + 1]):
            for k in range(start[run], stop[run]):
                out[row, k] = label[run]
