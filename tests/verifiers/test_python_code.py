from __future__ import annotations

import pytest

from gapjax.verifiers.python_code import called, extract_code

ADD = "def add(a, b):\n    return a + b\n"
TESTS = "assert add(1, 2) == 3"
DEEP = "".join(f"    {line}\n" for line in ADD.splitlines())


@pytest.mark.fast
@pytest.mark.parametrize(
    "response",
    [
        ADD,
        f"```python3\n{ADD}```\nIt adds.\n",
        f"```Python title=x\n{ADD}```",
        f"~~~ {{.python .numberLines}}\n{ADD}~~~~\n",
        f"````py\n'''\n```\n'''\n{ADD}````",
        f"1. So:\n\n    ```py\n{DEEP}    ```\n",
        f"> ```python\n{''.join(f'> {line}' for line in ADD.splitlines(keepends=True))}> ```\n",
        f"```python\n{ADD}```\n".replace("\n", "\r\n"),
        f"An unclosed one:\n```python\n{ADD}",
        f"```bash\npip install x\n```\n```python\n{ADD}```\n",
        f"```python\n{ADD}```\n```json\n{{}}\n```\n",
        f"```python\n{ADD}```\nUse:\n```python\nprint(add(1, 2))\n```\n",
        f"```python\n{ADD}```\nOutput:\n```\n3\n```\n",
        f"```\n{ADD}```\n```\nx = 3\n```\n",
        f"```python\ndef add(a, b): return 0\n```\nNo:\n```python\n{ADD}```\n",
        f"```python\n{ADD}```\n```python\ndef add(a, b\n```\n",
        "```python\nimport math\n```\n```python\ndef add(a, b): return math.fsum((a, b))\n```",
        f"<think>```python\ndef add(a, b): return 0\n```</think>```python\n{ADD}```",
        ADD + "```",
        f"Here it is:\n\n{ADD}\nIt's good, isn't it?\n",
        f"[BEGIN]\n{ADD}[DONE]\nand so on",
        f"'''\n```python\nadd(1, 2)\n```\n'''\n{ADD}",
    ],
)
def test_where_the_code_is(response: str) -> None:
    names: dict[str, object] = {}
    exec(extract_code(response, TESTS) + "\n" + TESTS, names)


@pytest.mark.fast
def test_what_is_no_code_stays_what_it_is() -> None:
    assert extract_code("I cannot do that.", TESTS) == "I cannot do that."
    assert extract_code("", TESTS) == ""
    # Nothing defines what is called: the last block of Python, never another language's.
    assert extract_code("```py\na()\n```\n```js\nadd()\n```", TESTS) == "a()\n"


@pytest.mark.fast
def test_what_tests_call() -> None:
    assert called("import math\nassert math.isclose(add(1, 2), len('abc'))") == {"add"}
    assert called("def check(f):\n    assert f(1)\ncheck(candidate)") == {"candidate"}
    assert called("assert sum(10, 15) == 6") == {"sum"}
