"""Lanes: the same global batches for every number of ranks, and states that go on with another number."""

import io
import itertools
import shutil

import numpy as np
import pytest
import torch
from loading import AUGMENTATION, PREPROCESSING, Shards, assert_equal, config, keys, make, small_tokenizer, take

from diptych.data.lanes import dealt, lanes_of_rank
from diptych.data.loader import Loader, merge_states
from diptych.data.open_source import open_source
from diptych.data.shards import write_shards
from diptych.data.stream import ChunkStream
from diptych.data.tokenizer import Tokenizer
from diptych.errors import ConfigError, DataError
from diptych.records import Batch, Broken


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return small_tokenizer()


def joined(parts: list[Batch]) -> Batch:
    """The batches of all ranks as one."""
    width = max(part.tokens.shape[1] for part in parts)
    tokens = [torch.nn.functional.pad(part.tokens, (0, width - part.tokens.shape[1])) for part in parts]
    return Batch(
        torch.cat([part.images for part in parts]),
        torch.cat(tokens),
        torch.cat([part.lengths for part in parts]),
        tuple(itertools.chain.from_iterable(part.keys for part in parts)),
    )


def run(source, tokenizer, values, count, world_size=1, state=None):
    """`count` global batches made by `world_size` loaders, and the joined state after each."""
    loaders = [
        Loader(source, tokenizer, PREPROCESSING, values, AUGMENTATION, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    if state is not None:
        saved = io.BytesIO()
        torch.save(state, saved)
        state = torch.load(io.BytesIO(saved.getvalue()), weights_only=True)
        for loader in loaders:
            loader.load_state_dict(state)
    iterators, batches = [iter(loader) for loader in loaders], []
    states = [merge_states([loader.state_dict() for loader in loaders])]
    for _ in range(count):
        batches.append(joined([next(iterator) for iterator in iterators]))
        states.append(merge_states([loader.state_dict() for loader in loaders]))
    for loader in loaders:
        loader.close()
    return batches, states


# ---- which pairs


def test_the_order_by_hand(tokenizer):
    """Five shards of two, two lanes, batches of five, no shuffling.

    The shards 0 1 2 3 4 0 1 2 3 4 go to the lanes in turn, so lane 0 reads 0 2 4 1 3 and lane 1 reads 1 3 0 2 4. Of the
    pairs 0 to 4, lane 0 gives the even ones, three; of 5 to 9 two.
    """
    values = config(lanes=2, global_batch_size=5, shuffle_buffer=0)
    batches, _ = run(make([2] * 5), tokenizer, values, 4)
    expected = [[0, 1, 4, 2, 3], [5, 8, 6, 7, 0], [9, 2, 3, 1, 4], [6, 7, 5, 8, 9]]
    assert [[int(key[1:]) for key in batch.keys] for batch in batches] == expected
    loader = Loader(make([2] * 5), tokenizer, PREPROCESSING, values, rank=1, world_size=2)
    assert [keys([batch]) for batch in itertools.islice(loader, 2)] == [["k2", "k3"], ["k6", "k7", "k0"]]
    assert loader.num_seen == 10  # over all ranks


def test_dealing():
    rng = np.random.default_rng(0)
    for _ in range(50):
        num_lanes, world_size = (int(n) for n in rng.integers(1, 9, 2))
        first, count = (int(n) for n in rng.integers(0, 40, 2))
        mine = [dealt(first, count, lane, num_lanes) for lane in range(num_lanes)]
        assert mine == [sum(n % num_lanes == lane for n in range(first, first + count)) for lane in range(num_lanes)]
        lanes = [list(lanes_of_rank(rank, world_size, num_lanes)) for rank in range(world_size)]
        assert list(itertools.chain.from_iterable(lanes)) == list(range(num_lanes))
        assert max(map(len, lanes)) - min(map(len, lanes)) <= 1


@pytest.mark.parametrize(("num_shards", "num_lanes"), [(9, 8), (5, 3), (6, 3), (7, 1)])
def test_each_sample_comes_once_per_epoch(num_shards, num_lanes):
    source = make([3, 5, 2, 4, 1, 6, 3, 2, 5][:num_shards])
    everything = sorted(item.key for shard in source.contents for item in shard)
    epochs: list[list[str]] = [[] for _ in range(6)]
    for lane in range(num_lanes):
        values = {"seed": 3, "shuffle_buffer": 4, "shuffle_buffer_bytes": 2**20, "chunk_size": 2}
        for _, chunk in ChunkStream(source, **values, lane=lane, num_lanes=num_lanes):
            if chunk.epoch == 6:
                break
            epochs[chunk.epoch] += [item.key for _, item in chunk.items]
    assert all(sorted(epoch) == everything for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 6


def test_no_lane_runs_ahead(tokenizer):
    """Nine shards for eight lanes: one gets two in each epoch, but never the same, so that all stay together."""
    loader = Loader(make([4] * 9), tokenizer, PREPROCESSING, config(lanes=8, global_batch_size=8))
    for _ in itertools.islice(loader, 9 * 4 * 6):
        epochs = [values["position"]["epoch"] for values in loader.state_dict()["lanes"].values()]
        assert max(epochs) - min(epochs) <= 1
    assert loader.num_seen == 48 * 36 and max(epochs) == 47


def test_equal_lanes_end_their_epochs_together(tokenizer):
    loader = Loader(make([4] * 9), tokenizer, PREPROCESSING, config(lanes=3, global_batch_size=36))
    epochs = [batch.keys for batch in itertools.islice(loader, 4)]
    assert all(sorted(epoch) == sorted(f"k{n}" for n in range(36)) for epoch in epochs) and len(set(epochs)) == 4


def test_fewer_shards_than_lanes(tokenizer):
    for num_shards in (1, 3):
        source = make([20] * num_shards)
        many, few = (run(source, tokenizer, config(lanes=lanes), 9)[0] for lanes in (8, num_shards))
        assert_equal(many, few)


def test_lanes_draw_their_own_random_numbers(tokenizer):
    """The same picture in the same place of two lanes is augmented differently."""
    sample = make([1]).contents[0][0]
    source = Shards([[sample] * 12 for _ in range(2)])
    batches, _ = run(source, tokenizer, config(lanes=2, global_batch_size=2), 12)
    same = [torch.equal(batch.images[0], batch.images[1]) for batch in batches]
    assert sum(same) == 0


# ---- ranks and workers


@pytest.mark.parametrize(("world_size", "num_workers"), [(2, 0), (3, 0), (4, 0), (1, 2), (2, 2)])
def test_the_global_batches_are_the_same(tokenizer, world_size, num_workers):
    source = make([13, 5, 9, 21, 4, 17], broken_every=5)
    expected, states = run(source, tokenizer, config(lanes=4, global_batch_size=11), 12)
    ours, later = run(source, tokenizer, config(lanes=4, global_batch_size=11, num_workers=num_workers), 12, world_size)
    assert_equal(ours, expected)
    assert str(later) == str(states)
    assert len({batch.keys for batch in expected}) == 12


@pytest.mark.parametrize("seed", range(12))
def test_ranks_and_resume_at_random(tokenizer, seed):
    rng = np.random.default_rng(seed)
    num_lanes = int(rng.integers(1, 7))
    sizes = rng.integers(1, 20, num_lanes + int(rng.integers(0, 5))).tolist()
    values = config(
        lanes=num_lanes,
        global_batch_size=num_lanes + int(rng.integers(0, 20)),
        shuffle_buffer=int(rng.integers(0, 40)),
        chunk_size=int(rng.integers(1, 12)),
        seed=int(rng.integers(0, 2**60)),
        max_broken=1,
    )
    source = make(sizes, int(rng.choice([0, 4, 7])))
    expected, states = run(source, tokenizer, values, 10)
    first, second = (int(rng.integers(1, num_lanes + 1)) for _ in range(2))
    stop = int(rng.integers(0, 10))
    before, saved = run(source, tokenizer, values, stop, first)
    after, later = run(source, tokenizer, values, 10 - stop, second, state=saved[-1])
    assert_equal(before + after, expected)
    assert str(saved[-1]) == str(states[stop])
    assert [merged["num_seen"] for merged in later] == [merged["num_seen"] for merged in states[stop:]]
    for merged, reference in zip(later, states[stop:], strict=True):
        for lane, lane_state in merged["lanes"].items():
            assert lane_state["tally"] == reference["lanes"][lane]["tally"]


@pytest.mark.parametrize("stop", [0, 1, 5, 8])
def test_resume_on_other_numbers_of_ranks(tokenizer, stop):
    source, values = make([13, 5, 9, 21, 4, 17], broken_every=5), config(lanes=5, global_batch_size=11)
    expected, _ = run(source, tokenizer, values, 10)
    _, states = run(source, tokenizer, values, stop, world_size=2)
    for world_size in (1, 2, 3, 4, 5):
        assert_equal(run(source, tokenizer, values, 10 - stop, world_size, states[-1])[0], expected[stop:])


def test_states_that_do_not_belong_together(tokenizer):
    values = config(lanes=4, global_batch_size=8)
    loaders = [Loader(make([4] * 4), tokenizer, PREPROCESSING, values, rank=rank, world_size=2) for rank in range(2)]
    first, second = (loader.state_dict() for loader in loaders)
    with pytest.raises(ConfigError, match=r"has no lane 2: .* merge_states"):
        loaders[1].load_state_dict(first)
    loaders[0].load_state_dict(first)  # a rank's own state will do for that rank
    with pytest.raises(ConfigError, match="2 of 4 lanes"):
        merge_states([first])
    with pytest.raises(ConfigError, match="occur twice"):
        merge_states([first, first])
    next(iter(loaders[1]))
    with pytest.raises(ConfigError, match="num_seen"):
        merge_states([first, loaders[1].state_dict()])
    assert list(merge_states([second, first])["lanes"]) == ["0", "1", "2", "3"]
    with pytest.raises(ConfigError, match="lanes was 4 and is 2"):
        Loader(make([4] * 4), tokenizer, PREPROCESSING, config(lanes=2, global_batch_size=8)).load_state_dict(first)


def test_impossible_numbers_of_ranks(tokenizer):
    def make_loader(num_shards, world_size, **changes):
        Loader(make([4] * num_shards), tokenizer, PREPROCESSING, config(**changes), rank=0, world_size=world_size)

    with pytest.raises(ConfigError, match=r"16 processes need at least 16 lanes.* 8: set loader.lanes to 16 or a"):
        make_loader(32, 16, lanes=8)
    with pytest.raises(ConfigError, match=r"3 processes need .* are 2: the data has 2 shards: write it as more shards"):
        make_loader(2, 3, lanes=8)
    with pytest.raises(ConfigError, match=r"set loader.lanes to 3 or a multiple; the data has 2 shards"):
        make_loader(2, 3, lanes=1)
    with pytest.raises(ConfigError, match="a batch of 3 pairs cannot come from 4 lanes"):
        make_loader(8, 2, lanes=4, global_batch_size=3)
    with pytest.raises(ConfigError, match="rank is 3"):
        Loader(make([4, 4]), tokenizer, PREPROCESSING, config(), rank=3, world_size=3)


# ---- what is broken


def test_broken_samples_shift_no_other_lane(tokenizer):
    values = config(lanes=4, global_batch_size=8, shuffle_buffer=0)
    whole, damaged = make([12] * 4), make([12] * 4)
    for place in (0, 1, 5, 7):
        damaged.contents[1][place] = Broken(f"b{place}", "1.tar", "nothing in it")
    ours, theirs = run(damaged, tokenizer, values, 6)[0], run(whole, tokenizer, values, 6)[0]
    others = [0, 1, 4, 5, 6, 7]  # two rows of each lane; 2 and 3 are lane 1's
    for a, b in zip(ours, theirs, strict=True):
        assert [a.keys[row] for row in others] == [b.keys[row] for row in others]
        assert torch.equal(a.images[others], b.images[others])
    assert [key for batch in ours for key in batch.keys[2:4]][:8] == [f"k{n}" for n in (14, 15, 16, 18, 20, 21, 22, 23)]


def test_ranks_count_their_own_shards(tokenizer):
    source = make([4] * 6)
    for number, items in enumerate(source.contents):
        items.append(Broken("end", f"{number}.tar", "the rest is lost", rest_lost=True))
    for rank in range(2):
        loader = Loader(source, tokenizer, PREPROCESSING, config(max_broken=0.9, lanes=2), rank=rank, world_size=2)
        with pytest.raises(DataError, match="3 of 3 shards"):
            take(loader, 9)


def test_lost_shards_are_counted_once_per_epoch_whoever_meets_them(tokenizer):
    source = make([4] * 12)
    source.contents[5].append(Broken("end", "5.tar", "the rest is lost", rest_lost=True))
    values = config(max_broken=0.1, lanes=4, global_batch_size=12)
    run(source, tokenizer, values, 40)  # ten epochs
    source.contents[7].append(Broken("end", "7.tar", "the rest is lost", rest_lost=True))
    with pytest.raises(DataError, match="2 of 12 shards break off"):
        run(source, tokenizer, values, 40)


def test_counts_survive_another_number_of_ranks(tokenizer):
    source, values = make([13, 5, 9, 21], broken_every=3), config(lanes=4, global_batch_size=8)
    expected = run(source, tokenizer, values, 10)[1][-1]
    middle = run(source, tokenizer, values, 4, world_size=2)[1][-1]
    loader = Loader(source, tokenizer, PREPROCESSING, values, AUGMENTATION)
    loader.load_state_dict(run(source, tokenizer, values, 6, world_size=3, state=middle)[1][-1])
    reference = Loader(source, tokenizer, PREPROCESSING, values, AUGMENTATION)
    reference.load_state_dict(expected)
    assert loader.broken == reference.broken and sum(loader.broken.values()) > 20


@pytest.mark.parametrize("lanes", [1, 3])
@pytest.mark.parametrize("num_workers", [0, 1])
def test_vanished_shards_stop_the_run_and_lose_nothing(tokenizer, tmp_path, num_workers, lanes):
    samples = [sample for shard in make([60]).contents for sample in shard]
    folder, away = tmp_path / "shards", tmp_path / "away"
    write_shards(samples, folder, shard_size=10)
    values = config(lanes=lanes, num_workers=num_workers)
    expected, _ = run(open_source(folder), tokenizer, values, 12)
    loader = Loader(open_source(folder), tokenizer, PREPROCESSING, values, AUGMENTATION)
    batches, ours = iter(loader), []
    with pytest.raises(DataError, match=r"cannot read the shard .*/[0-5]\.tar: No such file.*--resume"):
        for batch in batches:
            ours.append(batch)
            if len(ours) == 1:
                shutil.move(folder, away)
    assert 1 <= len(ours) < 12
    state = loader.state_dict()
    shutil.move(away, folder)
    assert_equal(ours, expected[: len(ours)])
    fresh = Loader(open_source(folder), tokenizer, PREPROCESSING, values, AUGMENTATION)
    fresh.load_state_dict(state)
    for going_on in (fresh, loader):  # in another process, and here
        rest, _ = take(going_on, 12 - len(ours))
        assert_equal(rest, expected[len(ours) :])
        going_on.close()
