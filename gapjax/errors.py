"""The one way in which gapjax tells people that their input is at fault.

Raise `UserError` anywhere below the shell; `gapjax.cli.main` turns it into one line
on standard error and exit status 2.  Every other exception is a defect of ours: it
keeps its traceback and ends with exit status 1.
"""

from __future__ import annotations

from gapjax.foreign import shown_ends

_LONGEST = 1000  # characters of each part; a path has hundreds


class UserError(Exception):
    """The user's input is at fault.

    **Arguments:**

    - `what`: what is wrong, in a few words.
    - `where`: the file, row, column or field concerned, if there is one.
    - `hint`: what to do about it, if that is not obvious.

    `str(error)` is always a single line, `where: what; hint`. What these quote of others may be
    anything: it is cut where it is too long for a person, and shown as `gapjax.foreign` shows it.
    """

    def __init__(self, what: str, *, where: object = None, hint: str | None = None) -> None:
        message = _line(what) if where is None else f"{_line(where)}: {_line(what)}"
        if hint is not None:
            message = f"{message}; {_line(hint)}"
        super().__init__(message)


def _line(part: object) -> str:
    return shown_ends(" ".join(str(part).split()), _LONGEST)
