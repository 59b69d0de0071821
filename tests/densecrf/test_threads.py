"""Same bytes whatever the threads and the fork."""

import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from wsss.densecrf import (
    DenseCRF,
    _native,
    bilateral_filter,
    dense_crf,
    get_num_threads,
    set_num_threads,
)

needs_fork = pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="needs fork"
)
ignore_fork_warning = pytest.mark.filterwarnings(
    "ignore:.*multi-threaded.*fork.*:DeprecationWarning"
)


@pytest.fixture
def batch(make_problem):
    sizes = [(40, 51), (33, 20), (8, 90), (51, 40), (1, 1), (64, 30), (17, 17)]
    problems = [make_problem(*size, 2 + 5 * (i % 4), i) for i, size in enumerate(sizes)]
    return [p[0] for p in problems], [p[1] for p in problems]


def digest(refined: list[np.ndarray]) -> bytes:
    return b"".join(r.tobytes() for r in refined)


def test_result_does_not_depend_on_the_number_of_threads(batch) -> None:
    expected = digest(dense_crf(*batch, n_iters=3, num_threads=1))
    for num_threads in (2, 3, 8):
        for _ in range(3):
            assert digest(dense_crf(*batch, n_iters=3, num_threads=num_threads)) == expected


@pytest.mark.parametrize("size", [(300, 450), (520, 523)])
def test_nor_does_that_of_an_image_in_strips(make_problem, size) -> None:
    # Two strips and four: threads share an image. Catches strips that depend on the threads, and
    # two of them that add to one row.
    image, probs = make_problem(*size, 3)
    expected = dense_crf(image, probs, n_iters=3, num_threads=1).tobytes()
    values = probs.reshape(3, -1)
    features = np.concatenate([values[:2] * 9, np.indices(size).reshape(2, -1) / 50])
    filtered = bilateral_filter(features, values, num_threads=1).tobytes()
    for num_threads in (2, 3, 5):
        refined = dense_crf(image, probs, n_iters=3, num_threads=num_threads)
        assert refined.tobytes() == expected
        assert bilateral_filter(features, values, num_threads=num_threads).tobytes() == filtered


def test_calls_from_several_threads_do_not_disturb_each_other(batch) -> None:
    # Catches a workspace shared between callers, and a pool that serves one job only.
    expected = digest(dense_crf(*batch, n_iters=3, num_threads=1))
    with ThreadPoolExecutor(4) as executor:
        results = executor.map(
            lambda n: digest(dense_crf(*batch, n_iters=3, num_threads=1 + n % 3)), range(8)
        )
        assert all(result == expected for result in results)


def test_eight_threads_with_problems_of_their_own(make_problem) -> None:
    # All of each thread's calls at once, of differing sizes. Catches what the callers' workspaces
    # or kept lattices share.
    problems = [make_problem(20 + 3 * i, 31 - 2 * i, 2 + i, i) for i in range(8)]
    expected = [dense_crf(*problem, n_iters=3, num_threads=1).tobytes() for problem in problems]
    barrier = threading.Barrier(8)

    def work(i: int) -> bool:
        barrier.wait(30)
        calls = [dense_crf(*problems[i], n_iters=3, num_threads=2).tobytes() for _ in range(5)]
        return set(calls) == {expected[i]}

    with ThreadPoolExecutor(8) as executor:
        assert all(executor.map(work, range(8)))


def test_the_gil_is_released(make_problem) -> None:
    image, probs = make_problem(150, 200, 5)
    started, steps = threading.Event(), 0

    def work() -> None:
        started.set()
        dense_crf(image, probs, n_iters=60, num_threads=1)

    thread = threading.Thread(target=work)
    thread.start()
    started.wait()
    while thread.is_alive():
        steps += 1
        thread.join(0.001)
    assert steps > 5  # with the GIL held, one or two


def _refine_and_send(queue, batch) -> None:
    refined = digest(dense_crf(*batch, n_iters=3, num_threads=3))
    tasks = Path("/proc/self/task")
    queue.put((refined, len(list(tasks.iterdir())) if tasks.exists() else None))


@needs_fork
@ignore_fork_warning
def test_works_in_a_child_forked_after_use(batch) -> None:
    # A DataLoader worker. Catches a pool whose threads the child does not have: at best the child
    # would work alone, at worst wait for them.
    expected = digest(dense_crf(*batch, n_iters=3, num_threads=3))
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_refine_and_send, args=(queue, batch))
    child.start()
    try:
        refined, num_tasks = queue.get(timeout=30)
    finally:
        child.join(5)
        if child.is_alive():
            child.kill()
    assert child.exitcode == 0
    assert refined == expected
    assert num_tasks is None or num_tasks >= 3  # the child's own threads, where we can count them
    assert digest(dense_crf(*batch, n_iters=3, num_threads=3)) == expected  # the parent goes on


def test_instruction_sets_agree(batch) -> None:
    # They round differently, as some fuse multiply-add; all must put points into the same simplex.
    # Catches a contracted embedding, and a kernel that one of the builds gets wrong.
    names = _native.instruction_sets()
    assert names[-1] == "baseline"
    results = []
    try:
        for name in names:
            _native.set_instruction_set(name)
            results.append(dense_crf(*batch, n_iters=4))
    finally:
        _native.set_instruction_set(names[0])
    for others in results[1:]:
        for result, other in zip(results[0], others, strict=True):
            np.testing.assert_allclose(result, other, atol=1e-5)
    with pytest.raises(ValueError, match="no instruction set 'abacus'"):
        _native.set_instruction_set("abacus")


@needs_fork
@ignore_fork_warning
def test_works_in_children_forked_during_use(batch) -> None:
    # Another thread is inside a call, and may hold the pool's lock, at the moment of the fork.
    expected = digest(dense_crf(*batch, n_iters=1, num_threads=3))
    done = threading.Event()

    def keep_busy() -> None:
        while not done.is_set():
            dense_crf(*batch, n_iters=1, num_threads=3)

    busy = threading.Thread(target=keep_busy)
    busy.start()
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    children = []
    try:
        for _ in range(4):
            child = context.Process(target=_refine_once_and_send, args=(queue, batch))
            child.start()
            children.append(child)
        assert [queue.get(timeout=30) == expected for _ in children] == [True] * 4
    finally:
        done.set()
        busy.join()
        for child in children:
            child.join(5)
            child.kill()


def _refine_once_and_send(queue, batch) -> None:
    queue.put(digest(dense_crf(*batch, n_iters=1, num_threads=3)))


class _Refined:
    """A map-style data set whose items are refined where they are read, as a loader's worker."""

    def __init__(self, batch) -> None:
        self.images, self.probs = batch

    def __len__(self) -> int:
        return 4 * len(self.images)

    def __getitem__(self, index: int) -> tuple[int, int, bytes]:
        i = index % len(self.images)
        refined = dense_crf([self.images[i]] * 2, [self.probs[i]] * 2, n_iters=3, num_threads=2)
        return i, os.getpid(), digest(refined)


@needs_fork
@ignore_fork_warning
@pytest.mark.filterwarnings("ignore:This DataLoader will create 4 worker processes:UserWarning")
def test_works_in_data_loader_workers_forked_after_use(batch) -> None:
    data = pytest.importorskip("torch.utils.data")
    dataset = _Refined(batch)
    expected = [dataset[i][2] for i in range(len(batch[0]))]  # the parent's own use
    loader = data.DataLoader(
        dataset,
        batch_size=None,
        num_workers=4,
        multiprocessing_context="fork",
        timeout=60,
        persistent_workers=True,
    )
    for _ in range(2):
        items = list(loader)
        assert len({process for _, process, _ in items} - {os.getpid()}) == 4
        assert all(refined == expected[i] for i, _, refined in items)


@pytest.fixture
def busy_core() -> Iterator[None]:
    """Two cores for this process, of which another spins on one."""
    if not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs two cores that a process can be pinned to")
    usable = os.sched_getaffinity(0)
    pair = sorted(usable)[:2]
    spin = f"import os; os.sched_setaffinity(0, [{pair[0]}])\nwhile True: pass"
    spinner = subprocess.Popen([sys.executable, "-S", "-c", spin])
    os.sched_setaffinity(0, pair)
    try:
        yield
    finally:
        os.sched_setaffinity(0, usable)
        spinner.kill()
        spinner.wait()


@pytest.mark.usefixtures("busy_core")
def test_two_threads_are_no_slower_than_one_beside_a_busy_core(make_problem) -> None:
    # Threads that spin while they wait are four times slower there; work divided in advance waits
    # for the slower half. Interleaved, so that what else the machine does hits both.
    image, probs = make_problem(120, 160, 9)
    batch = [image] * 8, [probs] * 8
    times: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(7):
        for num_threads, taken in times.items():
            start = time.perf_counter()
            dense_crf(*batch, n_iters=3, num_threads=num_threads)
            taken.append(time.perf_counter() - start)
    single, double = (statistics.median(times[n]) for n in (1, 2))
    assert double < 1.5 * single, f"one thread takes {single:.3f} s, two take {double:.3f} s"


def denormals_survive() -> bool:
    tiny = np.full(64, 1e-30, np.float32) * np.float32(1e-10)
    return bool((tiny > 0).all() and (tiny + tiny > tiny).all())


flushes = pytest.mark.skipif(
    platform.machine().lower() not in ("x86_64", "amd64", "aarch64", "arm64"),
    reason="needs a processor whose flush-to-zero mode we set",
)


def _refuse(image: np.ndarray, probs: np.ndarray) -> None:
    with pytest.raises(ValueError):
        dense_crf([image] * 3, [probs, probs, probs * np.nan], num_threads=3)


def _step(image: np.ndarray, probs: np.ndarray) -> None:
    crf = DenseCRF(probs[0].size, len(probs))
    crf.setUnaryEnergy(-np.log(probs).reshape(len(probs), -1))
    crf.addPairwiseEnergy(np.zeros((2, probs[0].size)), 3)
    q, *_ = crf.startInference()
    crf.stepInference(q)
    crf.klDivergence(q)


@pytest.mark.parametrize(
    "use",
    [
        pytest.param(lambda i, p: dense_crf(i, p, num_threads=1), id="one"),
        pytest.param(lambda i, p: dense_crf([i] * 5, [p] * 5, num_threads=3), id="batch"),
        pytest.param(lambda i, p: bilateral_filter(p[0][:2], p[0][2:4]), id="filter"),
        pytest.param(_step, id="step"),
        pytest.param(_refuse, id="error"),
    ],
)
def test_denormal_arithmetic_is_restored(make_problem, use) -> None:
    # Flushing must not leak into the caller's thread: NumPy would lose its denormals.
    assert denormals_survive()
    use(*make_problem(20, 20, 3))
    assert denormals_survive()
    with ThreadPoolExecutor(1) as executor:  # a new thread inherits the mode of the one it is from
        assert executor.submit(denormals_survive).result()


@flushes
def test_denormals_are_flushed_in_every_thread() -> None:
    # They cost some 100 cycles each, and come by the million. Of 41 labels 40 share a pixel, which
    # leaves 1e-37 / 40 to the last: flushed to 0, whichever thread it falls to.
    probs = np.ones((41, 6, 7), np.float32)
    probs[40] = 0
    image = np.zeros((6, 7, 3), np.uint8)
    refined = dense_crf([image] * 8, [probs] * 8, n_iters=0, min_prob=1e-37, num_threads=4)
    for image_probs in refined:
        np.testing.assert_allclose(image_probs[:40], 1 / 40, rtol=1e-5)
        assert (image_probs[40] == 0).all()


def test_number_of_threads_by_default() -> None:
    assert get_num_threads() >= 1
    try:
        set_num_threads(3)
        assert get_num_threads() == 3
        with pytest.raises(ValueError, match=r"at least 1.*but is 0"):
            set_num_threads(0)
        assert get_num_threads() == 3
    finally:
        set_num_threads(None)


ENDS = """
import os, sys, threading, time
import numpy as np
from wsss.densecrf import dense_crf

image = np.zeros((60, 80, 3), np.uint8)
probs = np.full((4, 60, 80), 0.25, np.float32)

def work():
    while True:
        dense_crf(image, probs, num_threads=int(sys.argv[1]))

threading.Thread(target=work, daemon=True).start()
time.sleep(0.2)
if sys.argv[2] == "fork" and os.fork():
    assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
"""


@pytest.mark.parametrize("num_threads", ["1", "2"])
@pytest.mark.parametrize("how", ["at once", "fork"])
def test_a_daemon_thread_does_not_abort_a_process_that_ends(num_threads: str, how: str) -> None:
    for _ in range(3):
        run = [sys.executable, "-c", ENDS, num_threads, how]
        done = subprocess.run(run, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, "")
