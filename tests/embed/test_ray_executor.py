"""The Ray executor on a real cluster of several local nodes: the same store as here, also if a node is lost."""

import importlib.util
import os
import sys
import threading
import time
from pathlib import Path

import pytest
from made_sources import Means, Noise, digests
from pictures import noise

import diptych
from diptych.embed import ray_executor as module
from diptych.embed.embed_source import embed_source
from diptych.embed.ray_executor import ray_executor
from diptych.embed.store import open_store
from diptych.errors import ConfigError, InputError

SMALL = {"batch_size": 4, "rows_per_shard": 16}
TESTS = Path(__file__).parents[1]


class SlowMeans(Means):
    """Takes its time, and leaves a file that tells on which node and how often it worked."""

    def __init__(self, log: Path) -> None:
        super().__init__()
        self.log = log

    def encode_images(self, images):
        import ray

        if ray.is_initialized():
            node = ray.get_runtime_context().get_node_id()
            with (self.log / node).open("a") as file:
                file.write("x")
            time.sleep(0.2)
        return super().encode_images(images)


class Refusing(Means):
    """Fails in a worker, with an error of Diptych or with another one."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def encode_images(self, images):
        if len(images) > 1:
            raise self.error
        return super().encode_images(images)


@pytest.fixture()
def cluster(monkeypatch: pytest.MonkeyPatch):
    """A head and two more nodes with one CPU each, as processes of this machine."""
    ray = pytest.importorskip("ray", reason="ray is not installed")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(TESTS), str(TESTS / "embed"), str(TESTS.parent)]))
    memory = {"object_store_memory": 100 << 20}
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, **memory})
    made.workers = [made.add_node(num_cpus=1, **memory) for _ in range(2)]
    yield made
    ray.shutdown()
    made.shutdown()


@pytest.mark.long
def test_a_cluster_makes_the_same_store_and_skips_what_is_done(cluster, tmp_path):
    expected = embed_source(Noise(), Means(), tmp_path / "here", **SMALL)
    executor = ray_executor(cluster.address)
    store = embed_source(Noise(), Means(), tmp_path / "there", **SMALL, executor=executor)
    assert digests(store) == digests(expected) and store.is_complete
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "there").rglob("*") if path.is_file()}
    again = embed_source(Noise(), Means(), tmp_path / "there", **SMALL, executor=executor)
    assert digests(again) == digests(expected)
    assert times == {path: path.stat().st_mtime_ns for path in (tmp_path / "there").rglob("*") if path.is_file()}


@pytest.mark.long
def test_a_node_lost_in_the_middle_loses_nothing(cluster, tmp_path):
    source = Noise(num_shards=12, per_shard=40)
    expected = embed_source(source, Means(), tmp_path / "here", **SMALL)
    (log := tmp_path / "log").mkdir()
    lost = []

    def lose_a_node() -> None:
        while not lost:
            for node in cluster.workers:
                if (log / node.node_id).exists() and (log / node.node_id).stat().st_size > 3:
                    cluster.remove_node(node, allow_graceful=False)
                    lost.append(node.node_id)
                    return
            time.sleep(0.1)

    thread = threading.Thread(target=lose_a_node, daemon=True)
    thread.start()
    store = embed_source(source, SlowMeans(log), tmp_path / "there", **SMALL, executor=ray_executor(cluster.address))
    assert lost, "the node was lost too late: make the work longer"
    assert digests(store) == digests(expected) and store.is_complete
    assert not list((tmp_path / "there").glob(".*"))
    store.check()


@pytest.mark.long
def test_errors_of_a_worker_arrive_as_they_are(cluster, tmp_path):
    executor = ray_executor(cluster.address)
    with pytest.raises(InputError, match="the vector is wrong"):
        embed_source(Noise(), Refusing(InputError("the vector is wrong")), tmp_path / "a", **SMALL, executor=executor)
    with pytest.raises(Exception, match="KeyError"):
        embed_source(Noise(), Refusing(KeyError("oops")), tmp_path / "b", **SMALL, executor=executor)
    assert list(executor(len, [], is_finished=lambda shard: False)) == []


@pytest.mark.long
def test_the_command_works_on_a_cluster(cluster, tmp_path, command):
    (tmp_path / "photos").mkdir()
    for number in range(20):
        noise(30 + number, 40, seed=number).save(tmp_path / "photos" / f"{number:02}.png")
    words = ("embed", "photos", "--backend", "onnx", "--precision", "fp32")
    here = command(*words, "--out", "here")
    there = command(*words, "--out", "there", "--ray", cluster.address)
    assert here.status == there.status == 0, there.out + there.err + there.log
    stores = open_store(tmp_path / "here"), open_store(tmp_path / "there")
    assert digests(stores[0]) == digests(stores[1]) and len(stores[0]) == 20


@pytest.mark.long
@pytest.mark.parametrize("backend", ["torch", "onnx"])
def test_every_back_end_crosses_to_the_nodes(cluster, tmp_path, monkeypatch, backend):
    for number in range(20):
        noise(30 + number, 40, seed=number).save(tmp_path / f"{number:02}.png")
        (tmp_path / f"{number:02}.txt").write_text("noise")
    source, model = diptych.open_source(tmp_path), diptych.load("default", backend=backend)
    expected = embed_source(source, model, tmp_path / "here", **SMALL)
    store = embed_source(source, model, tmp_path / "there", **SMALL, executor=ray_executor(cluster.address))
    assert digests(store) == digests(expected)


def test_without_ray_the_message_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"pip install 'diptych\[ray\]'"):
        ray_executor()


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed")
def test_without_a_cluster_the_message_says_how_to_start_one():
    with pytest.raises(ConfigError, match="ray start --head"):
        ray_executor("auto")


def test_a_machine_without_the_folder_is_named(tmp_path):
    worker = module._Worker(len, [()], 1, str(tmp_path / "elsewhere"))
    (answer,) = worker({"place": [0]})["answer"]
    assert answer[0] is None and "see the input and the output" in str(answer[1])


def test_results_come_in_the_order_of_the_shards():
    class Rows:
        def __init__(self, *places: int) -> None:
            self.rows = [{"place": place, "answer": str(place).encode()} for place in places]

        def iter_rows(self):
            return iter(self.rows)

    assert list(module._in_order(Rows(2, 0, 3, 1), 4)) == [(place, str(place).encode()) for place in range(4)]
    with pytest.raises(diptych.DiptychError, match="2 of 3"):
        list(module._in_order(Rows(1, 0), 3))
