"""Pressure projection of a staggered velocity: divergence, and the gradient that removes it.

A velocity has one face array per axis, n + 1 entries along it (marker and cell): the component normal to the faces. On
open faces it is the fluid's. On the faces of walls and outer "neumann" sides it is what the wall does, given and kept:
zero at rest, the body's own velocity where it moves, the inflow of a channel. One step of an incompressible flow is ::

    b = operator.rhs(-divergence(operator, velocity))
    p = solve(operator, b, rtol=1e-8).x
    velocity = subtract_gradient(operator, p, velocity)

after which the divergence of every unknown cell is minus the residual b - A p: as small as the tolerance makes it. With
a coefficient beta = 1 / density p is the pressure times the time step.

Source: A. J. Chorin, Math. Comp. 22, 745 (1968); F. H. Harlow and J. E. Welch, Physics of Fluids 8, 2182 (1965).

Example
-------
>>> import numpy as np
>>> from deconjugate.solver import PoissonOperator, divergence, solve, subtract_gradient
>>> fluid = np.ones((16, 24), bool)
>>> fluid[5:9, 8:12] = False
>>> A = PoissonOperator(fluid, boundary=["neumann", ("neumann", "dirichlet")])
>>> wind = [np.zeros((17, 24)), np.ones((16, 25))]  # blows in at the left, out at the right
>>> wind[1][5:9, 8:13] = 0.0  # but not through the body
>>> p = solve(A, A.rhs(-divergence(A, wind)), rtol=1e-10).x
>>> bool(abs(divergence(A, subtract_gradient(A, p, wind))).max() < 1e-8)
True
"""

import numpy as np

from deconjugate.operators.poisson import Cell, PoissonOperator, _boundary_data


def divergence(operator, velocity):
    """Outflow of every unknown cell per unit volume; zero elsewhere.

    .. math:: (div u)_i = \\sum_{axes} (u_{high face} - u_{low face}) / h_{axis}

    Parameters
    ----------
    operator : PoissonOperator
        Its cells, spacing and boundary.
    velocity : one array per axis, shape of the grid with n + 1 entries along the axis
        Leading batch axes allowed.

    Returns
    -------
    array of the grid's shape, float64

    Raises
    ------
    TypeError, ValueError
        operator has no grid; velocity has the wrong number of arrays or shapes, is not finite on a face of an unknown,
        or differs between the two ends of a periodic axis, which are one face.

    Example
    -------
    >>> A = PoissonOperator(np.ones((2, 3), bool), spacing=0.5)
    >>> velocity = [np.zeros((3, 3)), np.zeros((2, 4))]
    >>> velocity[1][0, 1] = 1.0  # from the first cell into the second
    >>> divergence(A, velocity).tolist()
    [[2.0, -2.0, 0.0], [0.0, 0.0, 0.0]]
    """
    velocity = _check_velocity(operator, velocity)
    ndim = len(operator.grid_shape)
    total = 0.0
    for axis, component in enumerate(velocity):
        total = total + np.diff(component, axis=axis - ndim) / operator.spacing[axis]
    total = np.where(operator.unknowns, total, 0.0)
    bad = total.size - np.count_nonzero(np.isfinite(total))
    if bad:
        raise ValueError(f"velocity is NaN or infinite at the faces of {bad} unknown cells; give it there")
    return total


def subtract_gradient(operator, p, velocity, *, dirichlet=0.0):
    """The velocity less beta grad p on the open faces; on closed faces it stays as it is.

    .. math:: u_f - \\beta_f (p_{high} - p_{low}) / h_{axis(f)}

    Parameters
    ----------
    operator : PoissonOperator
    p : array of the grid's shape
        Solution of A p = operator.rhs(-divergence(operator, velocity)); leading batch axes as velocity has them.
    velocity : as for :func:`divergence`
        Not changed.
    dirichlet : float, array or dict
        p behind Dirichlet faces, as in :meth:`PoissonOperator.rhs`, to which it has to be given too.

    Returns
    -------
    list of arrays, float64

    Raises
    ------
    TypeError, ValueError
        As for :func:`divergence`; p is not of the grid's shape.

    Example
    -------
    >>> A = PoissonOperator(np.ones((2, 3), bool), spacing=0.5)
    >>> p = np.array([[0.0, 1.0, 3.0], [0.0, 1.0, 3.0]])
    >>> rows, columns = subtract_gradient(A, p, [np.zeros((3, 3)), np.zeros((2, 4))])
    >>> columns[0].tolist(), bool(rows.any())  # nothing goes through the outer walls
    ([0.0, -2.0, -4.0, 0.0], False)
    """
    velocity = _check_velocity(operator, velocity)
    p = np.asarray(p, np.float64)
    shape = operator.grid_shape
    batch = velocity[0].shape[: velocity[0].ndim - len(shape)]
    if p.shape != batch + shape:
        raise ValueError(f"p has shape {p.shape}; that of the velocity's cells is {batch + shape}")
    given = _boundary_data(dirichlet, "dirichlet", shape)
    p = np.where(operator.unknowns, p, np.where(operator.cells == Cell.DIRICHLET, given["cells"], 0.0))
    result = []
    for axis, (component, face) in enumerate(zip(velocity, operator._face_arrays())):
        along = axis - len(shape)
        low, high = (np.take(p, [end], along) for end in (0, -1))
        if operator.boundary[axis][0] == "periodic":
            low, high = high, low
        else:
            low, high = (_side(given[axis, side], axis, low.shape) for side in (0, 1))
        # The operator's faces are beta / h^2, and zero where closed.
        result.append(component - face * operator.spacing[axis] * np.diff(p, axis=along, prepend=low, append=high))
    return result


def _side(value, axis, shape):
    """Data of one outer side, a number or an array, as a layer of cells."""
    value = np.asarray(value, np.float64)
    return np.broadcast_to(np.expand_dims(value, axis) if value.ndim else value, shape)


def _check_velocity(operator, velocity):
    if not isinstance(operator, PoissonOperator):
        raise TypeError(f"operator is a {type(operator).__name__}; give a PoissonOperator")
    shape = operator.grid_shape
    if len(velocity) != len(shape):
        raise ValueError(f"velocity has {len(velocity)} arrays; the grid has {len(shape)} axes, give one for each")
    velocity = [np.asarray(component, np.float64) for component in velocity]
    batch = velocity[0].shape[: max(velocity[0].ndim - len(shape), 0)]
    for axis, component in enumerate(velocity):
        expected = batch + tuple(n + (a == axis) for a, n in enumerate(shape))
        if component.shape != expected:
            raise ValueError(f"velocity of axis {axis} has shape {component.shape}; its faces have shape {expected}")
        ends = (np.take(component, end, axis - len(shape)) for end in (0, -1))
        if operator.boundary[axis][0] == "periodic" and not np.array_equal(*ends, equal_nan=True):
            raise ValueError(f"velocity of axis {axis}: a periodic axis has one outer face; make its two ends equal")
    return velocity
