"""The one way in which gapjax tells people that their input is at fault.

Raise `UserError` anywhere below the shell; `gapjax.cli.main` turns it into one line
on standard error and exit status 2.  Every other exception is a defect of ours: it
keeps its traceback and ends with exit status 1.
"""

from __future__ import annotations


class UserError(Exception):
    """The user's input is at fault.

    **Arguments:**

    - `what`: what is wrong, in a few words.
    - `where`: the file, row, column or field concerned, if there is one.
    - `hint`: what to do about it, if that is not obvious.

    `str(error)` is always a single line, `where: what; hint`.
    """

    def __init__(self, what: str, *, where: object = None, hint: str | None = None) -> None:
        message = what if where is None else f"{where}: {what}"
        if hint is not None:
            message = f"{message}; {hint}"
        super().__init__(" ".join(message.split()))
