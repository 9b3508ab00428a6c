"""Processes for trainings that do not need each other, which end with what they work for."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TypeVar

import torch

__all__ = ["as_they_come"]

Task = TypeVar("Task")
Result = TypeVar("Result")


def as_they_come(
    work: Callable[[Task], Result], tasks: Sequence[Task], jobs: int
) -> Iterator[Result]:
    """Results of tasks, the first that is done first; in this process if one is enough.

    Whatever ends this process, were it SIGKILL, ends the others, in the middle of a task: work that
    takes long has to keep on disk what it can go on from.

    Args:
        work: What to do, a function of a module.
        tasks: What to do it to, begun in this order.
        jobs: Most processes.

    Raises:
        ChildProcessError: If something else than this process ended one of them.
    """
    jobs = min(jobs, len(tasks))
    if jobs <= 1:
        yield from map(work, tasks)
        return
    threads = max(1, (os.cpu_count() or 1) // jobs)
    # A forked process would inherit torch's threads in whatever state they are.
    context = multiprocessing.get_context("spawn")
    with _ending_children(), ProcessPoolExecutor(jobs, context, _begin, (threads,)) as pool:
        futures = [pool.submit(work, task) for task in tasks]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool as error:
            raise ChildProcessError(
                f"one of {jobs} processes was ended by something else, as where memory is short; "
                "fewer jobs take less"
            ) from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


@contextmanager
def _ending_children() -> Iterator[None]:
    """End the processes that were begun within and are still there."""
    before = multiprocessing.active_children()
    try:
        yield
    finally:
        for child in multiprocessing.active_children():
            if child not in before:
                child.terminate()


def _begin(threads: int) -> None:
    """What a new process does before its first task."""
    torch.set_num_threads(threads)
    # Ctrl-C reaches all processes of a terminal; the one that was asked ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Where the parent was killed: its locks and its part of the machine are to be free again."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
