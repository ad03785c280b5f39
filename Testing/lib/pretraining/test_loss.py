"""Loss, head, center and teacher against plain references, written here from the formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from CoralBayLib.pretraining.head import ProjectionHead
from CoralBayLib.pretraining.loss import DinoLoss, sinkhorn
from CoralBayLib.pretraining.network import follow

K = 7


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def softmax(values: np.ndarray, temperature: float) -> np.ndarray:
    scaled = values / temperature
    exponentials = np.exp(scaled - scaled.max())
    return exponentials / exponentials.sum()


def reference_loss(student: np.ndarray, teacher: np.ndarray, center: np.ndarray, temperatures: tuple[float, float]) -> float:
    """DINO's pseudocode with multi-crop, one scan and one pair of views after another."""
    total, pairs = 0.0, 0
    for g in range(len(teacher)):
        for v in range(len(student)):
            if v == g:
                continue
            pairs += 1
            for b in range(student.shape[1]):
                target = softmax(teacher[g, b] - center, temperatures[1])
                total -= float((target * np.log(softmax(student[v, b], temperatures[0]))).sum()) / student.shape[1]
    return total / pairs


def test_the_loss_equals_a_plain_reference():
    random = np.random.default_rng(0)
    student, teacher, center = random.normal(size=(5, 3, K)), random.normal(size=(2, 3, K)), random.normal(size=K)
    loss = DinoLoss(K, student_temperature=0.1)
    loss.center.copy_(torch.from_numpy(center)[None])
    targets = loss.targets(torch.from_numpy(teacher).float(), 0.05)
    found = float(loss(torch.from_numpy(student).float(), targets))
    assert found == pytest.approx(reference_loss(student, teacher, center, (0.1, 0.05)), rel=1e-5)


def test_a_view_is_not_compared_with_itself():
    targets = torch.zeros(2, 1, K)
    targets[:, :, 0] = 1.0
    student = torch.zeros(3, 1, K)
    student[2, 0, 0] = 100.0  # the local view is right, the global ones know nothing
    found = float(DinoLoss(K, 1.0)(student, targets))
    assert found == pytest.approx(math.log(K) / 2)  # of four pairs, two are of the two global views


def test_the_center_is_a_running_mean_and_has_no_gradient():
    loss = DinoLoss(K, center_momentum=0.9)
    first, second = torch.randn(2, 4, K), torch.randn(2, 4, K)
    loss.update_center(first)
    loss.update_center(second)
    expected = 0.9 * (0.1 * first.mean(dim=(0, 1))) + 0.1 * second.mean(dim=(0, 1))
    torch.testing.assert_close(loss.center[0], expected)
    assert not loss.targets(first.requires_grad_(), 0.04).requires_grad


def test_centering_removes_what_all_outputs_have_in_common():
    loss = DinoLoss(K)
    teacher = torch.zeros(2, 4, K)
    teacher[..., 3] = 0.5  # one prototype leads everywhere
    assert loss.targets(teacher, 0.04)[..., 3].min() > 0.99
    for _ in range(100):
        loss.update_center(teacher)
    torch.testing.assert_close(loss.targets(teacher, 0.04), torch.full((2, 4, K), 1 / K), atol=1e-3, rtol=0)


def test_sinkhorn_makes_prototypes_equally_frequent():
    found = sinkhorn(torch.randn(40, K, dtype=torch.float64), 1.0)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(40, dtype=found.dtype))
    torch.testing.assert_close(found.sum(dim=0), torch.full((K,), 40 / K, dtype=found.dtype), rtol=0.05, atol=0)


def test_sinkhorn_equals_a_plain_reference():
    logits = np.random.default_rng(1).normal(size=(6, K))
    plain = np.exp(logits / 0.3).T
    plain /= plain.sum()
    for _ in range(3):
        plain = plain / plain.sum(axis=1, keepdims=True) / K
        plain = plain / plain.sum(axis=0, keepdims=True) / 6
    np.testing.assert_allclose(sinkhorn(torch.from_numpy(logits), 0.3).numpy(), (plain * 6).T, rtol=1e-4)


def test_the_head_equals_a_weight_normalized_layer_on_the_sphere():
    head = ProjectionHead(5, 16, 8, K)
    x = torch.randn(3, 5)
    head.standardize(torch.randn(50, 5) * 0.01 + 2)
    last = nn.utils.parametrizations.weight_norm(nn.Linear(8, K, bias=False))
    with torch.no_grad():
        last.parametrizations.weight.original0.fill_(1.0)
        last.parametrizations.weight.original1.copy_(head.prototypes)
        z = (x - head.mean) * head.scale
        for n, layer in enumerate(each for each in head.mlp if isinstance(each, nn.Linear)):
            z = z @ layer.weight.T + layer.bias
            z = z if n == 2 else z * 0.5 * (1 + torch.erf(z / math.sqrt(2)))
        z = z / z.norm(dim=1, keepdim=True)
        torch.testing.assert_close(head(x), last(z))
    assert head(x).abs().max() <= 1 + 1e-6


def test_embeddings_are_standardized_by_those_of_the_untrained_network():
    head, x = ProjectionHead(5, 16, 8, K), torch.randn(50, 5) * 0.1 + 2
    head.standardize(x)
    standard = (x - head.mean) * head.scale
    torch.testing.assert_close(standard.mean(dim=0), torch.zeros(5), atol=1e-4, rtol=0)
    torch.testing.assert_close(standard.std(dim=0), torch.ones(5), atol=0.02, rtol=0)
    vectors = [head.project(x).std(dim=0).mean() * 8**0.5]
    head.standardize(torch.stack([torch.zeros(5), torch.ones(5) * 2**0.5]))  # leaves the embeddings nearly as they are
    vectors.append(head.project(x).std(dim=0).mean() * 8**0.5)
    assert vectors[0] > 0.7 > 0.2 > vectors[1]


def test_the_teacher_follows_by_its_momentum():
    teacher, student = nn.Linear(3, 2), nn.Linear(3, 2)
    before = [p.detach().clone() for p in teacher.parameters()]
    follow(teacher, student, 0.75)
    for now, old, other in zip(teacher.parameters(), before, student.parameters(), strict=True):
        torch.testing.assert_close(now.detach(), 0.75 * old + 0.25 * other.detach())
    follow(teacher, student, 1.0)
    for now, old, other in zip(teacher.parameters(), before, student.parameters(), strict=True):
        torch.testing.assert_close(now.detach(), 0.75 * old + 0.25 * other.detach())
