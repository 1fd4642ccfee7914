"""`predictions.jsonl` of a run: written as answers come, by one process or several, whole again after a kill."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Sequence
from glob import escape
from pathlib import Path
from typing import IO, Any, Self, cast

from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from ..file_lock import lock
from ..trainers.data_sets import DataError
from .samples import Prediction

# A resumed run may have these otherwise (the hash tells models apart); what it had is kept in the list `resumed`.
MAY_CHANGE = ("model", "batch_size", "device", "processes")


class PredictionsFile:
    """The file, the settings beside it, and a part for each process where there are several.

    From `open` to the end of its `with` block no other run is let in.

    Args:
        path: Of the predictions; settings go to the same name with `.settings.json`, parts to `.part<rank>.jsonl`,
            and while a run writes there is `.lock`.
        state: This process among the others, which must see the same folder.
    """

    def __init__(self, path: Path, state: PartialState):
        self.path, self.state = path, state
        self.settings = path.with_suffix(".settings.json")
        several = state.num_processes > 1
        self.part = path.with_suffix(f".part{state.process_index}.jsonl") if several else path
        self.lock_file = path.with_suffix(".lock")
        self.lock: IO[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.lock is not None:
            self.lock_file.unlink(missing_ok=True)  # while it is locked
            self.lock.close()

    def open(self, settings: dict[str, Any]) -> list[Prediction]:
        """Prepares the file, and gives the answers that are there already from a run with the same settings.

        A half-written last line is cut off. Rows with an error are taken out: they are asked again.

        Raises:
            DataError: Another run is writing the file, it is of a run with other settings, or a line is damaged. In
                every process.
        """

        def prepare() -> None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock()
            self._check_and_note(settings)
            self._gather()

        self._in_the_first(prepare)
        return read_rows(self.path)

    def append(self, rows: Iterable[Prediction]) -> None:
        """One write of whole lines, flushed: a kill leaves all of them or cuts the last."""
        with self.part.open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))

    def close(self, ids: Sequence[str]) -> list[Prediction]:
        """All rows in the order of the benchmark, in one file; waits for the other processes.

        Raises:
            DataError: Rows are not there. In every process.
        """
        self.state.wait_for_everyone()
        self._in_the_first(lambda: self._gather(ids, keep_errors=True))
        self.state.wait_for_everyone()
        return read_rows(self.path)

    def _in_the_first(self, work: Callable[[], None]) -> None:
        """Done by the first process; what went wrong is raised in every one, or the others would wait for ever."""
        problem: list[str | None] = [None]
        if self.state.is_main_process:
            try:
                work()
            except (DataError, OSError) as error:
                problem = [str(error)]
        if self.state.num_processes > 1:
            broadcast_object_list(problem)
        if problem[0] is not None:
            raise DataError(problem[0])

    def _lock(self) -> None:
        opened = self.lock_file.open("ab")
        if not lock(opened.fileno(), self.lock_file):
            opened.close()
            raise DataError(f"{self.path}: another run is writing it; wait for that one, or give another output")
        self.lock = opened

    def _check_and_note(self, settings: dict[str, Any]) -> None:
        parts = self._parts()
        if self.settings.is_file():
            try:
                known = json.loads(self.settings.read_text(encoding="utf-8"))
            except ValueError as error:
                raise DataError(f"{self.settings}: is no JSON ({error}); give another output, or delete it") from error
            resumed = known.get("resumed", []) if isinstance(known, dict) else None
            if not isinstance(resumed, list) or not all(isinstance(one, dict) for one in resumed):
                raise DataError(f"{self.settings}: holds no settings of a run; give another output, or delete it")
            other = [key for key, value in settings.items() if key not in MAY_CHANGE and known.get(key) != value]
            if other:
                raise DataError(
                    f"{self.path}: was made with another {', '.join(other)}; give another output, or delete it and "
                    f"{self.settings.name}"
                )
            now = {key: settings[key] for key in MAY_CHANGE}
            if now != {key: (resumed or [known])[-1].get(key) for key in MAY_CHANGE}:
                known["resumed"] = [*resumed, now]
            settings = known
        elif self.path.exists() or parts:
            raise DataError(f"{self.path}: is there without {self.settings.name}; give another output, or delete it")
        _write(self.settings, json.dumps(settings, indent=1, ensure_ascii=False) + "\n")

    def _gather(self, ids: Sequence[str] | None = None, keep_errors: bool = False) -> None:
        """Rows of the file and of all parts, each id once, into the file; parts go when it is written."""
        found: dict[str, Prediction] = {}
        parts = self._parts()
        for file in [self.path, *parts]:
            for row in read_rows(file) if file.exists() else []:
                if keep_errors or not row.get("error"):
                    found.setdefault(row["id"], row)
        if lost := [one for one in ids or () if one not in found]:
            raise DataError(
                f"{self.path}: {len(lost)} of {len(ids or ())} rows are not there, {lost[0]} first; give the same "
                "command again to have them asked, and see that all processes, and nobody else, write to this folder"
            )
        rows = [found[one] for one in ids] if ids is not None else list(found.values())
        _write(self.path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        for part in parts:
            part.unlink()

    def _parts(self) -> list[Path]:
        return sorted(self.path.parent.glob(f"{escape(self.path.stem)}.part*.jsonl"))


def read_rows(file: Path) -> list[Prediction]:
    """Rows of a predictions file; a last line that was never ended is left out.

    Raises:
        DataError: A whole line is no row; names it.
    """
    *lines, _ = file.read_bytes().split(b"\n")
    rows: list[Prediction] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{file}, line {number}: is no JSON; remove the line to have it asked again") from error
        if not isinstance(row, dict) or not all(isinstance(row.get(key), str) for key in ("id", "prediction")):
            raise DataError(f"{file}, line {number}: has no id or prediction; remove the line to have it asked again")
        rows.append(cast(Prediction, row))
    return rows


def _write(file: Path, text: str) -> None:
    """Whole or not at all."""
    new = file.with_name(f"{file.name}.new")
    new.write_text(text, encoding="utf-8")
    os.replace(new, file)
