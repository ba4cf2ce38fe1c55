"""What an endpoint has replied, kept in a file as it comes in."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gapjax.errors import UserError
from gapjax.tasks.jsonl import read_rows
from gapjax.verifiers.sources import Replies


class Record:
    """Replies of one model to one wording of each question, in memory and in a file.

    The file is a JSONL file that `AnswerFile` reads. Each line says besides which `model` replied
    to which `question` (the template) and with which `options`, if with any, so that a record is
    not taken for another's.

    **Arguments:**

    - `path`: the file, which need not exist; None: in memory only. The unfinished last line that
        a killed process left is cut off.
    - `model`, `answer_question`, `score_question`, `options`: whom and what is asked, and how.

    **Raises:** `UserError` that names the line, if a line cannot be read or is a reply of another
    model or to another question.
    """

    def __init__(
        self,
        path: Path | None,
        *,
        model: str,
        answer_question: str,
        score_question: str,
        options: Mapping[str, Any],
    ) -> None:
        self.replies = Replies()
        self._path, self._model = path, model
        self._options = {"options": dict(options)} if options else {}
        self._questions = {"answer": answer_question, "score": score_question}
        self._lock = threading.Lock()
        if path is None or not _mend(path):
            return
        for number, row in read_rows(path):
            where = f"{path}, line {number}"
            self.replies.add(row, where=where)
            about = self._about(row)
            same = all(row.get(name, value) == value for name, value in about.items())
            # A line without a model is of somebody's own making, and may lack all of this.
            if not same or ("model" in row and row.get("options", {}) != dict(options)):
                how = f" with the options {json.dumps(dict(options))}" if options else ""
                raise UserError(
                    f"is not a reply of {model} to {about['question']!r}{how}",
                    where=where,
                    hint="keep the replies to each question in a file of their own",
                )

    def add(self, row: Mapping[str, Any]) -> None:
        """Keep a reply, a row as `Replies.add` takes it. May be called from several threads.

        **Raises:** `UserError` if it cannot be written.
        """
        # ASCII: a lone surrogate, which JSON can express, has no UTF-8.
        line = json.dumps({**row, **self._about(row)}).encode() + b"\n"
        with self._lock:
            if self._path is not None:
                try:
                    _append(self._path, line)
                except OSError as error:
                    raise _unwritable(self._path, error) from error
            self.replies.add(row)

    def _about(self, row: Mapping[str, Any]) -> dict[str, Any]:
        kind = "answer" if row.get("response") is None else "score"
        return {"model": self._model, "question": self._questions[kind], **self._options}


def _append(path: Path, line: bytes) -> None:
    """Write a line in one call, so that a killed process leaves a part of one line at most."""
    with path.open("ab", buffering=0) as file:
        start = file.tell()
        try:
            if file.write(line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            with contextlib.suppress(OSError):
                file.truncate(start)
            raise


def _mend(path: Path) -> bool:
    """Cut off an unfinished last line; whether there is anything left."""
    if not path.is_file():
        return False
    try:
        with path.open("r+b") as file:
            whole = file.read()
            start = whole.rfind(b"\n") + 1
            tail = whole[start:]
            if tail and _is_object(tail):  # only its end is missing
                file.write(b"\n")
            elif tail:
                file.truncate(start)
                return start > 0
    except OSError as error:
        raise _unwritable(path, error) from error
    return bool(whole)


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _unwritable(path: Path, error: OSError) -> UserError:
    return UserError(
        f"the stronger model's replies cannot be written ({error.strerror})",
        where=path,
        hint="what is in there already is not asked again",
    )
