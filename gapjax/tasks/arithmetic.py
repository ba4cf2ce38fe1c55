"""Addition of two numbers: as many problems as one likes, with known answers."""

from __future__ import annotations

from gapjax.errors import UserError
from gapjax.tasks.problem import Problem, Splits, deal


def arithmetic(
    *, digits: int, train: int, probe: int, seed: int, template: str, test: int = 0
) -> Splits:
    """Additions `a + b` of two numbers with the given number of digits.

    All pairs are shuffled and dealt out, so no problem is in two splits.

    **Arguments:**

    - `digits`: of either number, without leading zeros (one digit: 0 to 9).
    - `train`, `probe`, `test`: number of problems.
    - `seed`: of the shuffling.
    - `template`: the prompt, with `{a}` and `{b}`.

    **Raises:** `UserError` if there are not that many problems, or the template is wrong.
    """
    numbers = range(0 if digits == 1 else 10 ** (digits - 1), 10**digits)
    if train + probe + test > len(numbers) ** 2:
        raise UserError(
            f"there are {len(numbers) ** 2} additions of {digits}-digit numbers, "
            f"fewer than {train} to train on and {probe + test} to measure with",
            where="task",
        )
    if "{a}" not in template or "{b}" not in template:
        raise UserError(f"template {template!r} lacks {{a}} or {{b}}", where="task.template")
    problems = [
        # Not `str.format`: a template may contain other braces.
        Problem(template.replace("{a}", str(a)).replace("{b}", str(b)), str(a + b))
        for a in numbers
        for b in numbers
    ]
    return deal(problems, train=train, probe=probe, test=test, seed=seed)
