import numpy as np
import pytest

from deconjugate.operators import Cell
from deconjugate.solver import gallery

SHAPES = [(37, 31), (19, 16, 21)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", gallery.problems)
def test_every_problem_is_symmetric_seeded_and_has_unknowns(name, shape):
    A = gallery.problems[name](shape, seed=3)
    assert A.grid_shape == shape
    assert A.unknowns.any()
    x, y = np.where(A.unknowns, np.random.default_rng(4).standard_normal((2, *shape)), 0.0)
    assert np.vdot(A.apply(x), y) == pytest.approx(np.vdot(x, A.apply(y)), rel=1e-11, abs=1e-11)
    np.testing.assert_array_equal(A.cells, gallery.problems[name](shape, seed=3).cells)


@pytest.mark.parametrize("rhs", gallery.right_hand_sides)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", gallery.problems)
def test_every_right_hand_side_is_compatible_and_zero_outside(name, shape, rhs):
    A = gallery.problems[name](shape, seed=1)
    b = gallery.right_hand_sides[rhs](A, seed=2)
    assert b.shape == shape
    assert np.all(b[~A.unknowns] == 0)
    size = np.count_nonzero(b)
    assert size > 0
    for label in A.null_space:
        assert abs(b[A.components == label].sum()) < 1e-12 * abs(b).sum()
    np.testing.assert_array_equal(b, gallery.right_hand_sides[rhs](A, seed=2))
    assert not np.array_equal(b, gallery.right_hand_sides[rhs](A, seed=3))


@pytest.mark.parametrize("boundary", ["neumann", "periodic"])
def test_divergence_of_a_closed_domain_sums_to_zero_before_any_projection(boundary, monkeypatch):
    monkeypatch.setattr(gallery, "compatible", lambda operator, b: np.where(operator.unknowns, b, 0.0))
    A = gallery.sphere((15, 13, 11), boundary=boundary)
    b = gallery.divergence(A, seed=0)
    assert abs(b.sum()) < 1e-11
    assert np.linalg.norm(b) > 1


def test_free_surface_has_air_sealed_pockets_and_several_components():
    A = gallery.free_surface((48, 40, 44), seed=0)
    assert (A.cells == Cell.DIRICHLET).any()
    assert (A.cells == Cell.WALL).any()
    assert A.n_components > 2
    assert 0 < len(A.null_space) < A.n_components


def test_rooms_are_as_many_components_as_quarters():
    assert len(gallery.rooms((20, 24)).null_space) == 4
    assert len(gallery.rooms((12, 15, 13)).null_space) == 8


def test_thin_gaps_are_one_connected_domain():
    assert gallery.thin_gaps((64, 32, 32)).n_components == 1


def test_solids_from_a_mask():
    inside = np.zeros((9, 8), bool)
    inside[2:5, 3:6] = True
    np.testing.assert_array_equal(gallery.around(inside, boundary="dirichlet").unknowns, ~inside)
    np.testing.assert_array_equal(gallery.within(inside).unknowns, inside)
    assert gallery.around(inside, boundary="dirichlet").boundary == (("dirichlet", "dirichlet"),) * 2


def test_coefficient_jump_has_its_contrast():
    beta = gallery.coefficient_jump((20, 21), contrast=50.0).coefficient
    assert set(np.unique(beta)) == {1.0, 50.0}
