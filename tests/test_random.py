"""Counter-based streams: distribution, and that a row's numbers are its own."""

import itertools
import math

import numpy as np
import pytest
import torch

import fresh
from teleport_env.random import Streams, fold_in, key_of, mix, seeds_of_rows

COUNT = 4000
DRAWS = {
    "bits": lambda s: s.bits((3,)),
    "uniform": lambda s: s.uniform(-2.0, 5.0, (3, 2)),
    "normal": lambda s: s.normal((3,)),
    "integers": lambda s: s.integers(10, (3,)),
    "permutation": lambda s: s.permutation(6),
    "sign": lambda s: s.sign((4,)),
}


def streams(count: int = COUNT, seed: int = 0) -> Streams:
    return Streams.from_seeds(seeds_of_rows(seed, count))


def splitmix64(state: int, draws: int) -> list[int]:
    """The published generator (Steele, Lea and Flood, 2014), in Python integers."""
    numbers = []
    for _ in range(draws):
        state = (state + 0x9E3779B97F4A7C15) % 2**64
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) % 2**64
        numbers.append(z ^ (z >> 31))
    return numbers


def test_bits_are_those_of_splitmix64() -> None:
    keys = [0, 1234567, -1]
    bits = Streams(torch.tensor(keys)).bits((5,))
    for key, row in zip(keys, bits.tolist(), strict=True):
        assert [word % 2**64 for word in row] == splitmix64(key % 2**64, 5)
    # the first outputs for seed 1234567 that other implementations publish
    assert splitmix64(1234567, 2) == [6457827717110365317, 3203168211198807973]


def test_mix_is_a_bijection_on_what_we_can_see() -> None:
    assert len(torch.unique(mix(torch.arange(100_000)))) == 100_000


@pytest.mark.parametrize("name", DRAWS)
def test_a_row_draws_the_same_alone_and_among_others(name: str) -> None:
    """Bit for bit, twice in a row, and after rows were selected midway."""
    draw = DRAWS[name]
    together = streams(7)
    first, second = draw(together), draw(together)
    for row in range(7):
        alone = Streams(together.keys[row : row + 1])
        assert torch.equal(draw(alone), first[row : row + 1])
        midway = alone.select(torch.tensor([0]))
        assert torch.equal(draw(alone), second[row : row + 1])
        assert torch.equal(draw(midway), second[row : row + 1])
    assert not torch.equal(first, second)


@pytest.mark.parametrize("name", DRAWS)
def test_rows_differ(name: str) -> None:
    a, b = DRAWS[name](streams(2)).double()
    many = torch.cat([DRAWS[name](s).double().flatten(1) for s in [streams(2)] for _ in range(8)], dim=1)
    assert a.shape == b.shape
    assert not torch.equal(many[0], many[1])


def test_uniform_is_uniform() -> None:
    """Kolmogorov and Smirnov's distance, along a stream and across rows, at the 1e-6 level."""
    limit = math.sqrt(-math.log(1e-6 / 2) / 2)
    for sample in (streams(1).uniform(size=(COUNT,))[0], streams().uniform(size=(1,))[:, 0]):
        ordered = sample.sort().values
        steps = torch.arange(1, COUNT + 1, dtype=torch.float64) / COUNT
        assert float((ordered - steps).abs().max()) * math.sqrt(COUNT) < limit
    # how good that limit is
    skewed = streams(1).uniform(size=(COUNT,))[0].pow(1.2).sort().values
    assert float((skewed - steps).abs().max()) * math.sqrt(COUNT) > limit


def test_uniform_keeps_its_bounds() -> None:
    sample = streams().uniform(2.0, 3.0, (5,))
    assert float(sample.min()) >= 2.0
    assert float(sample.max()) < 3.0
    assert sample.dtype == torch.float64
    assert streams(2).uniform(dtype=torch.float32).dtype == torch.float32


def test_every_bit_is_set_half_of_the_time() -> None:
    bits = streams().bits((4,)).flatten()
    shares = torch.stack([((bits >> place) & 1).double().mean() for place in range(64)])
    assert float((shares - 0.5).abs().max()) < 5 * 0.5 / math.sqrt(len(bits))


def test_neighbouring_draws_and_neighbouring_rows_do_not_correlate() -> None:
    sample = streams().normal((2,))
    limit = 5 / math.sqrt(COUNT)
    assert abs(float((sample[:, 0] * sample[:, 1]).mean())) < limit
    assert abs(float((sample[1:, 0] * sample[:-1, 0]).mean())) < limit


def test_normal_has_the_moments_of_a_normal() -> None:
    sample = streams().normal((20,)).flatten()
    noise = 5 / math.sqrt(len(sample))
    assert abs(float(sample.mean())) < noise
    assert abs(float(sample.square().mean()) - 1) < noise * math.sqrt(2)
    assert abs(float(sample.pow(3).mean())) < noise * math.sqrt(15)
    assert abs(float(sample.pow(4).mean()) - 3) < noise * math.sqrt(96)
    assert bool(torch.isfinite(sample).all())
    assert streams(2).normal(dtype=torch.float32).dtype == torch.float32


def test_fork_gives_independent_streams_and_leaves_its_own_alone() -> None:
    parent, twin = streams(), streams()
    child, other = parent.fork(1), parent.fork(2)
    assert torch.equal(parent.uniform(), twin.uniform())  # forking did not move the parent
    assert torch.equal(
        child.uniform(size=(2,)), twin.fork(1).uniform(size=(2,))
    )  # nor does the parent's position matter
    x, y, z = (s.normal() for s in (streams(), streams().fork(1), other))
    limit = 5 / math.sqrt(COUNT)
    for a, b in itertools.combinations((x, y, z), 2):
        assert abs(float((a * b).mean())) < limit


def test_forks_per_row_depend_on_their_own_datum() -> None:
    parent = streams(3)
    mixed = parent.fork(torch.tensor([5, 6, 7]))
    assert torch.equal(mixed.keys[1:2], Streams(parent.keys[1:2]).fork(6).keys)
    assert len({int(k) for data in range(500) for k in parent.fork(data).keys}) == 1500


def test_fold_in_is_not_symmetric_and_takes_any_integer() -> None:
    a, b = torch.tensor([1]), torch.tensor([2])
    assert int(fold_in(a, b)) != int(fold_in(b, a))
    assert int(fold_in(a, -1)) == int(fold_in(a, 2**64 - 1)) == int(fold_in(a, torch.tensor([-1])))
    assert int(fold_in(torch.zeros(1, dtype=torch.int64), 0)) != 0


def test_seeds_of_rows_are_prefix_stable_and_disjoint() -> None:
    assert seeds_of_rows(7, 5) == seeds_of_rows(7, 1000)[:5]
    groups = [set(seeds_of_rows(seed, 1000)) for seed in range(5)]
    assert all(len(group) == 1000 for group in groups)
    assert all(not a & b for a, b in itertools.combinations(groups, 2))
    assert all(isinstance(seed, int) for seed in seeds_of_rows(7, 3))


def test_from_seeds_takes_any_python_integer() -> None:
    assert Streams.from_seeds(3).count == 1
    large = Streams.from_seeds([2**64 + 1, -1, 2**63, 0])
    assert torch.equal(large.keys[:1], Streams.from_seeds(1).keys)
    assert len(torch.unique(large.keys)) == 4


def test_integers_keep_their_bounds_and_are_even() -> None:
    sample = streams().integers(6, (10,))
    assert sample.dtype == torch.int64
    counts = torch.bincount(sample.flatten(), minlength=6).double()
    assert len(counts) == 6
    expected = sample.numel() / 6
    assert float(((counts - expected) ** 2 / expected).sum()) < 5 + 5 * math.sqrt(10)
    assert bool((streams(5).integers(1, (3,)) == 0).all())
    largest = streams().integers(1 << 53, (3,))
    assert 0 <= int(largest.min()) <= int(largest.max()) < 1 << 53


@pytest.mark.parametrize("high", [0, -4, (1 << 53) + 1])
def test_integers_refuses_what_it_cannot_draw(high: int) -> None:
    with pytest.raises(ValueError, match=rf"between 1 and 2\*\*53, got {high}"):
        streams(1).integers(high)


def test_permutations_are_permutations_and_uniform() -> None:
    sample = streams().permutation(3)
    assert torch.equal(sample.sort(dim=1).values, torch.arange(3).expand(COUNT, 3))
    counts = torch.bincount(sample[:, 0] * 3 + sample[:, 1], minlength=9).double()
    counts = counts[counts > 0]
    assert len(counts) == 6
    assert float(((counts - COUNT / 6) ** 2 / (COUNT / 6)).sum()) < 5 + 5 * math.sqrt(10)
    assert streams(2).permutation(1).tolist() == [[0], [0]]


def test_signs_are_fair() -> None:
    sample = streams().sign((5,))
    assert torch.unique(sample).tolist() == [-1.0, 1.0]
    assert abs(float(sample.mean())) < 5 / math.sqrt(sample.numel())


def test_key_of_is_fnv_1a_and_the_same_in_every_process() -> None:
    assert key_of("") == 0xCBF29CE484222325 >> 1
    assert key_of("a") == 0xAF63DC4C8601EC8C >> 1  # a published value of the hash
    assert key_of("Rosenbrock/train") != key_of("Rosenbrock/test")
    assert 0 <= key_of("Rosenbrock/train") < 2**63
    code = "from teleport_env.random import key_of; print(key_of('Rosenbrock/train'))"
    answer = fresh.run(["-c", code])
    assert int(answer.stdout) == key_of("Rosenbrock/train")


def test_keys_of_the_wrong_kind_are_refused() -> None:
    for keys in (torch.zeros(3), torch.zeros(2, 2, dtype=torch.int64), torch.tensor(1)):
        with pytest.raises(ValueError, match="one-dimensional int64"):
            Streams(keys)


def test_no_global_state_is_touched() -> None:
    torch_state, numpy_state = torch.get_rng_state(), str(np.random.get_state())  # noqa: NPY002
    for draw in DRAWS.values():
        draw(streams(3))
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert str(np.random.get_state()) == numpy_state  # noqa: NPY002
