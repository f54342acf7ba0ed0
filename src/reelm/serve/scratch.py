"""Where files lie until they are whole. Each service that runs holds a folder of its own by a lock,
which ends with its process: what a killed one left is told from what is under way elsewhere."""

import shutil
import threading
import time
import uuid
from contextlib import ExitStack, suppress
from pathlib import Path

from reelm.engine import alone
from reelm.errors import StaleFolder

NAME = "unfinished"
OLD = "fetched-*.part"  # what versions before this one fetched into, beside the finished files
OLD_S = 3600.0  # nothing is fetched for so long


class Scratch:
    """A folder for one process; made when it is first asked for."""

    def __init__(self, uploads: Path) -> None:
        """
        Args:
            uploads: the folder of uploads; other services may have theirs in it too.
        """
        self._uploads, self._home = uploads, uploads / NAME
        self._held, self._making = ExitStack(), threading.Lock()
        self._folder: Path | None = None

    @property
    def folder(self) -> Path:
        """Where to write; nobody else takes it away while this process lives."""
        with self._making:
            while self._folder is None:
                folder = self._home / uuid.uuid4().hex[:12]
                with suppress(StaleFolder, FileNotFoundError):  # swept before it was held
                    self._held.enter_context(alone(folder))
                    self._folder = folder
            return self._folder

    def sweep(self) -> None:
        """Take away what services left that were killed."""
        for folder in filter(Path.is_dir, self._home.glob("*")):
            with suppress(StaleFolder, FileNotFoundError), alone(folder):
                shutil.rmtree(folder)
        for path in self._uploads.glob(OLD):
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < time.time() - OLD_S:
                    path.unlink()

    def close(self) -> None:
        """Take the own folder away, with all that lies in it."""
        with self._making:
            if self._folder is not None:
                shutil.rmtree(self._folder, ignore_errors=True)
                self._folder = None
            self._held.close()
