"""A projected velocity has no divergence, in every problem of the gallery."""

import numpy as np
import pytest
import scipy.sparse.linalg

from deconjugate.solver import Cell, PoissonOperator, PoissonSolver, divergence, gallery, solve, subtract_gradient

SHAPES = [(27, 22), (11, 14, 13)]
N, D, P = "neumann", "dirichlet", "periodic"


def random_velocity(A, seed, batch=()):
    """Normal numbers on every open face, zero on the closed ones, equal at the ends of a periodic axis."""
    rng = np.random.default_rng(seed)
    velocity = []
    for axis, face in enumerate(A._face_arrays()):
        component = rng.standard_normal((*batch, *face.shape))
        if A.boundary[axis][0] == P:
            along = axis - face.ndim
            last = (Ellipsis, slice(-1, None)) + (slice(None),) * (-along - 1)
            component[last] = np.take(component, [0], along)
        velocity.append(component * (face != 0))
    return velocity


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", gallery.problems)
def test_divergence_after_projection_is_the_residual(name, shape):
    A = gallery.problems[name](shape, seed=1)
    velocity = random_velocity(A, 2)
    kept = [component.copy() for component in velocity]
    b = A.rhs(-divergence(A, velocity))
    result = solve(A, b, rtol=1e-10)
    assert result.converged
    after = subtract_gradient(A, result.x, velocity)
    np.testing.assert_allclose(divergence(A, after), A.apply(result.x) - b, atol=1e-10 * np.linalg.norm(b))
    assert np.linalg.norm(divergence(A, after)) <= 1.001e-10 * np.linalg.norm(b)
    for component, before, face in zip(after, velocity, A._face_arrays()):
        np.testing.assert_array_equal(component[face == 0], before[face == 0])
    for before, component in zip(kept, velocity):
        np.testing.assert_array_equal(before, component)


@pytest.mark.parametrize("boundary", [N, D, P, [P, (N, D)], [(D, N), P]])
def test_divergence_and_gradient_are_minus_each_others_adjoint(boundary):
    A = gallery.sphere((9, 8), boundary=boundary)
    A = PoissonOperator(A.cells, boundary=A.boundary, spacing=(0.5, 0.8))
    velocity, p = random_velocity(A, 1), gallery.white_noise(A, 2)
    still = [np.zeros_like(component) for component in velocity]
    gradient = [-component for component in subtract_gradient(A, p, still)]
    # A periodic axis holds its outer face twice.
    inner = sum(
        np.vdot(u, g) - (np.vdot(u.take(-1, a), g.take(-1, a)) if A.boundary[a][0] == P else 0.0)
        for a, (u, g) in enumerate(zip(velocity, gradient))
    )
    assert inner == pytest.approx(-np.vdot(p, divergence(A, velocity)), rel=1e-12)
    np.testing.assert_allclose(-divergence(A, gradient), A.apply(p), atol=1e-12)


def test_divergence_of_a_linear_velocity():
    A = PoissonOperator(np.ones((6, 7, 5), bool), spacing=(0.5, 1.0, 2.0), boundary=D)
    faces = [slope * h * np.arange(n + 1.0) for slope, h, n in zip((1.0, -3.0, 7.0), A.spacing, A.grid_shape)]
    velocity = [
        np.broadcast_to(line.reshape([-1 if a == axis else 1 for a in range(3)]), face.shape)
        for axis, (line, face) in enumerate(zip(faces, A._face_arrays()))
    ]
    np.testing.assert_allclose(divergence(A, velocity), 5.0, rtol=1e-13)


@pytest.mark.parametrize("coefficient", ["cells", "faces"])
def test_variable_density(coefficient):
    shape, rng = (14, 11), np.random.default_rng(3)
    beta = rng.uniform(0.1, 5, shape)
    if coefficient == "faces":
        beta = [rng.uniform(0.1, 5.0, [n + (a == axis) for a, n in enumerate(shape)]) for axis in range(2)]
    A = PoissonOperator(gallery.sphere(shape).cells, coefficient=beta, spacing=0.1, boundary=[(N, D), N])
    velocity = random_velocity(A, 4)
    b = A.rhs(-divergence(A, velocity))
    after = subtract_gradient(A, solve(A, b, rtol=1e-11).x, velocity)
    assert np.linalg.norm(divergence(A, after)) <= 1.001e-11 * np.linalg.norm(b)


@pytest.mark.parametrize("shape", [(24, 31), (12, 15, 14)])
def test_a_body_that_moves_pushes_the_fluid_and_keeps_its_velocity(shape):
    solver = PoissonSolver(PoissonOperator(np.ones(shape, bool)))
    velocity = [np.zeros(face.shape) for face in solver.operator._face_arrays()]
    speed = 0.7
    for step in range(4):
        cells = np.ones(shape, bool)
        body = (slice(4, 8), slice(5 + step, 10 + step)) + (slice(5, 9),) * (len(shape) - 2)
        cells[body] = False
        solver.update(cells=cells)
        skin = (body[0], slice(body[1].start, body[1].stop + 1), *body[2:])
        for component in velocity:
            component[tuple(slice(s.start, s.stop + 1) for s in body)] = 0.0
        velocity[1][skin] = speed
        source = -divergence(solver.operator, velocity)
        # What the body pushes away in front flows in behind: the closed box stays compatible.
        result = solver.solve(solver.operator.rhs(source), rtol=1e-9)
        assert result.converged
        velocity = subtract_gradient(solver.operator, result.x, velocity)
        assert np.linalg.norm(divergence(solver.operator, velocity)) <= 1.001e-9 * np.linalg.norm(source)
        np.testing.assert_array_equal(velocity[1][skin], speed)
        assert abs(velocity[1][(5, slice(11 + step, None)) + (6,) * (len(shape) - 2)]).max() > 0.01


def test_given_pressures_drive_a_channel():
    # Pressure falls by 3 over a channel of 6 cells from one ghost centre to the other, 7 spacings apart.
    A = PoissonOperator(np.ones((4, 6), bool), spacing=0.5, boundary=[N, D])
    still = [np.zeros((5, 6)), np.zeros((4, 7))]
    for given in ({(1, 0): 3.0, (1, 1): 0.0}, {(1, 0): np.full(4, 3.0), (1, 1): np.zeros(4)}):
        p = solve(A, A.rhs(-divergence(A, still), dirichlet=given), rtol=1e-12).x
        flow = subtract_gradient(A, p, still, dirichlet=given)
        np.testing.assert_allclose(flow[1], 3.0 / 3.5, rtol=1e-9)
        np.testing.assert_allclose(flow[0], 0.0, atol=1e-13)


def test_given_cells_inside():
    cells = np.ones((9, 8), np.uint8)
    cells[6:] = Cell.DIRICHLET
    A = PoissonOperator(cells)
    velocity, given = random_velocity(A, 5), np.random.default_rng(6).standard_normal(cells.shape)
    b = A.rhs(-divergence(A, velocity), dirichlet=given)
    p = solve(A, b, rtol=1e-11).x
    after = subtract_gradient(A, p, velocity, dirichlet=given)
    assert np.linalg.norm(divergence(A, after)) <= 1.001e-11 * np.linalg.norm(b)
    np.testing.assert_array_equal(after[0][7:], velocity[0][7:])  # between air and air nothing is corrected


def test_the_least_change_among_velocities_without_divergence():
    # Projection is orthogonal: the correction is the least-squares one.
    A = gallery.sphere((7, 6), radius=0.25)
    velocity = random_velocity(A, 7)
    open_faces = np.concatenate([(face != 0).ravel() for face in A._face_arrays()])
    columns = []
    sizes = [component.size for component in velocity]
    for index in np.flatnonzero(open_faces):
        unit = np.zeros(sum(sizes))
        unit[index] = 1.0
        parts = [part.reshape(u.shape) for part, u in zip(np.split(unit, sizes[:1]), velocity)]
        columns.append(divergence(A, parts)[A.unknowns])
    flat = np.concatenate([component.ravel() for component in velocity])
    change = scipy.sparse.linalg.lsmr(np.array(columns).T, divergence(A, velocity)[A.unknowns], atol=1e-14, btol=1e-14)
    p = solve(A, A.rhs(-divergence(A, velocity)), rtol=1e-12).x
    after = np.concatenate([component.ravel() for component in subtract_gradient(A, p, velocity)])
    np.testing.assert_allclose((flat - after)[open_faces], change[0], atol=1e-8)


def test_batches():
    A = gallery.open_top((9, 8), 1)
    velocity = random_velocity(A, 8, batch=(3, 2))
    sources = divergence(A, velocity)
    assert sources.shape == (3, 2, 9, 8)
    after = subtract_gradient(A, solve(A, -sources, rtol=1e-9).x, velocity)
    assert abs(divergence(A, after)).max() < 1e-8 * abs(sources).max()
    one = [component[2, 1] for component in velocity]
    np.testing.assert_array_equal(divergence(A, one), sources[2, 1])


def test_what_happens_inside_walls_does_not_matter():
    A = gallery.sphere((12, 11))
    velocity = random_velocity(A, 9)
    velocity[0][6, 5] = np.nan
    assert np.isfinite(divergence(A, velocity)).all()


GRID = PoissonOperator(np.ones((4, 5), bool), boundary=[N, P])
STILL = [np.zeros((5, 5)), np.zeros((4, 6))]


@pytest.mark.parametrize(
    ("operator", "velocity", "error", "message"),
    [
        (np.eye(3), STILL, TypeError, "operator is a ndarray; give a PoissonOperator"),
        (GRID, STILL[:1], ValueError, "velocity has 1 arrays; the grid has 2 axes"),
        (GRID, STILL[::-1], ValueError, r"velocity of axis 0 has shape \(4, 6\); its faces have shape \(5, 5\)"),
        (GRID, [STILL[0], np.eye(4, 6)], ValueError, "velocity of axis 1: a periodic axis has one outer face"),
        (GRID, [STILL[0] * np.nan, STILL[1]], ValueError, "velocity is NaN or infinite at the faces of 20 unknown"),
    ],
)
def test_bad_input_is_named(operator, velocity, error, message):
    with pytest.raises(error, match=message):
        divergence(operator, velocity)


def test_a_pressure_of_another_shape_is_named():
    with pytest.raises(ValueError, match=r"p has shape \(5, 4\); that of the velocity's cells is \(4, 5\)"):
        subtract_gradient(GRID, np.zeros((5, 4)), STILL)
    with pytest.raises(ValueError, match="dirichlet has shape"):
        subtract_gradient(GRID, np.zeros((4, 5)), STILL, dirichlet=np.zeros(3))
