"""Deep conjugate directions on a Poisson operator, with the guards that a network needs."""

from pathlib import Path

import numpy as np

from deconjugate.operators.learned import weights as weight_files
from deconjugate.solver.conjugate import deep_conjugate_directions

WEIGHTS = Path(__file__).parent / "weights"
# A network that has not halved the residual in so many steps is retired for the rest of the solve.
_PATIENCE = 20


def shipped_weights(ndim):
    """The file of the weights that come with the package."""
    return WEIGHTS / f"dcdm-{ndim}d.safetensors"


def load_network(path, ndim, device="cpu"):
    """(DcdmNetwork with the weights of a file, its card)."""
    from deconjugate.operators.learned.device import choose
    from deconjugate.solver.dcdm import DcdmNetwork

    card = weight_files.read_card(path, architecture="DcdmNetwork", ndim=ndim)
    network = DcdmNetwork(**card["arguments"])
    weight_files.into(network, path, architecture="DcdmNetwork", ndim=ndim)
    return network.to(choose(device)).eval().requires_grad_(False), card


class DcdmSolver:
    """The network's directions, multigrid's where they fail, steepest descent where both do.

    A direction that is not finite or of no positive curvature is replaced by a multigrid cycle's, for that step; a
    network that halves the residual in fewer than one of 20 steps is retired and multigrid goes on. The network works
    in single precision on the whole grid; its directions are cut to the unknowns and freed of their part in the null
    space; all else is in double.

    Parameters
    ----------
    operator : PoissonOperator
    null_space : NullSpace
    fallback : callable
        r to a direction: a multigrid cycle.
    network : DcdmNetwork, optional
        On its device; by default the weights of the package.

    Raises
    ------
    deconjugate.operators.learned.weights.WeightsError
        Where the weights are absent, damaged or of another dimension.
    """

    def __init__(self, operator, null_space, fallback, *, network=None, device="cpu"):
        ndim = len(operator.grid_shape)
        if network is None:
            network, _ = load_network(shipped_weights(ndim), ndim, device)
        elif network.arguments["ndim"] != ndim:
            raise ValueError(f"network is for {network.arguments['ndim']} axes; the operator has {ndim}")
        self.operator, self.null_space, self.network = operator, null_space, network
        self._fallback = fallback
        self._unknowns = operator.unknowns
        self.fallbacks = []

    def direction(self, r):
        """The network's direction for a residual of the grid's shape."""
        import torch

        from deconjugate.solver.dcdm import propose

        device = next(self.network.parameters()).device
        with torch.inference_mode():
            q = propose(self.network, torch.as_tensor(r[None], dtype=torch.float32, device=device))[0]
        return self._admissible(q.cpu().numpy().astype(np.float64))

    def solve(self, b, x, target, maxiter, callback=None):
        """Improve x in place until ||b - A x|| <= target; (status, residual norms).

        ``fallbacks`` then names what else was needed: "multigrid", "steepest descent".
        """
        self.fallbacks = []
        norms, retired = [], False

        def propose(r):
            return np.full_like(r, np.nan) if retired else self.direction(r)

        def fall_back(r):
            q = self._admissible(self._fallback(r))
            # What is not finite leaves the residual itself, in the loop of the directions.
            for name in ("multigrid",) if np.isfinite(q).all() else ("multigrid", "steepest descent"):
                if name not in self.fallbacks:
                    self.fallbacks.append(name)
            return q

        def watch(x):
            nonlocal retired
            norms.append(float(np.linalg.norm(b - self.operator.apply(x))))
            retired = retired or (len(norms) > _PATIENCE and norms[-1] > 0.5 * norms[-1 - _PATIENCE])
            if callback is not None:
                callback(x)

        x[:], status, found = deep_conjugate_directions(
            self.operator,
            b,
            propose,
            x0=x,
            rtol=0.0,
            atol=target,
            maxiter=maxiter,
            fallback=fall_back,
            callback=watch,
        )
        return status, found

    def _admissible(self, q):
        if not np.isfinite(q).all():
            return np.full_like(q, np.nan)
        q *= self._unknowns
        self.null_space.center(q)
        return q
