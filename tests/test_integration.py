"""Results and operators inside other people's packages: PyLops, torch, astropy and photutils."""

import numpy as np
import pylops
import pytest
from astropy import units
from astropy.coordinates import SkyCoord
from astropy.nddata import CCDData, StdDevUncertainty
from astropy.table import Table
from astropy.wcs import WCS
from photutils.aperture import CircularAperture, SkyCircularAperture, aperture_photometry
from photutils.psf import ImagePSF, PSFPhotometry
from photutils.segmentation import SourceCatalog, detect_sources

from deconjugate.astro import PSF, deconvolve, simulate
from deconjugate.operators import Binning, Convolution, Starlet
from deconjugate.solver import PoissonOperator, solve

STARS = {(22, 31): 1.0, (60, 97): 0.6}  # fine pixels, relative flux
DISC = (68, 42)
CARDS = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRPIX1": 20.5, "CRPIX2": 31.5, "CDELT1": -1e-4, "CDELT2": 1e-4,
         "CRVAL1": 150.0, "CRVAL2": 2.0}  # fmt: skip


def sky():
    """A disc and two stars on 94 x 126 fine pixels."""
    y, x = np.indices((94, 126))
    image = 0.02 * np.exp(-np.hypot(x - DISC[1], 1.6 * (y - DISC[0])) / 4)
    for place, flux in STARS.items():
        image[place] += flux
    return image


@pytest.fixture(scope="module")
def scene():
    return simulate(sky(), PSF.moffat(3.5), upsample=2, peak_snr=200, seed=3)


def observed(scene, scale=1.0):
    data = scale * scene.data
    return CCDData(data, uncertainty=StdDevUncertainty(scale * scene.noise_map), unit="electron", wcs=WCS(CARDS))


@pytest.fixture(scope="module")
def result(scene):
    return deconvolve(observed(scene), PSF.moffat(3.5), network=None, uncertainty=4)


def test_image_operators_make_a_least_squares_problem_of_pylops():
    shape, rng = (22, 18), np.random.default_rng(5)
    kernel = np.outer(np.hanning(7), np.hanning(5))
    A = pylops.aslinearoperator(Binning(shape, 2) @ Convolution(shape, kernel / kernel.sum()))
    W = pylops.aslinearoperator(Starlet(shape, 2))
    assert pylops.utils.dottest(A, rtol=1e-10)
    assert pylops.utils.dottest(W, rtol=1e-10)
    y = rng.standard_normal(A.shape[0])
    x = pylops.optimization.leastsquares.regularized_inversion(A, y, [W], epsRs=[0.3], iter_lim=400, atol=0, btol=0)[0]
    dense = np.vstack([A.todense(), 0.3 * W.todense()])
    exact = np.linalg.lstsq(dense, np.concatenate([y, np.zeros(W.shape[0])]))[0]
    np.testing.assert_allclose(x, exact, atol=1e-8 * abs(exact).max())


def test_a_poisson_operator_among_the_blocks_of_pylops():
    A = PoissonOperator(np.ones((9, 7), bool), spacing=0.5, boundary="dirichlet")
    twice = pylops.BlockDiag([pylops.aslinearoperator(A)] * 2)
    b = np.random.default_rng(1).standard_normal(2 * 63)
    x = pylops.optimization.basic.cg(twice, b, niter=300, tol=1e-24)[0]
    for half, right in zip(np.split(x.ravel(), 2), np.split(b, 2)):
        exact = solve(A, right, rtol=1e-11).x
        np.testing.assert_allclose(half, exact, atol=1e-9 * abs(exact).max())


def test_a_network_is_trained_through_the_solver():
    import torch

    torch.manual_seed(0)
    shape = (13, 10)
    A = PoissonOperator(np.ones(shape, bool), spacing=1 / 10, boundary="dirichlet")
    y, x = torch.meshgrid(*(torch.linspace(-1, 1, n, dtype=torch.float64) for n in shape), indexing="ij")
    places = torch.stack([y, x, x * y, x**2 + y**2], dim=-1)
    true = torch.exp(0.8 * x - 0.5 * y)
    sources = torch.tensor(np.random.default_rng(2).standard_normal((3, *shape)))
    seen = solve(A, sources, coefficient=true, rtol=1e-10).x
    network = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1)).double()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.03)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        found = solve(A, sources, coefficient=torch.exp(network(places)[..., 0]), rtol=1e-8)
        assert np.all(found.converged)
        loss = ((found.x - seen) ** 2).sum() / (seen**2).sum()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 1e-3 * losses[0]
    coefficient = torch.exp(network(places)[..., 0]).detach()
    assert float((coefficient / true - 1).abs().median()) < 0.05


def test_arithmetic_of_results_carries_unit_errors_and_places(result, scene):
    image = result.image
    other = deconvolve(observed(scene, 2.0), PSF.moffat(3.5), network=None, uncertainty=4).image
    difference = other.subtract(image.multiply(2.0), compare_wcs=None)
    assert difference.unit == units.electron
    assert abs(difference.data).max() < 1e-3 * image.data.max()
    expected = np.hypot(other.uncertainty.array, 2.0 * image.uncertainty.array)
    np.testing.assert_allclose(difference.uncertainty.array, expected, rtol=1e-6)
    rate = image.divide(30.0 * units.s)
    assert rate.unit == units.electron / units.s
    np.testing.assert_allclose(rate.uncertainty.array, image.uncertainty.array / 30.0, rtol=1e-6)
    part = image[10:50, 20:80]
    assert part.shape == part.uncertainty.array.shape == (40, 60)
    assert part.wcs.pixel_to_world(3, 4).separation(image.wcs.pixel_to_world(23, 14)).arcsec < 1e-6


def test_apertures_of_photutils_give_the_true_fluxes(result, scene):
    places = [(column, row) for row, column in STARS]
    apertures = CircularAperture(places, 9.0)
    table = aperture_photometry(result.image, apertures)
    true = aperture_photometry(scene.truth, apertures)["aperture_sum"]
    assert table["aperture_sum"].unit == units.electron
    np.testing.assert_allclose(table["aperture_sum"].value, true, rtol=0.02)
    assert np.all(table["aperture_sum_err"].value > 0)
    # The same circles on the sky: the WCS of the fine grid says where they are.
    sky_places = SkyCoord([result.image.wcs.pixel_to_world(*place) for place in places])
    pixel = np.sqrt(result.image.wcs.proj_plane_pixel_area())
    on_sky = aperture_photometry(result.image, SkyCircularAperture(sky_places, 9.0 * pixel))
    np.testing.assert_allclose(on_sky["aperture_sum"].value, table["aperture_sum"].value, rtol=1e-6)


def test_a_catalogue_of_photutils_finds_the_sources(result, scene):
    segments = detect_sources(result.image.data, 1e-3 * result.image.data.max(), 5)
    catalogue = SourceCatalog(result.image.data, segments, wcs=result.image.wcs)
    found = np.transpose([catalogue.y_centroid, catalogue.x_centroid])
    for place in (*STARS, DISC):
        assert np.hypot(*(found - place).T).min() < 0.5
    total = np.sum(catalogue.segment_flux)
    assert abs(total / scene.truth.sum() - 1) < 0.1


def test_the_psf_of_a_result_fits_its_stars(result, scene):
    model = ImagePSF(result.psf / result.psf.sum())
    start = Table({"x": [c + 0.3 for _, c in STARS], "y": [r - 0.2 for r, _ in STARS], "flux": [1.0, 1.0]})
    found = PSFPhotometry(model, (9, 9))(result.image.data, init_params=start)
    scale = scene.truth.sum() / sky().sum()
    for row, (place, flux) in zip(found, STARS.items()):
        assert np.hypot(row["y_fit"] - place[0], row["x_fit"] - place[1]) < 0.1
        assert abs(row["flux_fit"] / (scale * flux) - 1) < 0.03
