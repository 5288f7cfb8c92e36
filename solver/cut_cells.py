"""What the learned multigrid learned: factors for coarse faces beside walls and jumps, and relaxation weights."""

import numba
import numpy as np

from deconjugate.solver import _cut_cells_numba as kernels

# Levels told apart by the weights: the first, the second, and all coarser ones.
DEPTHS = 3
# Factors lie between exp(-bound) and exp(bound).
FACTOR_BOUND = 1.2


def kind_of(hierarchy, depth):
    """Which row of the weights a level takes, and the step from it to the next."""
    flat, varies = sum(n > 1 for n in hierarchy.levels[0].shape) < 3, not hierarchy.levels[0].uniform
    return DEPTHS * (2 * flat + varies) + min(depth, DEPTHS - 1)


class CutCells:
    """Factors for the coarse faces of a multigrid hierarchy, from a small network, and its relaxation weights.

    .. math:: t' = t \\exp(c\\, s(w^T (s(W u_- + v e + b) + s(W u_+ + v e + b)) + \\beta)), \\quad s(x) = x / (1 + |x|)

    t is the plain coarse transmissibility between two blocks; u_-, u_+ are six ratios seen from either block, e one
    of the face; all of them vanish inside a plain region and none changes when A is multiplied by a number:

    - faces inside the block along the axis against t; the same across it; coarse faces across the axis against t;
      the block's far face against t;
    - the share of the block's cells that are no unknowns; the share of given values in its diagonal;
    - e: how unevenly the fine faces that t covers are open.

    Between the finest level and the next only beta is taken: one factor for all faces did as well there, and spares
    the set-up its only look at every cell. b and beta are those of the level (first, second, coarser), of the dimension
    and of the kind of coefficient (uniform or not). Coefficients towards given values have a network of three ratios,
    or there again its bias alone. The relaxation weights of a
    level depend on the same, and on how unequal the couplings along the axes are. Whatever the weights, t' is
    positive where t is and relaxation stays inside (0, 2): see LearnedMultigrid.

    Parameters
    ----------
    arrays : dict of arrays
        The weights by name, as in the weights file.
    """

    def __init__(self, arrays):
        a = {name: np.ascontiguousarray(value, np.float32) for name, value in arrays.items()}
        self._face = a["end_weight"], a["edge_weight"]
        self._face_biases = a["hidden_bias"], a["out_weight"], a["out_bias"]
        self._given_weight, self._given_bias = a["given_weight"], a["given_bias"]
        self._given_out = a["given_out_weight"], a["given_out_bias"]
        self._relaxation = a["relaxation_logit"], a["relaxation_slope"]

    def relaxation(self, hierarchy):
        """Weights of the half-sweeps of each level, in (0, 2)."""
        logit, slope = self._relaxation
        kinds = [kind_of(hierarchy, depth) for depth in range(len(hierarchy.levels))]
        return [
            2 / (1 + np.exp(-logit[kind] - slope[kind] * level.anisotropy))
            for kind, level in zip(kinds, hierarchy.levels)
        ]

    def plain(self, hierarchy):
        """Factors of all faces and given parts below the finest level."""
        kind = kind_of(hierarchy, 0)
        return tuple(
            np.exp(FACTOR_BOUND * b / (1 + abs(b))) for b in (self._face_biases[2][kind], self._given_out[1][kind])
        )

    def adjust(self, hierarchy, faces, given, dinv, out_faces, out_given):
        """Multiply the closed coarse faces and given parts below the last level by their factors, into out."""
        level, operator = hierarchy.levels[-1], hierarchy.operator
        shape = given.shape
        kind = kind_of(hierarchy, len(hierarchy.levels) - 1)
        hidden_bias, out_weight, out_bias = self._face_biases
        given_out_weight, given_out_bias = self._given_out
        nets = (
            (*self._face, hidden_bias[kind], out_weight, out_bias[kind]),
            (self._given_weight, self._given_bias[kind], given_out_weight, given_out_bias[kind]),
        )
        kernels.adjust(
            (*level.arrays[:3], level.dinv), tuple(a.reshape(-1) for a in (*faces, given, dinv)), level.shape, shape,
            operator._periodic, tuple(n > 1 for n in operator._shape3), level.factors, *nets,
            np.float32(FACTOR_BOUND), tuple(a.reshape(-1) for a in (*out_faces, out_given)), _chunks(level.size, shape),
        )  # fmt: skip


def _chunks(size, shape):
    """Chunks of coarse planes for the threads to share where many fine cells are looked at, one plane twice in each."""
    return max(1, min(4 * numba.get_num_threads(), shape[0] // 8)) if size > 8192 else 1
