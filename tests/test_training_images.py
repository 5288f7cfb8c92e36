"""Images made into truths: sky, noise and cosmic rays gone, the galaxy left; galaxies held out with all their bands."""

import json

import numpy as np
import pytest
import scipy.ndimage

from deconjugate.astro import train
from deconjugate.astro.training_images import clean, collect
from deconjugate.astro.training_scenes import read_galaxies

PLACE = np.hypot(*(np.indices((80, 90)) - np.array([40, 44])[:, None, None]))
GALAXY = 150 * np.exp(-np.hypot(PLACE, 0.5) / 5.0)


def noisy(seed=0, smoothing=0.0, level=11.0):
    noise = np.random.default_rng(seed).standard_normal(GALAXY.shape)
    if smoothing:
        noise = scipy.ndimage.gaussian_filter(noise, smoothing, mode="wrap")
    return GALAXY + level + noise / noise.std()


@pytest.mark.parametrize("smoothing", [0.0, 0.6])
def test_sky_and_noise_are_taken_away(smoothing):
    result = clean(noisy(smoothing=smoothing))
    assert result.shape == GALAXY.shape
    assert result.min() >= 0.0
    assert np.square(result - GALAXY).mean() < 0.2 * np.square(noisy(smoothing=smoothing) - 11.0 - GALAXY).mean()
    assert abs(result.sum() / GALAXY.sum() - 1) < 0.03
    assert result[PLACE > 38].mean() < 0.05
    np.testing.assert_allclose(clean(noisy(smoothing=smoothing, level=500.0)), result, atol=1e-6 * 500)


def test_what_cannot_be_a_truth_is_left_out():
    assert clean(noisy() - 0.8 * GALAXY) is None  # too faint
    rays = noisy()
    rays[np.random.default_rng(1).integers(5, 75, (2, 12)).tolist()] += 400.0
    assert clean(rays) is None
    few = noisy()
    few[10, 12] += 400.0
    assert clean(few) is not None
    dead = noisy()
    dead[40, 44] = 11.0
    assert clean(dead) is None
    edge = noisy() + 200 * np.exp(-np.arange(80) / 10.0)[:, None]
    assert clean(edge) is None


def test_wide_images_are_binned_and_cut_ones_keep_their_extent():
    assert clean(noisy(), wide=True).shape == (40, 45)
    cut = np.where(GALAXY > 1.0, noisy(level=0.0), 0.0)
    result = clean(np.maximum(cut, 0.0), cut=True)
    assert result.shape == (92, 102)
    assert np.square(result[6:-6, 6:-6] - GALAXY).mean() < 0.5


def collection(folder, split="train"):
    names = [f"ceers-{k}-{band}" for k in range(12) for band in ("f115w", "f200w", "f277w")]
    np.savez(folder / "space2_train.npz", **{name: noisy(k).astype(np.float32) for k, name in enumerate(names)})
    index = {n: {"split": split, "galaxy": n.rsplit("-", 1)[0], "band": n.rsplit("-", 1)[1]} for n in names}
    (folder / "space2_index.json").write_text(json.dumps(index))


def test_a_collection_is_the_same_every_time_and_held_out_by_galaxy(tmp_path):
    collection(tmp_path)
    galaxies, aside = collect(tmp_path)
    assert len(galaxies) + len(aside) == 12 * 4  # three bands and their mean
    assert aside
    assert not {n.split("-")[1] for n in galaxies} & {n.split("-")[1] for n in aside}
    again = collect(tmp_path)[0]
    for name, image in galaxies.items():
        np.testing.assert_array_equal(image, again[name])
        assert image.dtype == np.float32
        assert image.max() == 1.0


def test_only_the_training_split_is_taken(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds neither hst_train.npz nor space2_train.npz"):
        collect(tmp_path)
    collection(tmp_path, split="val")
    with pytest.raises(ValueError, match="ceers-0-f115w is of the split 'val'"):
        collect(tmp_path)


def test_the_command_collects_and_validates_on_what_was_kept_aside(tmp_path, capsys):
    (tmp_path / "shared" / "galaxies").mkdir(parents=True)
    collection(tmp_path / "shared" / "galaxies")
    arguments = ["--collect", tmp_path / "shared", "--data", tmp_path / "data", "--out", tmp_path / "out", "--steps", 1]
    arguments += ["--pool", 1, "--batch", 1, "--crop", 32, "--validate-steps", 1, "--held-out", 1, "--threads", 1]
    train.main([str(a) for a in arguments])
    assert "step 1 of 1" in capsys.readouterr().out
    card = json.loads((tmp_path / "out" / "weights.json").read_text())
    kept = [len(read_galaxies(tmp_path / "data" / name)) for name in ("galaxies.npz", "held_out.npz")]
    assert [card["data"]["galaxies"], card["data"]["held_out"]] == kept
    assert min(kept) > 0


def test_the_shared_collections_are_clean(data_dir):
    galaxies, aside = collect(data_dir / "galaxies")
    assert len(galaxies) > 500
    assert len(aside) > 40
    rims = [max(i[0].max(), i[-1].max(), i[:, 0].max(), i[:, -1].max()) for i in galaxies.values()]
    assert max(rims) < 0.02
    large = [name for name, image in galaxies.items() if min(image.shape) >= 90]
    assert len(large) > 200
