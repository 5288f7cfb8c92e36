"""A gallery of Poisson problems: domains as operators, and right-hand sides for them.

``problems`` maps names to functions ``f(shape, seed=0) -> PoissonOperator``, ``right_hand_sides`` names to
functions ``f(operator, seed=0) -> b``; both work in 2-D and 3-D. The vertical is axis 0, its high end up.
Right-hand sides have zero sum on every component without a given value, so all problems have a solution.

Example
-------
>>> from deconjugate.solver.gallery import problems, right_hand_sides
>>> A = problems["free_surface"]((24, 20, 16), seed=1)
>>> b = right_hand_sides["divergence"](A, seed=2)
>>> A.n_components > 1, b.shape
(True, (24, 20, 16))
"""

import numpy as np

from deconjugate.operators.poisson import Cell, PoissonOperator
from deconjugate.solver.advection import advect
from deconjugate.solver.projection import divergence as outflow
from deconjugate.solver.projection import subtract_gradient


def box(shape, seed=0, *, boundary="neumann", spacing=1.0):
    """A box without obstacles; the seed is not used."""
    return PoissonOperator(np.ones(shape, bool), boundary=boundary, spacing=spacing)


def sphere(shape, seed=0, *, radius=0.2, boundary="neumann"):
    """A box with one solid sphere (2-D: disc) in its middle; radius in units of the shortest side."""
    cells = np.ones(shape, bool)
    _paint_ball(cells, [n / 2 for n in shape], radius * min(shape), False)
    return PoissonOperator(cells, boundary=boundary)


def random_spheres(shape, seed=0, *, count=60, radius=(0.03, 0.09), boundary="neumann"):
    """A box with solid spheres, of radii uniform in an interval (in units of the shortest side), that may overlap."""
    return PoissonOperator(_random_balls(shape, seed, count, radius), boundary=boundary)


def open_top(shape, seed=0, *, count=20, radius=(0.04, 0.12)):
    """Solid spheres in a box closed on all sides but the top, where the value is given."""
    closed = ("neumann", "neumann")
    boundary = [("neumann", "dirichlet")] + [closed] * (len(shape) - 1)
    return PoissonOperator(_random_balls(shape, seed, count, radius), boundary=boundary)


def thin_gaps(shape, seed=0, *, plates=7):
    """Chambers behind plates one cell thick, each joined to the next by a slit and a channel one cell wide.

    Slits alternate between the ends of axis 1, so the way through is long; the last chamber holds a stack of
    plates with one cell of fluid between them.
    """
    cells = np.ones(shape, bool)
    n = shape[0]
    for p, height in enumerate(np.unique(np.linspace(0, n, plates + 2).astype(int)[1:-1])):
        cells[height] = False
        cells[height, -1 if p % 2 else 0] = True
    stack = slice(n - n // (plates + 1) + 2, n - 1)
    cells[stack, 2:-2:2] = False
    middle = tuple(slice(m // 2, m // 2 + 1) for m in shape[1:])
    cells[(slice(n // 3, n // 3 + max(n // (plates + 1), 1)), *middle)] = True
    return PoissonOperator(cells)


def coefficient_jump(shape, seed=0, *, contrast=1e4, count=30, radius=(0.05, 0.15)):
    """A closed box whose coefficient is 1, and ``contrast`` inside random spheres."""
    matrix = _random_balls(shape, seed, count, radius)
    return PoissonOperator(np.ones(shape, bool), coefficient=np.where(matrix, 1.0, contrast))


def free_surface(shape, seed=0, *, bubbles=8, pockets=4):
    """Liquid under air: a half-filled tank with waves, air bubbles, and liquid sealed in walls.

    Air cells have a given value. Each sealed pocket is a component of its own, with its own null space; so are
    drops in the air, held by the air around them.
    """
    rng = np.random.default_rng(seed)
    shortest = min(shape)
    position = np.ogrid[tuple(slice(0, n) for n in shape)]
    surface = 0.5 * shape[0]
    for axis in range(1, len(shape)):
        phase, waves = rng.uniform(0, 2 * np.pi), rng.integers(1, 4)
        surface = surface + 0.06 * shape[0] * np.sin(2 * np.pi * waves * position[axis] / shape[axis] + phase)
    cells = np.broadcast_to(np.where(position[0] < surface, Cell.INTERIOR, Cell.DIRICHLET), shape).astype(np.uint8)
    for kind, low, high, count in ((Cell.DIRICHLET, 0.0, 0.4, bubbles), (Cell.INTERIOR, 0.65, 1.0, bubbles)):
        for _ in range(count):
            center = [rng.uniform(low, high) * shape[0], *(rng.uniform(0, n) for n in shape[1:])]
            _paint_ball(cells, center, rng.uniform(0.02, 0.05) * shortest, kind)
    for _ in range(pockets):
        center = [rng.uniform(0.1, 0.4) * shape[0], *(rng.uniform(0.1, 0.9) * n for n in shape[1:])]
        radius = max(rng.uniform(0.05, 0.1) * shortest, 1.0)
        _paint_ball(cells, center, radius + 2, Cell.WALL)
        _paint_ball(cells, center, radius, Cell.INTERIOR)
    return PoissonOperator(cells)


def rooms(shape, seed=0):
    """A closed box cut by full walls into 2^ndim rooms of unequal sizes: as many components, as many null spaces."""
    rng = np.random.default_rng(seed)
    cells = np.ones(shape, bool)
    for axis, n in enumerate(shape):
        cells[(slice(None),) * axis + (int(rng.uniform(0.3, 0.7) * n),)] = False
    return PoissonOperator(cells)


def anisotropic(shape, seed=0, *, ratio=10.0, count=20):
    """Solid spheres in a closed box whose cells are ``ratio`` times longer along the last axis than along axis 0."""
    spacing = np.geomspace(1.0, ratio, len(shape))
    return PoissonOperator(_random_balls(shape, seed, count, (0.04, 0.12)), spacing=spacing)


def around(inside, *, boundary="neumann"):
    """The space around a solid given as a bool array, True inside it: a voxelised body in a wind tunnel."""
    return PoissonOperator(~np.asarray(inside, bool), boundary=boundary)


def within(inside):
    """The space inside a solid given as a bool array, True inside it: a vessel."""
    return PoissonOperator(np.asarray(inside, bool))


problems = {
    "box": box,
    "sphere": sphere,
    "random_spheres": random_spheres,
    "open_top": open_top,
    "thin_gaps": thin_gaps,
    "coefficient_jump": coefficient_jump,
    "free_surface": free_surface,
    "rooms": rooms,
    "anisotropic": anisotropic,
}


def white_noise(operator, seed=0):
    """Independent normal numbers on the unknowns: every frequency alike."""
    return compatible(operator, np.random.default_rng(seed).standard_normal(operator.grid_shape))


def smooth(operator, seed=0):
    """A few long waves with random phases and amplitudes: the low frequencies alone."""
    return compatible(operator, _long_waves(operator.grid_shape, np.random.default_rng(seed)))


def divergence(operator, seed=0):
    """Minus the divergence of a random velocity on the open faces: what a pressure projection has to solve.

    The velocity is independent normal on each face that lets fluid through and zero on walls, so the sum over
    a closed component vanishes by itself, to rounding.
    """
    rng = np.random.default_rng(seed)
    fluid = operator.cells != Cell.WALL
    b = np.zeros(operator.grid_shape)
    for axis, n in enumerate(operator.grid_shape):
        low, high = operator.boundary[axis]
        first, last = (slice(None),) * axis + (slice(0, 1),), (slice(None),) * axis + (slice(n - 1, n),)
        below, above = (slice(None),) * axis + (slice(0, n - 1),), (slice(None),) * axis + (slice(1, n),)
        velocity = rng.standard_normal([m + (a == axis) for a, m in enumerate(operator.grid_shape)])
        end = (slice(None),) * axis + (slice(n, n + 1),)
        velocity[above] *= fluid[below] & fluid[above]
        if low == "periodic":
            velocity[first] *= fluid[last] & fluid[first]
            velocity[end] = velocity[first]
        else:
            velocity[first] *= fluid[first] & (low == "dirichlet")
            velocity[end] *= fluid[last] & (high == "dirichlet")
        b -= np.diff(velocity, axis=axis) / operator.spacing[axis]
    return compatible(operator, b)


def smoke(operator, seed=0, *, steps=4):
    """Minus the divergence that rising smoke brings to its pressure projection, after a few steps of its flow.

    Puffs of smoke rise in a wind of long random waves; each step carries both along by up to some two cells, lifts
    what is smoke and makes the velocity divergence-free. Unlike :func:`divergence` of noise, b is large at the skin
    of obstacles and on the edges of the puffs, and small between.
    """
    from deconjugate.solver.solve import PoissonSolver

    rng = np.random.default_rng(seed)
    shape, solver = operator.grid_shape, PoissonSolver(operator, method="multigrid")
    is_open = [face != 0 for face in operator._face_arrays()]
    puffs = operator.unknowns & ~_random_balls(shape, seed, 8, (0.08, 0.2))
    velocity = []
    for axis, (h, face) in enumerate(zip(operator.spacing, is_open)):
        component = h * _long_waves(face.shape, rng) * face
        if operator.boundary[axis][0] == "periodic":
            np.moveaxis(component, axis, 0)[-1] = np.take(component, 0, axis)
        velocity.append(component)
    for step in range(steps + 1):
        if step:
            velocity, puffs = advect(operator, velocity, velocity, 1.0), advect(operator, puffs, velocity, 1.0)
            velocity[0][1:-1] += 0.25 * operator.spacing[0] * (puffs[1:] + puffs[:-1])
            velocity = [component * face for component, face in zip(velocity, is_open)]
        b = compatible(operator, -outflow(operator, velocity))
        if step < steps:
            velocity = subtract_gradient(operator, solver.solve(b, rtol=1e-5).x, velocity)
    return b


def compatible(operator, b):
    """b on the unknowns, less its mean on every component that touches no given value."""
    b = np.where(operator.unknowns, b, 0.0)
    components = operator.components
    size = np.bincount(components.ravel(), minlength=operator.n_components + 1)
    mean = np.bincount(components.ravel(), weights=b.ravel(), minlength=len(size)) / np.maximum(size, 1)
    held = np.setdiff1d(np.arange(len(size)), operator.null_space)
    mean[held] = 0.0
    return b - mean[components]


right_hand_sides = {"white_noise": white_noise, "smooth": smooth, "divergence": divergence, "smoke": smoke}


def _long_waves(shape, rng):
    """Four standing waves of random lengths, phases and amplitudes."""
    position = np.ogrid[tuple(slice(0, n) for n in shape)]
    waves = np.zeros(shape)
    for _ in range(4):
        wave = rng.normal()
        for x, n in zip(position, shape):
            wave = wave * np.cos(np.pi * rng.integers(0, 4) * (x + 0.5) / n + rng.uniform(0, 2 * np.pi))
        waves += wave
    return waves


def _random_balls(shape, seed, count, radius):
    """A bool array, False inside ``count`` random balls."""
    rng = np.random.default_rng(seed)
    cells = np.ones(shape, bool)
    for _ in range(count):
        center = rng.uniform(0, shape)
        _paint_ball(cells, center, rng.uniform(*radius) * min(shape), False)
    return cells


def _paint_ball(cells, center, radius, value):
    """Give the cells whose centres lie within radius of center (in cells) a value, touching those near it only."""
    window = tuple(slice(max(int(c - radius) - 1, 0), min(int(c + radius) + 2, n)) for c, n in zip(center, cells.shape))
    position = np.ogrid[window]
    distance2 = sum((x + 0.5 - c) ** 2 for x, c in zip(position, center))
    cells[window][distance2 < radius**2] = value
