"""Transport along a staggered velocity."""

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from deconjugate.solver import PoissonOperator, advect

N, P = "neumann", "periodic"


def grid(shape, boundary=N, spacing=1.0):
    return PoissonOperator(np.ones(shape, bool), boundary=boundary, spacing=spacing)


def uniform(A, values):
    return [np.full([n + (a == axis) for a, n in enumerate(A.grid_shape)], v) for axis, v in enumerate(values)]


@pytest.mark.parametrize("shape", [(9, 7), (6, 5, 8)])
def test_whole_cells_are_exact_where_periodic(shape):
    A = grid(shape, P, spacing=0.5)
    q = np.random.default_rng(0).standard_normal(shape)
    shift = (2, -3, 1)[: len(shape)]
    moved = advect(A, q, uniform(A, [0.25 * s for s in shift]), 2.0)
    np.testing.assert_allclose(moved, np.roll(q, shift, range(len(shape))), atol=1e-13)


@pytest.mark.parametrize("shape", [(9, 7), (6, 5, 8)])
def test_a_linear_quantity_moves_without_error(shape):
    A = grid(shape, spacing=np.linspace(0.5, 1.5, len(shape)))
    centres = np.meshgrid(*((np.arange(n) + 0.5) * h for n, h in zip(shape, A.spacing)), indexing="ij")
    slopes, wind = (2.0, -1.0, 0.5), (0.11, -0.07, 0.05)
    q = sum(s * x for s, x in zip(slopes, centres))
    moved = advect(A, q, uniform(A, wind[: len(shape)]), 0.7)
    inner = (slice(1, -1),) * len(shape)
    expected = q - 0.7 * sum(s * w for s, w in zip(slopes[: len(shape)], wind))
    np.testing.assert_allclose(moved[inner], expected[inner], atol=1e-13)
    assert moved.min() >= q.min()
    assert moved.max() <= q.max()


def test_against_scipy_along_a_velocity_that_varies():
    A = grid((13, 11), spacing=(0.8, 1.3))
    rng = np.random.default_rng(1)
    velocity = [rng.standard_normal((14, 11)), rng.standard_normal((13, 12))]
    offsets = (0.0, 0.5), (0.5, 0.0)

    def sample(u, offset, y):
        return map_coordinates(u, [x - o for x, o in zip(y, offset)], order=1, mode="nearest")

    for quantity, offset in ((rng.standard_normal((13, 11)), (0.5, 0.5)), *zip(velocity, offsets)):
        x = np.stack(np.meshgrid(*(np.arange(n) + o for n, o in zip(quantity.shape, offset)), indexing="ij"))
        y = x
        for share in (0.5, 1.0):
            y = x - share * 0.9 * np.stack([sample(u, o, y) / h for u, o, h in zip(velocity, offsets, A.spacing)])
        expected = sample(quantity, offset, y)
        if offset == (0.5, 0.5):
            found = advect(A, quantity, velocity, 0.9)
        else:
            found = advect(A, velocity, velocity, 0.9)[offsets.index(offset)]
        np.testing.assert_allclose(found, expected, atol=1e-12)


def test_a_quarter_turn_lands_where_it_should():
    errors = []
    for n in (32, 64):
        A = grid((n, n), spacing=1.0 / n)
        centres = (np.arange(n) + 0.5) / n - 0.5
        velocity = [np.broadcast_to(-centres[None, :], (n + 1, n)), np.broadcast_to(centres[:, None], (n, n + 1))]
        blob = np.exp(-((centres[:, None] - 0.15) ** 2 + centres[None, :] ** 2) / 0.02)
        turned, steps = blob, n // 2
        for _ in range(steps):
            turned = advect(A, turned, velocity, 0.5 * np.pi / steps)
        errors.append(abs(turned - blob.T).max())
    # Interpolation at every step, twice as many on half the spacing: the error halves.
    assert errors[1] < 0.15
    assert errors[0] / errors[1] > 1.6


def test_periodic_velocities_stay_one_velocity():
    A = grid((8, 6, 7), P)
    rng = np.random.default_rng(2)
    velocity = [rng.standard_normal([n + (a == axis) for a, n in enumerate((8, 6, 7))]) for axis in range(3)]
    for axis, u in enumerate(velocity):
        np.moveaxis(u, axis, 0)[-1] = np.take(u, 0, axis)
    for _ in range(3):
        velocity = advect(A, velocity, velocity, 0.37)
    for axis, u in enumerate(velocity):
        np.testing.assert_array_equal(np.take(u, 0, axis), np.take(u, -1, axis))


A = grid((4, 5))
STILL = uniform(A, (0.0, 0.0))


@pytest.mark.parametrize(
    ("quantity", "velocity", "step", "message"),
    [
        (np.ones((5, 4)), STILL, 1.0, r"quantity has shape \(5, 4\); give an array of the grid's, \(4, 5\)"),
        (np.ones((4, 5)), STILL[::-1], 1.0, "velocity of axis 0 has shape"),
        (np.ones((4, 5)), STILL, np.nan, "time_step is nan; it must be finite"),
        (np.ones((4, 5)), [np.stack([u, u]) for u in STILL], 1.0, r"velocity has batch axes \(2,\)"),
    ],
)
def test_bad_input_is_named(quantity, velocity, step, message):
    with pytest.raises(ValueError, match=message):
        advect(A, quantity, velocity, step)


def test_nothing_moves_in_still_air_and_input_is_kept():
    q = np.random.default_rng(3).standard_normal((4, 5))
    kept = q.copy()
    np.testing.assert_array_equal(advect(A, q, STILL, 3.0), q)
    np.testing.assert_array_equal(q, kept)
