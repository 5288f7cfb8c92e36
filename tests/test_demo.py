"""The demonstration runs on what any installation has."""

import numpy as np

from deconjugate.astro import demo, read_image


def test_the_globular_cluster(tmp_path, capfd):
    demo.globular_cluster(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "m13.fits",
        "m13.png",
        "m13_deconvolved.fits",
        "m13_qa.png",
    ]
    given, sharp = read_image(tmp_path / "m13.fits"), read_image(tmp_path / "m13_deconvolved.fits")
    assert sharp.shape == (600, 600)
    np.testing.assert_allclose(sharp.data.sum(), given.data.sum(), rtol=0.01)
    np.testing.assert_allclose(sharp.wcs.pixel_to_world_values(299.5, 299.5), given.wcs.wcs.crval, atol=1e-6)
    out, err = capfd.readouterr()
    assert "$ deconjugate deconvolve " in out
    assert "stars are 3.2" in out
    # A photographic plate is not linear: the cores of its brightest stars have another profile.
    assert err and all(line.startswith("deconjugate: warning: ") for line in err.splitlines()), err


def test_the_deep_field_is_left_out_without_scikit_image(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    demo.deep_field(tmp_path)
    assert "left out, for it comes with scikit-image" in capsys.readouterr().out
