"""The Swin-UNet: its size, its windows, any image."""

import numpy as np
import pytest
import torch

from deconjugate.astro.swin_unet import SwinUNet, _WindowAttention, flops, parameters


def small(**options):
    torch.manual_seed(0)
    return SwinUNet(**{"embedding": 8, "heads": 2, "stem": 4, "window": 4, "conditions": 3} | options).eval()


def test_the_published_configuration_has_its_parameters():
    assert parameters(SwinUNet.paper()) == pytest.approx(38.4e6, rel=2e-3)


def test_the_shipped_one_is_sixteen_times_cheaper_than_the_published_one():
    assert flops(SwinUNet(conditions=30), 128, 128) < 49.5e9 / 16


@pytest.mark.parametrize("shape", [(1, 1), (3, 50), (37, 53), (64, 64)])
def test_any_size_and_any_batch(shape):
    network = small()
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.standard_normal((3, 4, *shape)).astype(np.float32))
    conditions = torch.from_numpy(rng.standard_normal((3, 3)).astype(np.float32))
    with torch.no_grad():
        together = network(images, conditions)
        assert together.shape == (3, 1, *shape)
        assert torch.isfinite(together).all()
        for k in range(3):
            torch.testing.assert_close(network(images[k : k + 1], conditions[k : k + 1])[0], together[k])


def dense_attention(layer, x):
    """The same attention written token by token: who sees whom follows from the shifted windows alone."""
    height, width, channels = x.shape
    n, heads = layer.window, layer.heads
    rows, columns = (layer.shift if k + -k % n > n else 0 for k in (height, width))
    places = [(i, j) for i in range(height) for j in range(width)]
    tall, wide = height + -height % n, width + -width % n
    q, k, v = layer.qkv(x.reshape(-1, channels)).view(-1, 3, heads, channels // heads).unbind(1)
    out = torch.zeros_like(q)

    def window(i, j):
        return ((i - rows) % tall // n, (j - columns) % wide // n, i < rows, j < columns)

    for a, (i, j) in enumerate(places):
        seen = [b for b, other in enumerate(places) if window(*other) == window(i, j)]
        for head in range(heads):
            bias = torch.stack(
                [layer.bias[head, (i - places[b][0] + n - 1) * (2 * n - 1) + j - places[b][1] + n - 1] for b in seen]
            )
            weights = torch.softmax(k[seen, head] @ q[a, head] / (channels // heads) ** 0.5 + bias, 0)
            out[a, head] = weights @ v[seen, head]
    return layer.out(out.reshape(height, width, channels))


@pytest.mark.parametrize("shift", [0, 2])
@pytest.mark.parametrize("shape", [(8, 12), (7, 10), (3, 9)])
def test_attention_is_that_of_shifted_windows(shape, shift):
    torch.manual_seed(1)
    layer = _WindowAttention(6, 2, 4, shift)
    torch.nn.init.normal_(layer.bias)
    x = torch.randn(1, *shape, 6)
    with torch.no_grad():
        torch.testing.assert_close(layer(x)[0], dense_attention(layer, x[0]), rtol=1e-4, atol=1e-5)


def test_every_weight_has_a_gradient():
    network = small(depths=(2, 2)).train()
    output = network(torch.randn(2, 4, 19, 22), torch.randn(2, 3))
    output.square().mean().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() and p.grad.abs().sum() > 0
               for p in network.parameters())  # fmt: skip


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match=r"heads is \[3, 3, 3\]; give one per level"):
        SwinUNet(embedding=8, heads=3)
    with pytest.raises(ValueError, match="patch is 4; choose 1 or 2"):
        SwinUNet(patch=4)


def test_images_of_many_shapes_leave_no_masks_behind():
    network = small()
    for shape in ((37, 53), (41, 30), (29, 64)):
        with torch.no_grad():
            network(torch.zeros(1, 4, *shape), torch.zeros(1, 3))
    layers = [module for module in network.modules() if isinstance(module, _WindowAttention)]
    assert layers
    assert max(len(layer._masks) for layer in layers) == 1
