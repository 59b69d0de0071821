"""Same bytes whatever the threads, the fork and the instruction set."""

import multiprocessing
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from wsss.densecrf import _native, dense_crf, get_num_threads, set_num_threads


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


def test_calls_from_several_threads_do_not_disturb_each_other(batch) -> None:
    # Catches a workspace shared between callers, and a pool that serves one job only.
    expected = digest(dense_crf(*batch, n_iters=3, num_threads=1))
    with ThreadPoolExecutor(4) as executor:
        results = executor.map(
            lambda n: digest(dense_crf(*batch, n_iters=3, num_threads=1 + n % 3)), range(8)
        )
        assert all(result == expected for result in results)


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


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
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


def test_instruction_sets_give_the_same_bytes(batch) -> None:
    # Catches a contracted multiply-add in one of the builds.
    names = _native.instruction_sets()
    assert names[-1] == "baseline"
    results = set()
    try:
        for name in names:
            _native.set_instruction_set(name)
            results.add(digest(dense_crf(*batch, n_iters=4)))
    finally:
        _native.set_instruction_set(names[0])
    assert len(results) == 1
    with pytest.raises(ValueError, match="no instruction set 'abacus'"):
        _native.set_instruction_set("abacus")


def test_denormal_arithmetic_is_restored(make_problem) -> None:
    # Flushing must not leak into the caller's thread: NumPy would lose its denormals.
    image, probs = make_problem(20, 20, 3)
    dense_crf(image, probs, num_threads=1)
    tiny = np.full(8, 1e-30, np.float32)
    assert ((tiny * np.float32(1e-10)) > 0).all()


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
