"""The Triton kernels against plain torch, on tensors of the CPU under TRITON_INTERPRET=1, in memory full of NaN."""

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

# Triton reads the variable when it is imported: the checks run in a process of their own.
CHECKS = """
import numpy as np, torch
torch.set_num_threads(1)
from deconjugate.operators.poisson_torch import TorchPoisson
from deconjugate.solver import PoissonOperator, gallery
from deconjugate.solver.kernels_torch import plain_kernels, triton_kernels
from deconjugate.solver.multigrid_torch import DeviceMultigrid
import deconjugate.solver._multigrid_triton as levels

plain, fast = plain_kernels(), triton_kernels()
levels.TILE = 128
empty, empty_like = torch.empty, torch.empty_like

def poisoned(make):
    def filled(*shape, **options):
        out = make(*shape, **options)
        return out.fill_(torch.nan) if out.is_floating_point() else out.fill_(77)
    return filled

def near(found, expected, tolerance, what=""):
    error = (found - expected).norm()
    assert error <= tolerance * expected.norm(), (what, float(error), float(expected.norm()))

def operators():
    rng = np.random.default_rng(0)
    porous = rng.random((5, 6, 7)) > 0.3
    yield gallery.free_surface((13, 11), seed=1)
    yield [gallery.coefficient_jump((5, 4, 6), seed=s, count=4, radius=(0.2, 0.5)) for s in (1, 2)]
    yield PoissonOperator(porous, boundary=["periodic", ("neumann", "dirichlet"), "periodic"], coefficient=2.5)

rng = np.random.default_rng()  # fresh input every time
for chosen in operators():
    A = TorchPoisson(chosen)
    M = DeviceMultigrid(A, weights="learned", coarsest=10)
    on = torch.tensor([True, True])
    for level in M.levels[:-1]:
        batch = 2
        def field(shape=level.shape):
            return torch.tensor(rng.standard_normal((batch, *shape)), dtype=torch.float32)
        x, b = field() * (level.dinv > 0), field() * (level.dinv > 0)
        e = field(level.coarse_shape)
        w = torch.tensor(rng.uniform(0.5, 1.5, (3, batch)), dtype=torch.float32)
        w[2, 1] = 0
        torch.empty, torch.empty_like = poisoned(empty), poisoned(empty_like)
        found = (
            fast.multigrid.smooth(level, b, w, on),
            fast.multigrid.restrict_residual(level, x, b, on),
            fast.multigrid.correct_and_smooth(level, x.clone(), b, e, w, on),
        )
        torch.empty, torch.empty_like = empty, empty_like
        expected = (
            plain.multigrid.smooth(level, b, w),
            plain.multigrid.restrict_residual(level, x, b),
            plain.multigrid.correct_and_smooth(level, x, b, e, w),
        )
        for one, other in zip(found, expected):
            near(one, other, 1e-5, level.shape)
    for on in (torch.tensor([True, True]), torch.tensor([False, True])):
        z, r, p = (torch.tensor(rng.standard_normal((2, *A.shape)), dtype=torch.float32) * A.unknowns for _ in range(3))
        q, x = p.clone(), torch.tensor(rng.standard_normal((2, *A.shape))) * A.unknowns
        beta = torch.tensor([0.3, -0.7], dtype=torch.float64)
        results = []
        for k in (plain.conjugate, fast.conjugate):
            pp, qq, rr, xx = p.clone(), q.clone(), r.clone(), x.clone()
            torch.empty, torch.empty_like = poisoned(empty), poisoned(empty_like)
            sums = [*k.products(z, rr, pp, qq)]
            k.turn(pp, z, beta, on)
            sums.append(k.multiply(A, pp, qq, on) * on)
            sums.append(k.step(xx, pp, rr, qq, beta, 0.5 * beta, on) * on)
            left = torch.empty_like(x)
            sums.append(k.residual(A, x, xx, left))
            torch.empty, torch.empty_like = empty, empty_like
            results.append([torch.stack(sums), pp, qq, rr, xx, left])
        for found, expected in zip(results[1], results[0]):
            near(found, expected, 1e-5)
        if not on[0]:
            for found, before in zip(results[1][1:5], (p, q, r, x)):
                assert torch.equal(found[0], before[0])
        near(results[1][5], results[0][5], 1e-13 if A.uniform else 1e-6)
print("checked")
"""


@pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")
def test_kernels_are_those_of_plain_torch(tmp_path):
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", CHECKS]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == "checked"


def test_nothing_but_the_kernels_needs_triton(tmp_path):
    code = (
        "import sys\n"
        "sys.modules['triton'] = None\n"
        "import deconjugate.solver.device_torch\n"
        "from deconjugate.solver.kernels_torch import kernels_for\n"
        "print(kernels_for('cpu').name)"
    )
    out = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert out.split() == ["torch"]
