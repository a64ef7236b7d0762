"""The node's main loop: what is quiet is scored, what is scored is sent, what is old is removed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ..errors import OutputError, ZSADCLIPError
from ..files.locks import folder_lock
from ..files.privacy import redact
from .config import NodeSettings
from .listen import listen
from .spool import SCORED, WAITING, Ledger, Spool, Study, counted
from .status import serve_status
from .work import ChildScore, Score, fail, score_study, send_study

STEP_S, EXPIRE_S = 0.3, 60.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 2.0, 600.0
GIGA = 1e9


class Node:
    """A node with its spool; `score` runs a job, in a child process by default. Raises as `listen` does."""

    def __init__(self, settings: NodeSettings, log: Callable[[str], None], score: Score | None = None):
        self.settings, self.log = settings, log
        self.score = score or ChildScore(settings.time_out_s)
        root = Path(settings.spool).expanduser()
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.spool = Spool(root, settings.most_studies, settings.most_gb * GIGA, settings.spare_gb * GIGA)
        self.stopped = threading.Event()
        self._not_before: dict[str, float] = {}
        self._pauses: dict[str, float] = {}

    def run(self) -> None:
        """Serve until `stopped` is set; one node a spool. Raises OutputError where another one holds it."""
        with folder_lock(self.spool.root):
            server = listen(self.settings, self.spool, self.log)
            status = serve_status(self.settings.status_port, self.spool, self.settings)
            self.log(f"{self.settings.aet} listens at {self.settings.host}:{self.settings.port}")
            expired = 0.0
            try:
                while not self.stopped.wait(STEP_S):
                    for study in list(self.spool):
                        if not self.stopped.is_set():
                            self.step(study)
                    if time.monotonic() - expired > EXPIRE_S:
                        expired = time.monotonic()
                        self.spool.expire(self.settings.keep_hours * 3600)
            finally:
                server.shutdown()
                if status is not None:
                    status.shutdown()
                if isinstance(self.score, ChildScore):
                    self.score.stop()

    def step(self, study: Study) -> None:
        """Do the next thing about a study, if there is one; what fails is tried again after a pause that doubles."""
        if time.monotonic() < self._not_before.get(study.key, 0.0):
            return
        try:
            ledger = self.spool.settle(study, self.settings.quiet_s)
            if ledger is None:
                return
            if ledger.state == WAITING:
                ledger = score_study(study, ledger, self.settings, self.score)
                self.log(f"{study.key}: {ledger.said or f'scored, {len(ledger.parcels)} objects to send'}")
            if ledger.state == SCORED:
                ledger = send_study(study, ledger, self.settings)
                self.log(f"{study.key}: sent {len(ledger.parcels)} objects")
            self._pauses.pop(study.key, None)
        except OutputError as error:
            self._try_later(study, str(error))
        except ZSADCLIPError as error:
            self._give_up(study, str(error))
        except Exception as error:  # one study must not end the node
            self._try_later(study, f"{type(error).__name__}: {error}")

    def _try_later(self, study: Study, why: str) -> None:
        ledger = study.read()
        if ledger is not None and ledger.state == WAITING:
            if ledger.tries + 1 >= self.settings.tries:
                self._give_up(study, why)
                return
            with suppress(ZSADCLIPError):  # the disk is full: it will be tried again all the same
                study.write(counted(ledger))
        pause = self._pauses.get(study.key, FIRST_PAUSE_S)
        self._pauses[study.key] = min(2 * pause, LONGEST_PAUSE_S)
        self._not_before[study.key] = time.monotonic() + pause
        self.log(f"{study.key}: {self._plain(study, why)}; next try in {pause:g} s")

    def _give_up(self, study: Study, why: str) -> None:
        said = self._plain(study, why)
        with suppress(ZSADCLIPError):
            fail(study, study.read() or Ledger(""), said)
        self.log(f"{study.key}: failed: {said}")

    @staticmethod
    def _plain(study: Study, why: str) -> str:
        return redact(why, [study.images / "x", study.folder / "input" / "1" / "x"])
