"""Flows whose pressure projections are timed: a plume of phiflow's, and a body drawn through a box."""

import statistics
from time import perf_counter

import numpy as np

from deconjugate.solver import PoissonOperator, PoissonSolver, advect, divergence, subtract_gradient
from deconjugate.solver.gallery import compatible


def phiflow_plume(n, steps=3):
    """(operator, b) of the last pressure solve in phiflow's own simulation of a plume under a sphere, or why not."""
    try:
        from phi import flow, math
    except ImportError:
        return "not installed: pip install phiflow"
    math.set_global_precision(64)
    grid = {"x": n, "y": n, "z": n, "bounds": flow.Box(x=n, y=n, z=n)}
    velocity, smoke = flow.StaggeredGrid(0, 0, **grid), flow.CenteredGrid(0, flow.ZERO_GRADIENT, **grid)
    source = flow.resample(flow.Sphere(x=n / 2, y=n / 2, z=n / 8, radius=n / 8), to=smoke, soft=True)
    body = flow.Obstacle(flow.Sphere(x=n / 2, y=n / 2, z=n / 2, radius=n / 5))
    for step in range(steps):
        smoke = flow.advect.semi_lagrangian(smoke, velocity, 1.0) + source
        lift = flow.resample(smoke * (0, 0, 0.1), to=velocity)
        velocity = flow.advect.semi_lagrangian(velocity, velocity, 1.0) + lift
        if step < steps - 1:
            how = flow.Solve("CG", 1e-3, 1e-3, rank_deficiency=0)
            velocity, _ = flow.fluid.make_incompressible(velocity, [body], how)
    outflow = flow.field.divergence(flow.fluid.apply_boundary_conditions(velocity, [body]))
    middle = np.arange(n) + 0.5 - n / 2
    fluid = sum(x**2 for x in np.meshgrid(middle, middle, middle, indexing="ij")) > (n / 5) ** 2
    A = PoissonOperator(fluid)
    return A, compatible(A, -outflow.values.numpy("x,y,z"))


def moving_sphere(n, steps, rtol=1e-8):
    """A sphere drawn through a closed box of n^3 cells, the fluid projected around it at each step.

    Returns the steps, the median seconds of ``update(cells=)`` and of ``solve``, and the largest divergence of any cell
    after any projection, times the cell size over the largest velocity.
    """
    position = np.ogrid[tuple(slice(0, n) for _ in range(3))]
    solver = PoissonSolver(PoissonOperator(np.ones((n,) * 3, bool)), method="multigrid")
    velocity = [np.zeros([n + (a == axis) for a in range(3)]) for axis in range(3)]
    updates, solves, worst = [], [], 0.0
    for step in range(steps):
        center = n * np.array([0.5, 0.3 + 0.4 * step / steps, 0.5])
        body = sum((x + 0.5 - c) ** 2 for x, c in zip(position, center)) < (0.15 * n) ** 2
        start = perf_counter()
        A = solver.update(cells=~body).operator
        updates.append(perf_counter() - start)
        velocity = advect(A, velocity, velocity, 1.0)
        for axis, component in enumerate(velocity):
            faces, covered = np.moveaxis(component, axis, 0), np.moveaxis(body, axis, 0)
            faces[0] = faces[-1] = 0.0
            faces[:-1][covered] = faces[1:][covered] = float(axis == 1)
        b = -divergence(A, velocity)
        start = perf_counter()
        result = solver.solve(b, rtol=rtol)
        solves.append(perf_counter() - start)
        if not result.converged:
            raise RuntimeError(f"step {step}: {result}")
        velocity = subtract_gradient(A, result.x, velocity)
        fastest = max(abs(component).max() for component in velocity)
        worst = max(worst, abs(divergence(A, velocity)).max() / fastest)
    return steps, statistics.median(updates), statistics.median(solves), worst
