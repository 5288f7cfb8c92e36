"""Triton kernels that are held against plain torch before they are used, and left for it where they fail."""

import warnings
from types import SimpleNamespace

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

from deconjugate.operators.memory_torch import is_full
from deconjugate.operators.poisson import PoissonOperator
from deconjugate.operators.poisson_torch import TorchPoisson
from deconjugate.solver.aggregate_torch import block_of
from deconjugate.solver.multigrid_torch import Level

# Cells that an offset of 32 bits can name, less a tile.
LARGEST = 2**31 - 2**16
# What rounding and the order of sums may do to a kernel's answer, of its norm.
_APART = {torch.float32: 3e-5, torch.float64: 1e-12}
_LEVELS = ("smooth", "restrict_residual", "correct_and_smooth")
_VECTORS = ("products", "turn", "multiply", "step", "residual")


class CheckedKernels:
    """Kernels for a device, each checked at its first use for a kind of grid.

    A kind is all that a kernel is compiled for: which axes are periodic, blocks, one byte a cell or faces, the columns
    of a tile, what is divisible by sixteen. Of each kind a small grid is made at random, the kernel's outputs are
    poisoned, and its answers compared with those of plain torch; what is compiled for that serves the solve too. Where
    one does not compile, does not run or is wrong, a warning says so, once, and plain torch does the work from then on.
    Grids beyond offsets of 32 bits are left to plain torch as well.

    Parameters
    ----------
    fast, plain : objects with ``multigrid`` and ``conjugate``
        Modules of kernels.
    device : torch.device

    Attributes
    ----------
    multigrid, conjugate : with the functions of the modules
    name : str
        Of what does the work.
    """

    def __init__(self, fast, plain, device):
        self._fast, self._plain, self._device, self._sound = fast, plain, device, set()
        self.name = fast.name
        self.multigrid = SimpleNamespace(**{name: self._guarded(name, "multigrid", _level_kind) for name in _LEVELS})
        kinds = {"multiply": _operator_kind, "residual": _operator_kind}
        self.conjugate = SimpleNamespace(
            **{name: self._guarded(name, "conjugate", kinds.get(name, _vector_kind)) for name in _VECTORS}
        )

    def _guarded(self, name, part, kind):
        fast, plain = (getattr(getattr(kernels, part), name) for kernels in (self._fast, self._plain))

        def run(*arguments):
            found = kind(*arguments) if self.name != self._plain.name else None
            if found is not None:
                try:
                    if (name, found) not in self._sound:
                        _CHECKS[name](fast, plain, self._device, *arguments)
                        self._sound.add((name, found))
                    return fast(*arguments)
                except Exception as error:
                    if is_full(error):
                        raise
                    self._refuse(name, error)
            return plain(*arguments)

        return run

    def _refuse(self, name, error):
        reason = str(error).strip().splitlines() or [""]
        if not isinstance(error, WrongAnswer):
            reason[0] = f"fails with {type(error).__name__}: {reason[0]}"
        warnings.warn(
            f"{self.name}'s kernel {name} {reason[0]}; on {self._device} plain torch does the work of all kernels, "
            "slower and as exact",
            RuntimeWarning,
            stacklevel=3,
        )
        self.name = self._plain.name


class WrongAnswer(ArithmeticError):
    """A kernel's answer is not that of plain torch."""


class _Poisoned(TorchFunctionMode):
    """New memory is full of NaN, or of 77."""

    def __torch_function__(self, function, types, arguments=(), options=None):
        out = function(*arguments, **(options or {}))
        if function.__name__ in ("empty", "empty_like", "new_empty", "empty_strided"):
            out.fill_(torch.nan if out.is_floating_point() else 77)
        return out


def _small(n, last):
    """A small size for which the kernels are compiled as for n; of the last axis, tiles have the same columns."""
    if n <= (64 if last else 34):
        return n
    rest = (n - 1) % 32 + 1
    if last:
        return rest + (64 if n <= 128 else 128)
    return rest if rest > 2 else rest + 32


def _shape(shape):
    return tuple(_small(n, axis == 2) for axis, n in enumerate(shape))


def _level_kind(level, b, *_):
    if level.size > LARGEST:
        return None
    if level.kind is None:
        mapped, several = len(level.moved[0]) > 0, len(level.known) > 1
        level.kind = (_shape(level.shape), level.factors, level.uniform is not None, *level.periodic, mapped, several)
    return level.kind


def _operator_kind(A, u, *_):
    if u[0].numel() > LARGEST:
        return None
    return _shape(A.shape), A.uniform, *A.periodic, A.domains > 1, u.dtype


def _vector_kind(u, *others):
    return (u[0].numel() % 16, u.dtype, others[0].dtype) if u[0].numel() <= LARGEST else None


def _random(device, *shape, dtype=torch.float32):
    return torch.from_numpy(np.random.default_rng().standard_normal(shape)).to(device, dtype)


def _operator_like(A):
    """A small operator, or two, with walls and values of A's kind."""
    rng = np.random.default_rng()
    shape = _shape(A.shape)
    shape = shape if len(A.grid_shape) == 3 else (shape[0], shape[2])
    made = []
    for _ in range(min(A.domains, 2)):
        cells = (rng.random(shape) > 0.2).astype(np.uint8)
        cells.flat[0] = 1
        coefficient = None if A.uniform else np.exp(rng.uniform(-1, 1, shape))
        made.append(PoissonOperator(cells, spacing=A.spacing, boundary=A.boundary, coefficient=coefficient))
    return TorchPoisson(made, A.device)


def _level_like(level, device):
    """A small level of a level's kind, with cells that moved at random where it has any."""
    none = (torch.zeros(0, dtype=torch.int64, device=device),) * 3
    if level.uniform is not None:
        A = _operator_like(level.uniform)
        made = Level(A.shape, *A.faces(torch.float32), A.periodic, none, A)
        made.factors = level.factors
        return made
    rng, shape, domains = np.random.default_rng(), _shape(level.shape), min(len(level.known), 2)
    there = torch.from_numpy(rng.random((domains, *shape)) > 0.2).to(device)
    faces = []
    for axis, n in enumerate(shape):
        t = _random(device, domains, *shape).abs() * (there & torch.roll(there, 1, axis + 1))
        if n == 1 or not level.periodic[axis]:
            t.narrow(axis + 1, 0, 1).zero_()
        faces.append(t)
    given = _random(device, domains, *shape).abs() * (there & torch.from_numpy(rng.random(shape) > 0.9).to(device))
    made = Level(shape, faces, given, level.periodic, none)
    made.factors = level.factors
    if len(level.moved[0]):
        coarse = made.coarse_shape
        cells = torch.from_numpy(np.flatnonzero(made.dinv.cpu().numpy() > 0)[::11]).to(device)
        blocks = coarse[0] * coarse[1] * coarse[2]
        joined = torch.from_numpy(rng.integers(0, blocks, len(cells))).to(device)
        made.moved = cells, block_of(cells, shape, coarse, made.factors), cells // made.size * blocks + joined
    return made


def _check_level(name):
    def check(fast, plain, device, level, *_):
        same = _level_like(level, device)
        known = same.dinv > 0
        x, b = (_random(device, 2, *same.shape) * known for _ in range(2))
        e = _random(device, 2, *same.coarse_shape)
        weights = torch.tensor([[1.2, 0.8], [1.1, 0.9], [1.3, 0.0]], dtype=torch.float32, device=device)
        on = torch.ones(2, dtype=torch.bool, device=device)
        arguments = {
            "smooth": (same, b, weights, on),
            "restrict_residual": (same, x, b, on),
            "correct_and_smooth": (same, x, b, e, weights, on),
        }[name]
        expected = plain(*arguments)
        with _Poisoned():
            found = fast(*arguments)
        _compare([found], [expected])

    return check


def _check_vectors(name):
    def check(fast, plain, device, first, *others):
        same, length, dtype = None, 0, first.dtype if torch.is_tensor(first) else others[0].dtype
        if torch.is_tensor(first):
            length = 4096 + first[0].numel() % 16
            shape, other = (2, length, 1, 1), others[0].dtype
        else:
            same = _operator_like(first)
            shape, other = (2, *same.shape), dtype
        known = 1 if same is None else same.unknowns
        # Sums of one sign do not cancel, and so say what they are made of.
        shift = float(name == "products")
        one, *rest = (_random(device, *shape, dtype=kind) * known + shift for kind in (dtype, other, other, other))
        on = torch.tensor([True, False], device=device)
        factors = [_random(device, 2, dtype=torch.float64) for _ in range(2)]
        arguments = {
            "products": (one, *rest),
            "turn": (one, rest[0], factors[0], on),
            "multiply": (same, one, rest[0], on),
            "step": (one, *rest, *factors, on),
            "residual": (same, one, *rest[:2]),
        }[name]
        mine = [a.clone() if torch.is_tensor(a) else a for a in arguments]
        expected = plain(*arguments)
        with _Poisoned():
            found = fast(*mine)
        found, expected = ([] if x is None else [x] if torch.is_tensor(x) else list(x) for x in (found, expected))
        if name in ("multiply", "step"):  # sums of systems that take no part may be anything
            found, expected = ([x[on] for x in some] for some in (found, expected))
        _compare([*found, *mine], [*expected, *arguments])

    return check


def _compare(found, expected):
    """Raise WrongAnswer where tensors differ by more than rounding."""
    for one, other in zip(found, expected):
        if torch.is_tensor(one) and one.is_floating_point():
            # Sums are of single precision inside where vectors are.
            limit = max(_APART[x.dtype] for x in [*found, *expected] if torch.is_tensor(x) and x.dtype in _APART)
            apart, size = float((one - other).norm()), float(other.norm())
            if not apart <= limit * size:
                raise WrongAnswer(f"is {apart / max(size, 1e-300):.1e} off the answer of plain torch on random input")


_CHECKS = {name: _check_level(name) for name in _LEVELS} | {name: _check_vectors(name) for name in _VECTORS}
