"""The crops' changes, the loss that compares places, and the heads' least squares."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from CoralBayLib.encoders.coralbay import CoralBayEncoder, CoralBayNetwork
from Testing.lib.conftest import phantom_grid
from Testing.training import jitter
from Testing.training.crops import Example
from Testing.training.retrieval import REMEMBERED, Memory, Places, retrieval_loss, sampled
from Testing.training.structures import StructureLoss, feature_change
from Testing.training.student import LEVELS, HeadFit, Student, read

pytestmark = pytest.mark.slow

pytest.importorskip("monai")

SHAPES = ((1, 2), (2, 4), (4, 8), (8, 16), (16, 32))
"""Widths, in feature sizes, and strides of the levels."""


def specs():
    levels = {spec.name: spec for spec in CoralBayEncoder(CoralBayNetwork(12), "", "").levels}
    return [levels[name] for name in LEVELS]


def test_places_are_sampled_where_they_lie():
    """Maps that hold the positions of their features give the position that was asked for."""
    maps = []
    for spec in specs()[:4]:
        centers = [torch.arange(64 // s) * s + o for s, o in zip(spec.stride, spec.offset, strict=True)]
        maps.append(torch.stack(torch.meshgrid(*centers, indexing="ij")))
    ijk = torch.from_numpy(np.random.default_rng(0).uniform(8, 55, (30, 3))).float()
    assert torch.allclose(sampled(maps, specs()[:4], ijk), ijk.repeat(1, 4), atol=1e-3)


def described(ijk, features, targets):
    return Places(torch.as_tensor(ijk).float(), features, targets)


def some_memory(width=24, targets=10):
    generator = torch.Generator().manual_seed(0)
    memory = Memory(width, targets, torch.device("cpu"))
    memory.add(
        described(
            torch.zeros(3000, 3), torch.randn(3000, width, generator=generator), torch.randn(3000, targets, generator=generator)
        )
    )
    memory.renew(0)
    return memory


def loss(one, other, memory=None):
    return retrieval_loss(one, other, (3.0, 3.0), 6.0, memory or some_memory(), np.random.default_rng(1))


def test_loss_is_smaller_for_features_that_agree():
    generator = torch.Generator().manual_seed(1)
    ijk = np.random.default_rng(0).uniform(0, 56, (40, 3))
    features, targets = torch.randn(40, 24, generator=generator), torch.randn(40, 10, generator=generator)
    place = described(ijk, features, targets)
    agreeing = loss(place, described(ijk, features + 0.1 * torch.randn(40, 24, generator=generator), targets))
    exchanged = loss(place, described(ijk, features.flip(0), targets))
    assert agreeing < 0.6 * exchanged


def test_places_that_are_alike_to_the_teacher_are_not_pushed_apart():
    """Two sides of which the teacher's features are the same: equal features of the student cost less than other ones."""
    generator = torch.Generator().manual_seed(2)
    ijk = np.concatenate([[[10.0 + 2 * n, 10, 10] for n in range(10)], [[10.0 + 2 * n, 50, 10] for n in range(10)]])
    side, taught = torch.randn(10, 24, generator=generator), torch.randn(10, 10, generator=generator)
    targets = torch.cat([taught, taught])
    same = described(ijk, torch.cat([side, side]), targets)
    apart = described(ijk, torch.cat([side, -side]), targets)
    assert loss(same, same) < loss(apart, apart)


def test_loss_of_too_few_places_is_zero():
    features = torch.randn(3, 24, requires_grad=True)
    place = described(np.zeros((3, 3)), features, torch.randn(3, 10))
    found = loss(place, place)
    found.backward()
    assert found == 0 and (features.grad == 0).all()


def test_memory_forgets_the_oldest_and_whitens():
    memory = some_memory()
    spread = (memory.features[:3000] @ memory.projection.T + memory.offset)[:, :24].std(dim=0)
    assert torch.allclose(spread, torch.ones(24), atol=0.02)
    newest = torch.full((REMEMBERED - 3000 + 10, 24), 7.0)
    memory.add(described(torch.zeros(len(newest), 3), newest, torch.zeros(len(newest), 10)))
    assert memory.filled == REMEMBERED
    assert (memory.features[:10] == 7).all() and (memory.features[10:3000] != 7).any(dim=1).all()
    again = Memory(24, 10, torch.device("cpu"))
    again.restore(memory.state())
    assert again.added == memory.added and torch.equal(again.features, memory.features)


def test_heads_are_fitted_by_least_squares():
    """Targets that are linear in the maps are predicted after the fit."""
    torch.manual_seed(0)
    student, teacher = Student(12), Student(12)
    grid = phantom_grid(extent_mm=90.0, spacing=3.0)
    fit = HeadFit(student)
    with torch.no_grad():
        for _ in range(3):
            maps = [torch.randn(1, 12 * w, *(64 // s,) * 3) for w, s in SHAPES]
            targets = [head(m)[0] for head, m in zip(teacher.all_heads()[:4], read(maps), strict=False)]
            weights = [torch.ones(1, *t.shape[1:]) for t in targets]
            fit.add(maps, [Example(torch.empty(0), targets, weights, grid, np.zeros(3), np.zeros(3))])
        fit.finish()
        for head, wanted, m in zip(student.all_heads()[:3], teacher.all_heads()[:3], read(maps)[:3], strict=True):
            assert functional.mse_loss(head(m), wanted(m)) < 1e-3 * wanted(m).var()


@pytest.fixture
def tissue():
    hu = np.random.default_rng(0).normal(40, 10, (24, 20, 16)).astype(np.float32)
    hu[:, :6] = -900
    hu[:, 14:] = 900
    return hu


def test_agent_changes_soft_tissue_only(tissue):
    changed = [jitter.agent_jitter(tissue, np.random.default_rng(seed)) - tissue for seed in range(20)]
    moved = [change for change in changed if change.any()]
    assert 3 <= len(moved) <= 15
    for change in moved:
        assert np.abs(change[:, :5]).max() == 0 and np.abs(change[:, 15:]).max() == 0
        assert 1 < np.abs(change[:, 8:12]).max() < 91


def test_thick_slices_keep_their_place():
    ramp = np.broadcast_to(np.arange(24, dtype=np.float32)[:, None, None], (24, 3, 2))
    for thickness in (2, 3):
        found = jitter.thick_slices(ramp, thickness)
        assert found.shape == ramp.shape
        assert np.allclose(found[3:-3], ramp[3:-3], atol=1e-4)
    assert jitter.thick_slices(np.random.default_rng(0).normal(size=(24, 9, 9)).astype(np.float32), 3).std() < 0.7


def test_field_of_view_is_sometimes_smaller():
    fields = [jitter.field_of_view((56, 40, 30), np.random.default_rng(seed)) for seed in range(60)]
    cut = [(low, high) for low, high in fields if low.any() or (high != [55, 39, 29]).any()]
    assert 5 <= len(cut) <= 30
    assert all(((high - low) >= 0.69 * np.array([55, 39, 29])).all() for low, high in cut)


def test_loss_of_labels_wants_one_structure_alike():
    """0 for structures that are far apart and each in one place; places of no structure ask nothing."""
    classes = torch.tensor([1, 1, 2, 2, 0, 0])
    axes = torch.eye(6)
    alike = StructureLoss(6)(axes[[0, 0, 1, 1, 2, 2]] * 5, classes, lambda f: functional.normalize(f, dim=1))
    mixed = StructureLoss(6)(axes[[0, 1, 0, 1, 2, 2]] * 5, classes, lambda f: functional.normalize(f, dim=1))
    assert 0 <= alike < 0.01 and mixed > 5
    rest = StructureLoss(6)
    assert rest(axes, torch.zeros(6, dtype=torch.int64), lambda f: f) == 0 and rest.added == 0
    lone = StructureLoss(6)
    assert lone(axes[:2], torch.tensor([1, 0]), lambda f: f) == 0 and lone.added == 2
    # The place that is remembered is found again.
    assert 0 <= lone(axes[:1], torch.tensor([1]), lambda f: f) < 0.01 and lone.added == 3
    turned = StructureLoss(6)
    turned(axes[:2], torch.tensor([1, 0]), lambda f: f)
    assert turned(axes[1:2], torch.tensor([1]), lambda f: f) > 5


def test_change_is_in_units_of_the_channels_spread():
    kept = (
        torch.randn(1, 2, 8, 8, 8, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 10.0])[:, None, None, None]
    )
    assert feature_change([kept, kept], [kept, kept]) == 0
    moved = kept + kept.std(dim=(0, 2, 3, 4), keepdim=True)
    assert feature_change([moved, kept], [kept, kept]) == pytest.approx(0.5, abs=1e-4)
