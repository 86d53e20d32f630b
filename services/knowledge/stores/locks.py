"""A lock that many readers or one writer hold."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class SharedLock:
    """Readers share it; a writer waits for those that read, and then has it alone. Not reentrant."""

    def __init__(self) -> None:
        self._condition = threading.Condition(threading.Lock())
        self._readers = 0
        self._has_writer = False

    def try_read(self) -> bool:
        """Begins to read where that needs no waiting; `end_read` must follow where it is True."""
        with self._condition:
            if self._has_writer:
                return False
            self._readers += 1
            return True

    def end_read(self) -> None:
        """Ends what `try_read` began."""
        with self._condition:
            self._readers -= 1
            if not self._readers:
                self._condition.notify_all()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Reads; waits for a writer."""
        with self._condition:
            self._condition.wait_for(lambda: not self._has_writer)
            self._readers += 1
        try:
            yield
        finally:
            self.end_read()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Writes; new readers wait at once, so that it comes to its turn."""
        with self._condition:
            self._condition.wait_for(lambda: not self._has_writer)
            self._has_writer = True
            self._condition.wait_for(lambda: not self._readers)
        try:
            yield
        finally:
            with self._condition:
                self._has_writer = False
                self._condition.notify_all()
