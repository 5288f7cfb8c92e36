"""What the learned multigrid is trained on, and what for: ``python -m deconjugate.solver.train multigrid``."""

import numpy as np
import torch

from deconjugate.operators.poisson import Cell, PoissonOperator
from deconjugate.solver.cut_cells import DEPTHS
from deconjugate.solver.gallery import compatible, divergence
from deconjugate.solver.learned_torch import TorchMultigrid, soft
from deconjugate.solver.multigrid import Multigrid

# Half-sweeps on either side of the coarse correction, unless said otherwise.
HALF_SWEEPS = 5
HIDDEN, HIDDEN_GIVEN = 12, 8
# A small coarsest level makes deep hierarchies of small grids.
_COARSEST = 80
_UNROLLED = 5
_SMALLEST = 500
# Kinds of problems, and how often each is drawn.
KINDS = {
    "balls": 0.25,
    "plates": 0.15,
    "surface": 0.15,
    "porous": 0.05,
    "jump": 0.15,
    "layers": 0.07,
    "lognormal": 0.05,
    "mixed": 0.13,
}


class CutCells(torch.nn.Module):
    """The trainable form of the weights in :mod:`deconjugate.solver.cut_cells`; at first all factors are 1."""

    def __init__(self, seed=0, half_sweeps=HALF_SWEEPS):
        super().__init__()
        self.half_sweeps = half_sweeps
        rng = torch.Generator().manual_seed(seed)

        def normal(*shape, scale=0.5):
            return torch.nn.Parameter(scale * torch.randn(*shape, generator=rng, dtype=torch.float64))

        def zeros(*shape):
            return torch.nn.Parameter(torch.zeros(*shape, dtype=torch.float64))

        kinds = 4 * DEPTHS  # two and three dimensions, uniform coefficient or not
        self.end_weight, self.edge_weight = normal(HIDDEN, 6), normal(HIDDEN)
        self.hidden_bias = normal(kinds, HIDDEN, scale=0.2)
        self.out_weight, self.out_bias = zeros(HIDDEN), zeros(kinds)
        self.given_weight, self.given_bias = normal(HIDDEN_GIVEN, 3), normal(kinds, HIDDEN_GIVEN, scale=0.2)
        self.given_out_weight, self.given_out_bias = zeros(HIDDEN_GIVEN), zeros(kinds)
        # Relaxation by 1.15 at first.
        start = torch.full((kinds, half_sweeps), float(np.log(1.15 / 0.85)), dtype=torch.float64)
        self.relaxation_logit, self.relaxation_slope = torch.nn.Parameter(start), zeros(kinds, half_sweeps)

    def begin_with(self, arrays):
        """Take up trained weights; half-sweeps that they lack are those of their last."""
        with torch.no_grad():
            for name, value in self.named_parameters():
                array = torch.tensor(arrays[name])
                if name.startswith("relaxation"):
                    array = torch.cat([array, array[:, -1:].expand(-1, self.half_sweeps)], 1)[:, : self.half_sweeps]
                value.copy_(array)

    def plain(self, kind):
        """Of the faces and of the parts towards given values below the finest level, whatever the blocks hold."""
        return self.out_bias[kind], self.given_out_bias[kind]

    def face(self, low, high, evenness, kind):
        shift = (self.edge_weight[:, None] * evenness.reshape(1, -1)) + self.hidden_bias[kind][:, None]
        h = soft(self.end_weight @ low.reshape(6, -1) + shift) + soft(self.end_weight @ high.reshape(6, -1) + shift)
        return (self.out_weight @ h + self.out_bias[kind]).reshape(evenness.shape)

    def given(self, sources, kind):
        h = soft(self.given_weight @ sources.reshape(3, -1) + self.given_bias[kind][:, None])
        return (self.given_out_weight @ h + self.given_out_bias[kind]).reshape(sources.shape[1:])

    def relaxation(self, cycle):
        logit, slope = self.relaxation_logit, self.relaxation_slope
        return [2 * torch.sigmoid(logit[k] + slope[k] * a) for k, a in zip(cycle.kinds, cycle.anisotropy)]


def random_operator(rng):
    """A small problem: obstacles, plates with holes, free surfaces, porous media, jumps and layers of the coefficient,
    stretched cells, every kind of boundary, two and three dimensions."""
    flat = rng.random() < 0.25
    shape = tuple(int(n) for n in (rng.integers(40, 97, 2) if flat else rng.integers(14, 31, 3)))
    axes = len(shape)
    boundary = [_random_boundary(rng) for _ in range(axes)]
    if rng.random() < 0.5:
        boundary = [("neumann", "neumann")] * axes
    spacing = np.exp(rng.uniform(-1.2, 1.2, axes)) if rng.random() < 0.15 else 1.0
    cells = np.full(shape, Cell.INTERIOR, np.uint8)
    coefficient = None
    kind = rng.choice(list(KINDS), p=list(KINDS.values()))
    if kind in ("balls", "mixed"):
        _paint_balls(cells, rng, int(rng.integers(1, 30)), Cell.WALL)
    if kind in ("plates", "mixed"):
        for _ in range(rng.integers(1, 6)):
            _paint_plate(cells, rng)
    if kind in ("surface", "mixed"):
        cells[_waves(shape, rng) > rng.uniform(-0.3, 0.8)] = Cell.DIRICHLET
        if rng.random() < 0.5:
            _paint_balls(cells, rng, int(rng.integers(1, 8)), Cell.DIRICHLET)
    if kind == "porous":
        cells[rng.random(shape) < rng.uniform(0.02, 0.35)] = Cell.WALL
    if kind == "jump":
        inside = np.full(shape, Cell.INTERIOR, np.uint8)
        _paint_balls(inside, rng, int(rng.integers(1, 25)), Cell.WALL)
        coefficient = np.where(inside == Cell.WALL, 10.0 ** rng.uniform(-5, 5), 1.0)
    if kind == "layers":
        coefficient = np.where(_waves(shape, rng) > 0, 10.0 ** rng.uniform(-5, 5), 1.0)
    if kind == "lognormal":
        coefficient = np.exp(rng.uniform(0.5, 3) * _waves(shape, rng))
    if not (cells == Cell.INTERIOR).any():
        return random_operator(rng)
    return PoissonOperator(cells, boundary=boundary, spacing=spacing, coefficient=coefficient)


def _random_boundary(rng):
    if rng.random() < 0.15:
        return ("periodic", "periodic")
    return tuple(str(kind) for kind in rng.choice(["neumann", "dirichlet"], 2))


def _paint_balls(cells, rng, count, value):
    position = np.indices(cells.shape)
    for _ in range(count):
        center, radius = rng.uniform(0, cells.shape), rng.uniform(0.03, 0.2) * min(cells.shape)
        cells[sum((x + 0.5 - c) ** 2 for x, c in zip(position, center)) < max(radius, 0.8) ** 2] = value


def _paint_plate(cells, rng):
    axis = int(rng.integers(cells.ndim))
    plate = np.full([n for a, n in enumerate(cells.shape) if a != axis], Cell.WALL, np.uint8)
    for _ in range(rng.integers(1, 4)):
        hole = tuple(slice(s, s + int(rng.integers(1, 4))) for s in (int(rng.integers(n)) for n in plate.shape))
        plate[hole] = Cell.INTERIOR
    at = (slice(None),) * axis + (int(rng.integers(cells.shape[axis])),)
    cells[at] = np.where(plate == Cell.WALL, Cell.WALL, cells[at])


def _waves(shape, rng):
    position = np.ogrid[tuple(slice(0, n) for n in shape)]
    field = np.zeros(shape)
    for _ in range(3):
        wave = rng.normal()
        for x, n in zip(position, shape):
            wave = wave * np.sin(2 * np.pi * rng.integers(0, 4) * x / n + rng.uniform(0, 2 * np.pi))
        field += wave
    return field


class Example:
    """One problem, ready for the loss."""

    def __init__(self, operator, dtype=torch.float64):
        self.operator = operator
        hierarchy = Multigrid(operator, coarsest=_COARSEST)
        self.shape = hierarchy.levels[0].shape
        self.cycle = TorchMultigrid(hierarchy, dtype)

    def right_hand_side(self, rng):
        seed, kind = int(rng.integers(2**31)), rng.random()
        if kind < 0.4:
            b = divergence(self.operator, seed)
        else:
            b = np.random.default_rng(seed).standard_normal(self.operator.grid_shape)
            if kind < 0.7:
                for axis in range(b.ndim):
                    b = np.cumsum(b - b.mean(axis, keepdims=True), axis)
            b = compatible(self.operator, b)
        return torch.tensor(b.reshape(self.shape), dtype=self.cycle.dtype)


class MultigridTask:
    """What the training loop needs: random problems, made once and met again with other right-hand sides.

    Parameters
    ----------
    seed : int
    problems, batch, held_out : int
        Different problems, problems a step, and problems kept for validation.
    """

    def __init__(self, seed=0, problems=600, batch=2, held_out=40):
        self.seed, self.problems, self.batch = seed, problems, batch
        self._known = {}
        self._held_out = []
        for number in range(held_out):
            example = self._example(-1 - number)
            rng = np.random.default_rng([self.seed, 2, number])
            self._held_out.append((example, example.right_hand_side(rng)))

    def _example(self, number):
        if number not in self._known:
            rng = np.random.default_rng([self.seed, 0 if number >= 0 else 1, abs(number)])
            operator = random_operator(rng)
            while np.count_nonzero(operator.unknowns) < _SMALLEST:
                operator = random_operator(rng)
            self._known[number] = Example(operator)
        return self._known[number]

    def loss(self, network, step):
        rng = np.random.default_rng([self.seed, 3, step])
        examples = [self._example(int(number)) for number in rng.integers(self.problems, size=self.batch)]
        return sum(loss(network, example, example.right_hand_side(rng)) for example in examples) / self.batch

    def validate(self, network):
        """Iterations against those of the weights training starts from, a geometric mean over held-out problems."""
        logs = np.array([float(loss(network, *pair).detach()) for pair in self._held_out])
        if not hasattr(self, "_before"):
            start = CutCells(self.seed)  # always of the usual half-sweeps
            self._before = np.array([float(loss(start, *pair).detach()) for pair in self._held_out])
        change = logs - self._before
        return {"iterations": float(np.exp(change.mean())), "worst": float(np.exp(change.max()))}

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


def loss(model, example, b):
    """log of iterations per factor of e: what a digit costs, compared as a ratio from problem to problem."""
    example.cycle.set_up(model)
    norms = example.cycle.conjugate_gradients(b, model.relaxation(example.cycle), _UNROLLED)
    return -torch.log(torch.clamp(-norms[-1] / _UNROLLED, min=0.02))
