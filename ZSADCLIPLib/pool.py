"""Independent tasks in this process or in several: progress and cancelling go through, a failed task stops nobody else."""

from __future__ import annotations

import multiprocessing
import os
import queue
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

from .errors import ZSADCLIPError
from .progress import Cancelled, Progress, part


@dataclass(frozen=True)
class Task:
    """A module-level `function(*arguments, progress=...)` with plain arguments; `cost` weighs it in the progress."""

    name: str
    function: Callable
    arguments: tuple
    cost: float = 1.0


@dataclass(frozen=True)
class Outcome:
    """What became of a task: its value, or the error as one line."""

    task: Task
    value: object = None
    error: str = ""


class Pool:
    """Runs tasks, `workers` at once: 1 in this process, more in processes of their own.

    Every process computes with one thread, so that sums come out bit by bit the same whatever the number of workers. A
    worker ends with its parent. Use as a context manager.
    """

    def __init__(self, workers: int = 1):
        self.workers, self._executor, self._threads = workers, None, 1
        if workers > 1:
            context = multiprocessing.get_context("spawn")
            self._events, self._cancelled = context.Queue(), context.Event()
            self._executor = ProcessPoolExecutor(
                workers, context, initializer=_start_worker, initargs=(self._events, self._cancelled)
            )

    def __enter__(self) -> Pool:
        if self._executor is None:
            import torch

            self._threads = torch.get_num_threads()
            torch.set_num_threads(1)
        return self

    def __exit__(self, *error) -> None:
        if self._executor is None:
            import torch

            torch.set_num_threads(self._threads)
            return
        self._cancelled.set()
        self._executor.shutdown(wait=True, cancel_futures=True)

    def run(self, tasks: list[Task], progress: Progress) -> Iterator[Outcome]:
        """Outcomes as they come. Raises what `progress` raises, after the running tasks have stopped."""
        total = sum(task.cost for task in tasks) or 1.0
        if self._executor is None:
            done = 0.0
            for task in tasks:
                yield self._here(task, part(progress, done / total, (done + task.cost) / total))
                done += task.cost
            return
        yield from self._there(tasks, total, progress)

    def _here(self, task: Task, progress: Progress) -> Outcome:
        try:
            return Outcome(task, task.function(*task.arguments, progress=_named(task, progress)))
        except (ZSADCLIPError, OSError, MemoryError, RuntimeError) as error:
            return Outcome(task, error=_line(error))

    def _there(self, tasks: list[Task], total: float, progress: Progress) -> Iterator[Outcome]:
        waiting = {self._executor.submit(_run, i, task): task for i, task in enumerate(tasks)}
        share = dict.fromkeys(range(len(tasks)), 0.0)
        number = {id(task): i for i, task in enumerate(tasks)}
        text = ""
        while waiting:
            finished, _ = wait(waiting, timeout=0.2, return_when=FIRST_COMPLETED)
            while True:
                try:
                    i, fraction, text = self._events.get_nowait()
                except queue.Empty:
                    break
                if i in share:
                    share[i] = fraction
            for future in finished:
                task = waiting.pop(future)
                share[number[id(task)]] = 1.0
                try:
                    yield Outcome(task, future.result())
                except Cancelled:
                    raise
                except BrokenProcessPool:
                    raise
                except Exception as error:
                    yield Outcome(task, error=_line(error))
            progress(sum(share[i] * task.cost for i, task in enumerate(tasks)) / total, text)


def _named(task: Task, progress: Progress) -> Progress:
    return lambda fraction, text: progress(fraction, f"{task.name}: {text}")


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error or 'out of memory'}"


_worker: dict = {}


def _start_worker(events, cancelled) -> None:
    import torch

    torch.set_num_threads(1)
    _worker.update(events=events, cancelled=cancelled)
    parent = multiprocessing.parent_process()

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def _run(number: int, task: Task):
    def progress(fraction: float, text: str) -> None:
        if _worker["cancelled"].is_set():
            raise Cancelled("asked to stop")
        _worker["events"].put((number, fraction, f"{task.name}: {text}"))

    try:
        return task.function(*task.arguments, progress=progress)
    except (ZSADCLIPError, Cancelled):
        raise
    except Exception:
        traceback.print_exc()  # the parent sees one line, the log the rest
        raise
