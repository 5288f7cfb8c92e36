"""What the DCDM network is trained on: Ritz mixtures and the residuals that the iteration itself meets."""

from dataclasses import dataclass

import numpy as np
import torch

from deconjugate.operators.poisson import PoissonOperator
from deconjugate.solver._stencils import Stencils
from deconjugate.solver.dcdm import dot, line_search, propose
from deconjugate.solver.gallery import right_hand_sides
from deconjugate.solver.ritz import RitzBasis

# Seeds of geometries from here on are kept for validation.
HOLD_OUT = 1 << 40
# Losses above this count as this.
_WILD = 4.0


@dataclass(frozen=True)
class DcdmData:
    """Which systems are drawn.

    Parameters
    ----------
    size, ndim : int
        Cells along each side, axes.
    batch : int
        Systems in a step.
    life : int
        Each system is followed for 1 to ``life`` steps; 1 is the paper's loss on fresh right-hand sides.
    window : int
        Directions that the network's is made conjugate to, as in the solver.
    lanczos : int
        Vectors of the Ritz basis of each geometry.
    ritz : float in [0, 1]
        Share of systems that start as Ritz mixtures; the others are white, smooth or the divergence of a flow.
    geometries : int
        How many different ones; 0 for a new one with every system.
    open : float in [0, 1]
        Share of geometries with given values on some sides.
    loss : "energy" or "residual"
        The energy that a step leaves, or the paper's loss.
    seed : int
    """

    size: int = 32
    ndim: int = 3
    batch: int = 4
    life: int = 30
    window: int = 2
    lanczos: int = 48
    ritz: float = 0.4
    geometries: int = 0
    open: float = 0.25
    loss: str = "energy"
    seed: int = 0

    def __post_init__(self):
        for name, least in (("size", 4), ("batch", 1), ("life", 1), ("window", 0), ("lanczos", 2), ("geometries", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; give at least {least}")
        for name in ("ritz", "open"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; a share lies between 0 and 1")
        if self.loss not in ("energy", "residual"):
            raise ValueError(f"loss is {self.loss!r}; choose energy or residual")


# The paper's own: one matrix, 10,000 Lanczos vectors, fresh mixtures.
PAPER = {
    "batch": 10,
    "life": 1,
    "window": 0,
    "lanczos": 10_000,
    "ritz": 1.0,
    "geometries": 1,
    "open": 0.0,
    "loss": "residual",
}


def random_geometry(shape, seed, open_share=0.25):
    """A box, every sixth one empty, with random balls and blocks, all sides closed or some of given value.

    None of the gallery's: those are for tests and tables.
    """
    rng = np.random.default_rng(seed)
    cells = np.ones(shape, bool)
    position = np.ogrid[tuple(slice(0, n) for n in shape)]
    for _ in range(0 if rng.random() < 1 / 6 else rng.integers(1, 13)):
        if rng.random() < 0.5:
            center, radius = rng.uniform(0, shape), rng.uniform(0.05, 0.2) * min(shape)
            cells[sum((x + 0.5 - c) ** 2 for x, c in zip(position, center)) < radius**2] = False
        else:
            low = [int(rng.integers(0, n)) for n in shape]
            cells[tuple(slice(k, k + int(rng.integers(1, max(n // 3, 2)))) for k, n in zip(low, shape))] = False
    cells[tuple(n // 2 for n in shape)] = True
    boundary = [["neumann", "neumann"] for _ in shape]
    if rng.random() < open_share:
        for _ in range(rng.integers(1, 3)):
            boundary[rng.integers(len(shape))][rng.integers(2)] = "dirichlet"
    return PoissonOperator(cells, boundary=boundary)


class DcdmTask:
    """The loss of the network on a stream of systems, for :func:`deconjugate.operators.learned.training.train`.

    .. math:: p = q - \\sum_i p_i (p_i^T A q) / (p_i^T A p_i), \\quad q = net(b)

    with a loss of :func:`deconjugate.solver.dcdm.line_search` on p.

    With life 1 this is the paper's loss on the paper's data. Beyond, what the line search leaves of b is the same
    system's next b: the network learns on the residuals that it meets, at no extra cost.

    Parameters
    ----------
    data : DcdmData
    device : str
    """

    def __init__(self, data, device="cpu"):
        self.data, self.device = data, device
        self.shape = (data.size,) * data.ndim
        self._bases = {}
        batch = data.batch
        self.geometry = torch.zeros(batch, dtype=torch.int64)
        self.drawn = torch.zeros((), dtype=torch.int64)
        self.left = torch.zeros(batch, dtype=torch.int64)
        zeros = torch.zeros(batch, *self.shape, device=device)
        self.b, self.remaining = zeros.clone(), torch.ones(batch, device=device)
        self.previous = [(zeros.clone(), zeros.clone()) for _ in range(data.window)]
        self._operators = [None] * batch
        self._renew(range(batch))

    def loss(self, network, step):
        A, b = self._A, self.b
        b = A.project(b)
        b = b / dot(b, b).sqrt()
        p = q = A.project(propose(network, b)).float()
        for other, A_other in self.previous:
            p = p - (dot(q, A_other) / _positive(dot(other, A_other))) * other
        Ap = A(p)
        after, residual, energy = line_search(p, Ap, b)
        self._advance(p.detach(), Ap.detach(), after.detach(), residual.detach())
        # A line search can enlarge the residual's 2-norm; a single wild system must not outweigh a batch.
        losses = energy if self.data.loss == "energy" else residual.clamp_max(_WILD)
        usable = torch.isfinite(residual) & torch.isfinite(energy)
        return torch.where(usable, losses, 0.0).sum() / usable.sum().clamp_min(1)

    def _advance(self, p, Ap, after, losses):
        size = dot(p, p).sqrt().clamp_min(1e-30)
        self.previous = ([(a.clone(), b.clone()) for a, b in self.previous] + [(p / size, Ap / size)])[
            -self.data.window :
        ] * bool(self.data.window)
        norm = losses.sqrt()
        self.remaining = self.remaining * norm
        self.b = after / norm.clamp_min(1e-20).view(-1, *[1] * self.data.ndim)
        self.left -= 1
        ended = ~torch.isfinite(losses) | (self.remaining < 1e-7) | (self.remaining > 1e2)
        ended = ended.cpu() | (self.left <= 0)
        if bool(ended.any()):
            self._renew(torch.nonzero(ended).flatten().tolist())

    def _renew(self, systems):
        """New systems in some places of the batch; what they are follows from the seed and how many came before."""
        data = self.data
        for i in systems:
            self.drawn += 1
            rng = np.random.default_rng([data.seed, int(self.drawn)])
            seed = int(rng.integers(data.geometries)) if data.geometries else int(rng.integers(HOLD_OUT))
            self.geometry[i] = seed
            self._operators[i] = operator = random_geometry(self.shape, seed, data.open)
            b = self._right_hand_side(operator, seed, rng)
            self.b[i] = torch.as_tensor(b / np.linalg.norm(b), dtype=torch.float32)
            self.left[i] = int(rng.integers(1, data.life + 1))
            self.remaining[i] = 1.0
            for pair in self.previous:
                for part in pair:
                    part[i] = 0
        self._A = Stencils(self._operators, self.device)

    def _right_hand_side(self, operator, seed, rng):
        if rng.random() >= self.data.ritz:
            name = ("white_noise", "smooth", "divergence")[rng.integers(3)]
            return right_hand_sides[name](operator, seed=int(rng.integers(1 << 31)))
        basis = self._bases.get(seed)
        if basis is None:
            unknowns = operator.unknowns.sum()
            basis = RitzBasis(
                lambda u: operator.matvec(u), operator.cells.size, min(self.data.lanczos, int(unknowns)), seed=seed
            )
            if self.data.geometries:
                self._bases[seed] = basis
        return basis.mixtures(1, rng)[0].reshape(self.shape)

    def state_dict(self):
        state = {name: getattr(self, name) for name in ("geometry", "drawn", "left", "b", "remaining")}
        for k, (p, Ap) in enumerate(self.previous):
            state |= {f"p{k}": p, f"Ap{k}": Ap}
        return state

    def load_state_dict(self, state):
        if state["b"].shape != self.b.shape:
            raise ValueError(
                f"the checkpoint's systems have shape {tuple(state['b'].shape)}, the data ask for "
                f"{tuple(self.b.shape)}; keep size and batch, or start from its weights in another folder"
            )
        for name in ("geometry", "drawn", "left"):
            setattr(self, name, state[name].cpu())
        self.b, self.remaining = state["b"], state["remaining"]
        self.previous = [(state[f"p{k}"], state[f"Ap{k}"]) for k in range(self.data.window)]
        self._operators = [random_geometry(self.shape, int(seed), self.data.open) for seed in self.geometry]
        self._A = Stencils(self._operators, self.device)

    @torch.no_grad()
    def validate(self, network, systems=4, iterations=40):
        """Iterations to 1e-4 and 1e-6 (median) on geometries that training cannot draw."""
        operators = [random_geometry(self.shape, HOLD_OUT + k, self.data.open) for k in range(systems)]
        A = Stencils(operators, self.device, torch.float64)
        b = [right_hand_sides["divergence"](op, seed=k) for k, op in enumerate(operators)]
        r = torch.as_tensor(np.stack(b), device=self.device)
        start, previous, norms = dot(r, r).sqrt(), [], []
        for _ in range(iterations):
            q = p = A.project(propose(network, r.float()).double())
            for other, A_other in previous:
                p = p - dot(q, A_other) / _positive(dot(other, A_other)) * other
            Ap = A(p)
            r = r - dot(p, r) / _positive(dot(p, Ap)) * Ap
            previous = [*previous, (p, Ap)][-2:]
            norms.append((dot(r, r).sqrt() / start).flatten().cpu().numpy())
        norms = np.array(norms)
        steps = {f"to_{target:.0e}": (norms > target).sum(0) + 1 for target in (1e-4, 1e-6)}
        return {name: float(np.median(count)) for name, count in steps.items()}


def _positive(x):
    return x.clamp_min(torch.finfo(x.dtype).tiny)
