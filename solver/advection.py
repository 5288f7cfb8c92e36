"""Transport along a staggered velocity: what a flow carries, the velocity itself included."""

import numpy as np

from deconjugate.operators.poisson import _pad_axis
from deconjugate.solver._advection_numba import trace_back
from deconjugate.solver.projection import _check_velocity


def advect(operator, quantity, velocity, time_step):
    """A quantity after a time step, by the semi-Lagrangian method: stable for steps of any length.

    .. math:: q(x, t + dt) = q(x - dt u(x - \\tfrac{dt}{2} u(x)), t)

    with linear interpolation between the points of q and of each component of the velocity u. It is the step of a flow
    before :func:`deconjugate.solver.divergence` and :func:`deconjugate.solver.subtract_gradient` make it
    divergence-free. Interpolation smooths; a path that leaves the box ends at its outermost points, and one that enters
    a wall finds what the arrays hold there.

    Parameters
    ----------
    operator : PoissonOperator
        Its grid, spacing and boundary.
    quantity : array of the grid's shape (values at cell centres), or a velocity
    velocity : one array per axis, shape of the grid with n + 1 entries along the axis
    time_step : float
        Negative values go back in time.

    Returns
    -------
    array, or list of arrays where quantity is a velocity; float64

    Raises
    ------
    TypeError, ValueError
        As for :func:`deconjugate.solver.divergence`; quantity has another shape; time_step is not finite.

    Source: J. Stam, Stable fluids, SIGGRAPH (1999).

    Example
    -------
    >>> import numpy as np
    >>> from deconjugate.solver import PoissonOperator, advect
    >>> A = PoissonOperator(np.ones((3, 6), bool), boundary="periodic")
    >>> smoke = np.zeros((3, 6))
    >>> smoke[1, 2] = 1.0
    >>> wind = [np.zeros((4, 6)), np.ones((3, 7))]
    >>> advect(A, smoke, wind, 2.5)[1]
    array([0. , 0. , 0. , 0. , 0.5, 0.5])
    """
    velocity = _check_velocity(operator, velocity)
    if not np.isfinite(time_step):
        raise ValueError(f"time_step is {time_step}; it must be finite")
    shape = operator.grid_shape
    if velocity[0].ndim != len(shape):
        raise ValueError(f"velocity has batch axes {velocity[0].shape[: -len(shape)]}; advect takes one at a time")
    several = isinstance(quantity, tuple | list)
    parts = _check_velocity(operator, quantity) if several else [np.asarray(quantity, np.float64)]
    if not several and parts[0].shape != shape:
        raise ValueError(f"quantity has shape {parts[0].shape}; give an array of the grid's, {shape}, or a velocity")
    faces = [_offset(axis, len(shape)) for axis in range(len(shape))]
    wind, places = [_three(u) for u in velocity], list(faces)
    if len(shape) == 2:
        wind.insert(1, np.zeros((shape[0], 2, shape[1])))
        places.insert(1, (0.5, 0.0, 0.5))
    steps = time_step / np.array(_pad_axis(operator.spacing, 1.0))
    grid = np.array(places), steps, np.array(operator._shape3), np.array(operator._periodic)
    moved = []
    for axis, (part, offset) in enumerate(zip(parts, faces if several else [(0.5, 0.5, 0.5)])):
        out = np.empty_like(_three(part))
        trace_back(_three(part), np.array(offset), *wind, *grid, out)
        moved.append(out.reshape(part.shape))
        if several and operator.boundary[axis][0] == "periodic":
            np.moveaxis(moved[axis], axis, 0)[-1] = np.take(moved[axis], 0, axis)
    return moved if several else moved[0]


def _offset(axis, ndim):
    """Where the faces of an axis lie, in cells from the corner, on the three axes of the kernels."""
    return tuple(_pad_axis([0.0 if a == axis else 0.5 for a in range(ndim)], 0.5))


def _three(array):
    return np.ascontiguousarray(array).reshape(_pad_axis(array.shape, 1))
