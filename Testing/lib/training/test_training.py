"""The training's geometry, and that gradients flow through our attention as through MONAI's."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from CoralBayLib.encoders.coralbay import CoralBayEncoder, CoralBayNetwork
from CoralBayLib.imaging.grid import Grid, Volume
from Testing.lib.conftest import phantom_grid
from Testing.training.crops import draw
from Testing.training.student import LEVELS, Student, halved, together
from Testing.training.teacher import Reduction, TeacherPass, zoom_of

pytestmark = pytest.mark.slow

pytest.importorskip("monai")
STRIDES = (2, 4, 8, 16)


def ramp(grid: Grid) -> torch.Tensor:
    """(3, K, J, I): the RAS coordinates of each voxel, in mm."""
    kji = np.stack(np.meshgrid(*(np.arange(n) for n in grid.shape), indexing="ij"), -1).reshape(-1, 3)
    return torch.from_numpy(grid.to_ras(kji[:, ::-1]).T.reshape(3, *grid.shape))


class Placing:
    """Random places and scales, but no blur, no noise and no other window."""

    uniform = staticmethod(np.random.default_rng(0).uniform)

    def random(self) -> float:
        return 1.0

    def normal(self, *_: float) -> float:
        return 0.0


def specs():
    encoder = CoralBayEncoder(CoralBayNetwork(12), "", "")
    return [spec for spec in encoder.levels if spec.name in LEVELS[:4]]


@pytest.mark.parametrize("most", [(56, 56, 56), (64, 96, 64)])
def test_targets_lie_at_the_centres_of_the_students_features(most):
    """The image is a ramp of HU along each axis in turn and the teacher's features are the same ramps: averages of the
    image over a feature's block must be its target."""
    box = phantom_grid(extent_mm=400.0, spacing=3.0)
    for axis in range(3):
        coordinates = ramp(box)[axis].numpy().astype(np.float32)
        image = Volume(coordinates, box)
        lattices = [box.subgrid((0, 0, 0), s, tuple(n // s + 2 for n in box.shape)) for s in STRIDES]
        targets = tuple((ramp(g)[axis][None].float(), g) for g in lattices)
        made = TeacherPass(image, Volume(np.ones(box.shape, np.uint8), box), targets)
        example = draw(made, specs(), 3.0, most, Placing())
        assert example.image.shape == (1, *most)
        hu = example.image[0] * 2000 - 1000
        for target, weight, stride in zip(example.targets, example.weights, STRIDES, strict=True):
            whole = tuple(n // stride for n in most)
            blocks = torch.nn.functional.avg_pool3d(hu[None], stride)[0]
            at = (slice(None), *(slice(n) for n in whole))
            darkest = -torch.nn.functional.max_pool3d(-hu[None], stride)[0]
            inner = (weight[at][0] == 1) & (darkest > -1000)  # beyond the image there is air
            assert inner.sum() >= 4
            assert (target[at][0] - blocks)[inner].abs().max() < 0.05


def test_fused_levels_keep_their_place():
    """Ramps of each level's centres, brought together, are the same ramp."""
    centres = [torch.arange(56 // s + (56 % s > 0)) * s + (s - 1) / 2 for s in STRIDES]
    maps = [c.expand(1, 1, len(c), len(c), len(c)) for c in centres]
    fused = together(maps, 1)
    assert fused.shape == (1, 4, 14, 14, 14)
    inner = slice(4, -4)
    assert (fused[..., inner] - maps[1][..., inner]).abs().max() < 1e-4


def test_halved_ignores_what_is_beyond_an_odd_end():
    weight = halved(torch.ones(1, 1, 7, 4, 7))
    assert weight.shape == (1, 1, 4, 2, 4)
    assert weight[0, 0, 0, 0, 0] == 1 and weight[0, 0, -1, 0, 0] == 0.5


def test_reduction_whitens_by_half():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(4000, 6, generator=generator) * torch.tensor([16.0, 4, 1, 0.1, 0.1, 0.1]) + 3
    reduce = Reduction.fit(features, 3)
    made = reduce(features.T.reshape(6, 40, 10, 10)).float().flatten(1)
    spread = made.std(dim=1)
    assert made.mean(dim=1).abs().max() < 0.02
    assert spread[0] / spread[1] == pytest.approx(2, rel=0.05) and spread[1] / spread[2] == pytest.approx(2, rel=0.05)
    assert made.square().mean() == pytest.approx(1, rel=0.02)


def test_zooms_are_repeatable_and_differ():
    zooms = [zoom_of(scan, number, 0) for scan in range(5) for number in range(3)]
    assert zooms == [zoom_of(scan, number, 0) for scan in range(5) for number in range(3)]
    assert zooms[0] == zooms[3] == 1 and len(set(zooms)) == 11 and max(abs(z - 1) for z in zooms) < 0.15


def test_gradients_equal_monais():
    """Our attention writes its windows in place; the gradient of every trunk weight must come through all the same."""
    pytest.importorskip("einops", reason="MONAI's own forward needs einops")
    torch.manual_seed(0)
    network = CoralBayNetwork(12).double()
    x = torch.rand(1, 1, 32, 64, 48, dtype=torch.float64)
    wanted = network.swinViT(x)
    gradients = []
    ours = network.maps(x, ("hidden3",))[0]
    weight = torch.rand_like(ours)
    for made in (ours, wanted[3]):
        network.zero_grad()
        (made * weight).sum().backward()
        gradients.append({k: p.grad.clone() for k, p in network.swinViT.named_parameters() if p.grad is not None})
    assert (ours - wanted[3]).abs().max() < 1e-9
    assert gradients[0].keys() == gradients[1].keys() and len(gradients[0]) > 50
    for key, gradient in gradients[0].items():
        scale = gradients[1][key].abs().max()
        assert (gradient - gradients[1][key]).abs().max() <= 1e-6 * scale + 1e-12, key


def test_only_the_block_that_is_not_offered_stays_untrained():
    torch.manual_seed(0)
    student = Student(12)
    sum(p.square().mean() for p in student(torch.rand(1, 1, 56, 56, 56))[1]).backward()
    without = {key.split(".")[1] for key, p in student.named_parameters() if p.grad is None}
    assert without == {"encoder1"}
