"""A start for the DCDM network's weights: the two-grid polynomial that its layers can hold."""

import numpy as np
import torch

# Channels hold a quantity as the difference of two, since relu(x) - relu(-x) = x: residual, direction, residual
# left for the coarse grid, correction from there. The other eight stay random.
_R, _Q, _T, _E = (0, 1), (2, 3), (4, 5), (6, 7)
_TAKEN = 8
_HIDDEN, _HIDDEN_R, _HIDDEN_Q = (0, 1), (2, 3), (4, 5)


@torch.no_grad()
def two_grid_start(network, *, fine=2.5, coarse=40.0):
    """Give a DcdmNetwork, in place, the weights of a linear two-grid cycle on an endless grid.

    .. math:: q \\leftarrow q + S_k (r - A q)

    in every residual pair, whose first convolution is the residual and whose second the polynomial S_k of degree one
    or two: Chebyshev's on the upper part of the spectrum before and after, and on nearly all of it on the coarse grid.
    Training starts from there in place of noise, and is free to leave it. Random weights of the other eight channels
    reach none of these.

    Parameters
    ----------
    network : DcdmNetwork
    fine : float
        Lowest eigenvalue that the fine steps damp; the highest is 4 ndim.
    coarse : float
        Ratio of the eigenvalues that the coarse steps damp.

    Source: Golub and Varga, Numer. Math. 3, 147 (1961); Brandt, Math. Comp. 31, 333 (1977).
    """
    ndim = network.arguments["ndim"]
    laplacian, one = _kernels(ndim, network.head.weight)
    for chain in (network.before, network.coarse, network.after):
        for first, second in zip(chain.layers[::2], chain.layers[1::2]):
            first.weight[: _TAKEN - 2] = 0
            first.weight[:, :_TAKEN] = 0
            second.weight[:_TAKEN] = 0
            second.weight[:, : _TAKEN - 2] = 0
    network.first.weight[:_TAKEN] = 0
    network.first.bias.zero_()
    network.first.weight[0, 0], network.first.weight[1, 0] = one / 2, -one / 2

    top = 4.0 * ndim
    pairs = len(network.before.layers) // 2
    roots = _roots(fine, top, 2 * pairs - 1)
    # One factor is left to the last pair, which also computes the residual after it.
    groups = [(roots[1 + k], roots[-1 - k]) for k in range(pairs - 1)] + [(roots[0],)]
    for k, group in enumerate(groups):
        step = _polynomial(group, laplacian, one)
        _pair(network.before, k, _R, [_Q], laplacian, step, one)
        if k == pairs - 1:
            _add(network.before.layers[2 * k + 1], _T, _HIDDEN, one - laplacian / group[0])

    pairs = len(network.coarse.layers) // 2
    roots = _roots(top / 4 / coarse, top / 4, 2 * pairs)
    for k in range(pairs):
        step = _polynomial((roots[k], roots[-1 - k]), laplacian / 4, one)
        _pair(network.coarse, k, _T, [_E], laplacian / 4, step, one)
    # The coarse part is added to the fine one whole: what it holds of r and q has to cancel.
    for hidden, channel in ((_HIDDEN_R, _R), (_HIDDEN_Q, _Q)):
        _add(network.coarse.layers[0], hidden, channel, one)
        _add(network.coarse.layers[1], channel, hidden, -one)

    pairs = len(network.after.layers) // 2
    roots = _roots(fine, top, 2 * pairs - 1)
    groups = [(roots[0],)] + [(roots[1 + k], roots[-1 - k]) for k in range(pairs - 1)]
    for k, group in enumerate(groups):
        _pair(network.after, k, _R, [_Q, _E], laplacian, _polynomial(group, laplacian, one), one)

    network.head.weight.zero_()
    network.head.bias.zero_()
    for plus, minus in (_Q, _E):
        network.head.weight[0, plus], network.head.weight[0, minus] = 1.0, -1.0
    return network


def _kernels(ndim, like):
    """The stencil of A with unit spacing, and the unit kernel."""
    laplacian, one = like.new_zeros((3,) * ndim), like.new_zeros((3,) * ndim)
    middle = (1,) * ndim
    one[middle], laplacian[middle] = 1.0, 2.0 * ndim
    for axis in range(ndim):
        for side in (0, 2):
            laplacian[middle[:axis] + (side,) + middle[axis + 1 :]] = -1.0
    return laplacian, one


def _roots(low, high, count):
    """Zeros of Chebyshev's polynomial on an interval, the middle one first where the count is odd."""
    angles = (2 * np.arange(count) + 1) * np.pi / (2 * count)
    roots = sorted((high + low) / 2 + (high - low) / 2 * np.cos(angles))
    return [roots.pop(count // 2), *roots] if count % 2 else roots


def _polynomial(roots, A, one):
    """S with 1 - S A = prod (1 - A / root), for one or two roots."""
    if len(roots) == 1:
        return one / roots[0]
    a, b = roots
    return (1 / a + 1 / b) * one - A / (a * b)


def _pair(chain, k, rhs, solutions, A, step, one):
    """Pair k: the last of the solutions += step (rhs - A sum of solutions)."""
    first, second = chain.layers[2 * k], chain.layers[2 * k + 1]
    _add(first, _HIDDEN, rhs, one)
    for solution in solutions:
        _add(first, _HIDDEN, solution, -A)
    _add(second, solutions[-1], _HIDDEN, step)


def _add(layer, to, source, kernel):
    """Let the quantity ``to`` depend on ``source`` through a kernel, both held as differences."""
    for sign_to, i in zip((1.0, -1.0), to):
        for sign_source, j in zip((1.0, -1.0), source):
            layer.weight[i, j] += sign_to * sign_source * kernel
