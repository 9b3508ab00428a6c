"""Run independent tasks in parallel processes, which end with their parent."""

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
    """Yield results of tasks as they complete; in this process if one process is enough.

    The processes end with this one, even by SIGKILL and in the middle of a task, so long tasks must
    save checkpoints.

    Args:
        work: A module-level function, called with each task.
        tasks: The tasks, started in this order.
        jobs: Maximum number of processes.

    Raises:
        ChildProcessError: If one of the processes is killed from outside.
    """
    jobs = min(jobs, len(tasks))
    if jobs <= 1:
        yield from map(work, tasks)
        return
    threads = max(1, (os.cpu_count() or 1) // jobs)
    # A forked process would inherit torch's threads in an undefined state.
    context = multiprocessing.get_context("spawn")
    with _ending_children(), ProcessPoolExecutor(jobs, context, _start, (threads,)) as pool:
        futures = [pool.submit(work, task) for task in tasks]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool as error:
            raise ChildProcessError(
                f"one of {jobs} processes was killed, perhaps because memory ran out; fewer jobs "
                "need less memory"
            ) from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


@contextmanager
def _ending_children() -> Iterator[None]:
    """Terminate child processes that were started in the block and are still running."""
    before = multiprocessing.active_children()
    try:
        yield
    finally:
        for child in multiprocessing.active_children():
            if child not in before:
                child.terminate()


def _start(threads: int) -> None:
    """Initialise a new process."""
    torch.set_num_threads(threads)
    # Ctrl-C, and closing it, reach all processes of a terminal; the parent ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Exit once the parent was killed, to free its locks and resources."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
