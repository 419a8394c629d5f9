"""Distances of feature sets: against scipy's matrix root, against brute force, and what bias they have."""

from __future__ import annotations

import functools
import pickle
from itertools import product

import numpy as np
import pytest
from scipy.linalg import sqrtm

from handi.core.errors import InputError
from handi.evaluation.aggregate import DistanceMaker
from handi.evaluation.features import FeatureStore
from handi.evaluation.metrics import frechet
from handi.evaluation.metrics.frechet import (
    Moments,
    distance_of_moments,
    frechet_distance,
    kernel_distance,
    moments,
)


def pile(n: int, width: int, seed: int, scale: float = 1.0, shift: float = 0.0) -> np.ndarray:
    chance = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(width, width)) * np.arange(1, width + 1) ** -0.7
    return (np.abs(chance.normal(size=(n, width)) @ mixing) * scale + shift).astype(np.float32)


def textbook(a: np.ndarray, b: np.ndarray) -> float:
    """As pytorch-fid writes it, by scipy's root of a matrix."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    of_a, of_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    return np.square(a.mean(0) - b.mean(0)).sum() + np.trace(of_a + of_b - 2 * np.real(sqrtm(of_a @ of_b)))


@pytest.mark.parametrize(("n", "m"), [(400, 300), (900, 65)])
def test_frechet_is_the_textbooks(n, m):
    a, b = pile(n, 48, 1), pile(m, 48, 2, 1.2, 0.1)
    assert frechet_distance(a, b) == pytest.approx(textbook(a, b), rel=1e-6)
    assert frechet_distance(b, a) == pytest.approx(frechet_distance(a, b), rel=1e-10)


def test_frechet_with_fewer_rows_than_values():
    """There scipy's root is off by its rounding; the exact value is known for two rows on a line each."""
    a, b = np.zeros((2, 40)), np.zeros((2, 40))
    a[1, 0], b[1, 0] = 2.0, 4.0  # means 1 and 2, variances 2 and 8, along one axis
    assert frechet_distance(a, b) == pytest.approx((2 - 1) ** 2 + (8**0.5 - 2**0.5) ** 2, rel=1e-12)
    b[1, 0], b[1, 1] = 0.0, 4.0  # another axis: nothing in common
    assert frechet_distance(a, b) == pytest.approx(1 + 4 + 2 + 8, rel=1e-12)


def test_frechet_in_blocks_and_any_order(monkeypatch):
    a, b = pile(211, 24, 3), pile(150, 24, 4, 1.3)
    whole = frechet_distance(a, b)
    monkeypatch.setattr(frechet, "BLOCK", 16)  # several times the folding of a block into what there is
    assert frechet_distance(a, b) == pytest.approx(whole, rel=1e-9)
    assert frechet_distance(a[::-1], b) == pytest.approx(whole, rel=1e-9)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)


def brute_force(a: np.ndarray, b: np.ndarray) -> float:
    def kernel(x, y):
        return (float(np.dot(x.astype(float), y.astype(float))) / len(x) + 1) ** 3

    n, m = len(a), len(b)
    within_a = sum(kernel(a[i], a[j]) for i, j in product(range(n), repeat=2) if i != j) / (n * (n - 1))
    within_b = sum(kernel(b[i], b[j]) for i, j in product(range(m), repeat=2) if i != j) / (m * (m - 1))
    return within_a + within_b - 2 * sum(kernel(x, y) for x, y in product(a, b)) / (n * m)


def test_moments_of_parts_merge_into_those_of_the_whole():
    """Whichever worker has which rows, in whatever order they are put together."""
    rng = np.random.default_rng(0)
    mixed = rng.normal(size=(12, 12))
    rows = (rng.normal(3, 1, (500, 12)) @ mixed).astype(np.float32)
    other = moments(rng.normal(2.5, 1, (300, 12)))
    whole = moments(rows)
    for cuts in ([250], [1, 2, 3], [7, 100, 101, 499], list(range(20, 500, 20))):
        parts = [moments(part) for part in np.split(rows, cuts)]
        for order in (parts, parts[::-1]):
            merged = functools.reduce(Moments.merged, order)
            assert merged.count == 500
            np.testing.assert_allclose(merged.mean, rows.mean(0, dtype=np.float64), rtol=1e-12)
            np.testing.assert_allclose(
                merged.root.T @ merged.root / 499, np.cov(rows.astype(np.float64), rowvar=False), rtol=1e-10
            )
            found = distance_of_moments(merged, other)
            assert found == pytest.approx(distance_of_moments(whole, other), rel=1e-10)


def test_kernel_distance_by_brute_force():
    a, b = pile(15, 8, 5), pile(15, 8, 6, 1.5)
    assert kernel_distance(a, b) == pytest.approx(brute_force(a, b), rel=1e-10)


def test_kernel_distance_over_subsets():
    """More rows than a subset holds: the mean over random subsets, the same every time."""
    a, b = pile(120, 8, 7), pile(90, 8, 8, 1.5)
    first = kernel_distance(a, b, subset_size=40)
    assert first == kernel_distance(a, b, subset_size=40)
    assert first != kernel_distance(a, b, subset_size=40, seed=1)
    assert first == pytest.approx(kernel_distance(a[:90], b), rel=0.35)
    # one subset of two rows is what brute force makes of these rows
    chance = np.random.default_rng(0)
    of_a, of_b = (np.sort(chance.choice(len(x), 2, replace=False)) for x in (a, b))
    one = kernel_distance(a, b, subsets=1, subset_size=2, seed=0)
    assert one == pytest.approx(brute_force(a[of_a], b[of_b]), rel=1e-9)


def test_which_one_is_biased():
    """Two samples of one distribution: the kernel distance is zero on average, Fréchet's never."""
    pairs = [(pile(12, 16, seed), pile(12, 16, seed + 500)) for seed in range(60)]
    kernel = np.array([kernel_distance(*pair) for pair in pairs])
    assert abs(kernel.mean()) < 3 * kernel.std() / len(kernel) ** 0.5
    assert kernel.min() < 0 < kernel.max()
    frechet_values = np.array([frechet_distance(*pair) for pair in pairs])
    assert frechet_values.min() > 0.1 * np.trace(np.cov(pile(2000, 16, 1), rowvar=False))


def test_what_cannot_be_compared():
    good = pile(5, 6, 1)
    for distance in (frechet_distance, kernel_distance):
        with pytest.raises(InputError, match="at least two rows"):
            distance(good[:1], good)
        with pytest.raises(InputError, match="6 and of 5"):
            distance(good, good[:, :5])
        broken = good.copy()
        broken[3, 3] = np.nan
        with pytest.raises(InputError, match="not finite"):
            distance(good, broken)


def test_memory_maps_stay_on_disk(tmp_path):
    path = tmp_path / "rows.npy"
    np.save(path, pile(300, 12, 9))
    mapped = np.load(path, mmap_mode="r")
    other = pile(200, 12, 10)
    assert frechet_distance(mapped, other) == frechet_distance(np.load(path), other)
    assert kernel_distance(mapped, other, subset_size=50) == kernel_distance(
        np.load(path), other, subset_size=50
    )


def test_a_distance_is_the_same_in_another_process(tmp_path):
    """As far as it can be seen in this one: what is sent there is rows by the name of their file."""
    rng = np.random.default_rng(0)
    stores = [FeatureStore(tmp_path), FeatureStore(tmp_path)]
    for _ in range(20):
        for store in stores:
            store.add(rng.normal(size=(3, 8)).astype(np.float32))
    maker = DistanceMaker({"fid": (frechet_distance, stores), "kid": (kernel_distance, stores)})
    sent = pickle.loads(pickle.dumps(maker))
    for piece in (("fid", -1), ("fid", 0), ("fid", 3), ("kid", 3)):
        assert sent(1)(piece) == maker(0)(piece)
    assert maker(0)(("fid", 0)) != maker(0)(("fid", 3))
    assert maker(0)(("fid", -1))[2] == [frechet_distance(stores[1].rows(), stores[0].rows())]
    assert not maker.is_worth_sharing()
