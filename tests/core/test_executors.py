"""Who works: results, errors and deaths come out the same way."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal

import pytest
from helpers.plain_work import deadly, dies, doubles, stillborn, unloadable, unpicklable

from handi.core.errors import HandiError, InputError, OutputError
from handi.core.executors import Processes, Ray, Serial, executor, load_work


@pytest.mark.parametrize("executor", [Serial(), Processes(1), Processes(3)])
def test_every_piece_is_done_once(executor):
    results = list(executor.run(doubles, range(10)))
    assert sorted(value for value, _ in results) == list(range(0, 20, 2))
    processes = {process for _, process in results}
    assert (os.getpid() in processes) == isinstance(executor, Serial)
    assert len(processes) <= getattr(executor, "workers", 1)
    assert list(executor.run(doubles, [])) == []


@pytest.mark.parametrize("executor", [Serial(), Processes(2)])
def test_a_workers_error_is_the_runs(executor):
    with pytest.raises(OutputError, match=r"^shard.tar: cannot be written; free some space$") as error:
        list(executor.run(doubles, [1, 13, 2]))
    assert error.value.hint == "free some space"


def test_an_error_that_cannot_travel_is_told():
    with pytest.raises(RuntimeError, match="OddError: odd"):
        list(Processes(1).run(unpicklable, [1]))


def test_workers_that_die_are_replaced_and_their_pieces_begun_anew(tmp_path):
    pieces = [(tmp_path / "deaths", value) for value in range(10)]
    assert sorted(Processes(2).run(dies, pieces)) == list(range(10))
    assert (tmp_path / "deaths").read_text() == "xx"


def test_a_piece_that_kills_its_workers_is_given_up():
    results = sorted(Processes(2).run(deadly, range(5), lost=lambda piece: -piece))
    assert results == [-3, 0, 1, 2, 4]


def test_workers_that_die_at_their_start_end_the_run():
    with pytest.raises(HandiError, match=r"die before their first piece \(signal 9, SIGKILL\)"):
        list(Processes(2).run(stillborn, [1, 2]))


def test_loading_is_given_up_where_workers_die_of_it(tmp_path):
    """As of Ray: three die one after the other, and the fourth says so. Those that load do not count."""
    log = tmp_path / "loads"
    assert load_work(pickle.dumps(doubles), log)(4)[0] == 8
    for _ in range(3):
        child = multiprocessing.get_context("spawn").Process(
            target=load_work, args=(pickle.dumps(stillborn), log)
        )
        child.start()
        child.join()
        assert child.exitcode == -signal.SIGKILL
    with pytest.raises(HandiError, match="workers die before their first piece; use fewer"):
        load_work(pickle.dumps(doubles), log)


@pytest.mark.timeout(900)
def test_ray_does_the_same(tmp_path, monkeypatch):
    import ray

    # Of another project: without --ray-address it must not be joined. Nobody answers there.
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    Ray(2).start()  # kept for several runs
    try:
        results = list(Ray(2).run(doubles, range(6)))
        assert sorted(value for value, _ in results) == list(range(0, 12, 2))
        assert os.getpid() not in {process for _, process in results}
        with pytest.raises(OutputError, match="free some space"):
            list(Ray(1).run(doubles, [13]))
        with pytest.raises(OutputError, match=r"^model: cannot be loaded$"):
            list(Ray(1).run(unloadable, [1]))
        with pytest.raises(HandiError, match="workers die before their first piece; use fewer"):
            list(Ray(1).run(stillborn, [1]))
        pieces = [(tmp_path / "deaths", value) for value in (1, 7)]
        assert sorted(Ray(1).run(dies, pieces)) == [1, 7]
        assert (tmp_path / "deaths").read_text() == "xx"
        assert sorted(Ray(1).run(deadly, (3, 4), lost=lambda piece: -piece)) == [-3, 4]
    finally:
        ray.shutdown()


def test_names():
    assert isinstance(executor("serial", 1), Serial)
    assert executor("processes", 3).workers == 3
    with pytest.raises(InputError, match="use serial, processes or ray"):
        executor("threads", 2)
    with pytest.raises(InputError, match="use 1 or more"):
        executor("processes", 0)
