"""Addition of two numbers: as many problems as one likes, with known answers."""

from __future__ import annotations

import numpy as np

from gapjax.errors import UserError
from gapjax.tasks.problem import Problem, Splits


def arithmetic(*, digits: int, train: int, probe: int, seed: int, template: str) -> Splits:
    """Additions `a + b` of two numbers with the given number of digits.

    All pairs are shuffled and dealt out, so no problem is in two splits.

    **Arguments:**

    - `digits`: of either number, without leading zeros (one digit: 0 to 9).
    - `train`, `probe`: number of problems.
    - `seed`: of the shuffling.
    - `template`: the prompt, with `{a}` and `{b}`.

    **Raises:** `UserError` if there are not that many problems, or the template is wrong.
    """
    numbers = range(0 if digits == 1 else 10 ** (digits - 1), 10**digits)
    if train + probe > len(numbers) ** 2:
        raise UserError(
            f"there are {len(numbers) ** 2} additions of {digits}-digit numbers, "
            f"fewer than {train} to train on and {probe} to probe with",
            where="task",
        )
    if "{a}" not in template or "{b}" not in template:
        raise UserError(f"template {template!r} lacks {{a}} or {{b}}", where="task.template")
    pairs = [(a, b) for a in numbers for b in numbers]
    order = np.random.default_rng(seed).permutation(len(pairs))
    problems = tuple(
        # Not `str.format`: a template may contain other braces.
        Problem(template.replace("{a}", str(a)).replace("{b}", str(b)), str(a + b))
        for a, b in (pairs[i] for i in order)
    )
    # The probe set comes first, so that it stays the same when one trains on more.
    held_out, rest = problems[:probe], problems[probe:]
    return Splits(train=rest[:train], probe=held_out, rest=rest[train:])
