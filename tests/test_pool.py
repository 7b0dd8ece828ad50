"""Worker processes: every task is done once, and gets the result that is its own."""

import pytest
from bench_cases import broken, work

from audiocodec.errors import CodecError
from audiocodec.pool import Pool


def test_a_pool_does_every_task_once_and_says_when_it_cannot_start() -> None:
    with Pool(2, work) as pool:
        assert sorted(pool.run(range(9))) == [(n, 2 * n) for n in range(9)]
    with Pool(1, broken) as pool, pytest.raises(CodecError, match="exit code 3"):
        list(pool.run([1]))


def test_a_run_after_one_that_was_abandoned_gets_its_own_results() -> None:
    with Pool(2, work) as pool:
        abandoned = pool.run(range(9))
        task, result = next(abandoned)
        assert result == 2 * task
        assert sorted(pool.run(range(100, 109))) == [(n, 2 * n) for n in range(100, 109)]
        abandoned.close()
        assert list(pool.run([7])) == [(7, 14)]
