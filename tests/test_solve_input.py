"""What is refused, by name."""

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg

from deconjugate.solver import (
    PoissonOperator,
    PoissonSolver,
    solve,
)

A_SMALL = PoissonOperator(np.ones((6, 7), bool))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"b": np.where(np.arange(42).reshape(6, 7) < 3, np.nan, 0.0)}, ValueError, r"b has 3 .*NaN"),
        ({"b": np.where(np.arange(42).reshape(6, 7) < 2, np.inf, 0.0)}, ValueError, r"b has 2 "),
        ({"b": np.zeros((7, 6))}, ValueError, r"b has shape \(7, 6\)"),
        ({"b": np.zeros(41)}, ValueError, r"b has shape \(41,\)"),
        ({"b": np.zeros((6, 7), complex)}, TypeError, "b has dtype complex128"),
        ({"b": np.full((6, 7), "a")}, TypeError, "b has dtype"),
        ({"x0": np.full((6, 7), np.nan)}, ValueError, "x0 has 42"),
        ({"x0": np.zeros((6, 6))}, ValueError, "x0 has shape"),
        ({"rtol": -1e-6}, ValueError, "rtol is -1e-06"),
        ({"rtol": np.nan}, ValueError, "rtol is nan"),
        ({"atol": -1.0}, ValueError, "atol is -1.0"),
        ({"maxiter": -1}, ValueError, "maxiter is -1"),
        ({"method": "magic"}, ValueError, "method is 'magic'; choose from auto, "),
        ({"device": "abacus"}, ValueError, "device is 'abacus'"),
        ({"A": PoissonOperator(np.zeros((6, 7), bool))}, ValueError, "no unknowns"),
        ({"A": "matrix"}, TypeError, "A is a str"),
        ({"A": scipy.sparse.csr_matrix(np.ones((42, 41)))}, ValueError, "square"),
        ({"A": scipy.sparse.csr_matrix(np.triu(np.ones((42, 42))))}, ValueError, "not symmetric"),
        ({"A": scipy.sparse.diags([-1.0] * 42)}, ValueError, "not positive definite"),
        ({"A": scipy.sparse.diags([np.nan] * 42)}, ValueError, "A has 42 entries that are NaN"),
        ({"A": scipy.sparse.identity(42), "method": "dct", "b": np.zeros(42)}, ValueError, "needs a PoissonOperator"),
    ],
)
def test_bad_input_is_named(arguments, error, message):
    arguments = {"A": A_SMALL, "b": np.zeros((6, 7)), **arguments}
    if scipy.sparse.issparse(arguments["A"]):
        arguments["b"] = np.zeros(arguments["A"].shape[0])
    with pytest.raises(error, match=message):
        solve(**arguments)


def test_bad_coefficient_is_named():
    with pytest.raises(ValueError, match=r"coefficient has 2 entries that are negative"):
        PoissonOperator(np.ones((3, 4), bool), coefficient=np.where(np.arange(12).reshape(3, 4) < 2, -1.0, 1.0))
    with pytest.raises(ValueError, match=r"coefficient"):
        PoissonSolver(A_SMALL).update(coefficient=-2.0)


def test_no_right_hand_side_at_all():
    result = solve(A_SMALL, np.zeros((0, 6, 7)))
    assert result.x.shape == (0, 6, 7)
    assert str(result).startswith(": 0 of 0 systems converged")
