"""Pieces that threads share: each is done once, nobody goes on before all are done, and none of it can block."""

import threading

import numpy as np
import pytest
from numba import njit

from accel_sim.executors.claims import claim, finish, new_progress, wait_for_all


@njit(nogil=True)
def _work(progress, pieces, done, after):
    """Two phases: count each piece of the first, then write what the whole first phase came to into `after`."""
    piece = claim(progress, 0)
    while piece < pieces:
        done[piece] += 1
        finish(progress, 0)
        piece = claim(progress, 0)
    wait_for_all(progress, 0, pieces)
    piece = claim(progress, 1)
    while piece < pieces:
        after[piece] += done.sum()
        piece = claim(progress, 1)


@pytest.mark.parametrize("workers", [1, 2, 7])
def test_every_piece_is_done_once_and_before_the_next_phase(workers):
    pieces = 1000
    for _ in range(20):
        progress, done, after = new_progress(2), np.zeros(pieces, np.int64), np.zeros(pieces, np.int64)
        threads = [threading.Thread(target=_work, args=(progress, pieces, done, after)) for _ in range(workers)]
        for each in threads:
            each.start()
        for each in threads:
            each.join(timeout=60)
        assert not any(each.is_alive() for each in threads)
        assert (done == 1).all() and (after == pieces).all()


def test_one_that_comes_when_all_is_done_does_nothing():
    progress, done, after = new_progress(2), np.zeros(5, np.int64), np.zeros(5, np.int64)
    for _ in range(2):
        _work(progress, 5, done, after)
    assert (done == 1).all() and (after == 5).all()
