"""Where in a response the code is: a documented rule, so that examples and outputs do not win.

1. A response that is Python code from its beginning to its end is the code.
2. Otherwise its code blocks count, as CommonMark has them (fences of backticks or tildes of any
   length, indented, in lists; an unclosed one ends with the text): those whose info string
   begins with Python's name, in whatever spelling, and those without one that are code which
   defines something. Blocks of other languages are none.
3. Of several, each name that the tests call is taken from the last block that defines it, and
   what that block needs from the last block before it that defines that. If none defines what
   the tests call, the last block is the answer.
4. Without blocks: what `[BEGIN]` and `[DONE]` enclose, else the text from its first line of code
   as far as it is code.
"""

from __future__ import annotations

import ast
import builtins
import re
import symtable
import sys
import warnings

from markdown_it import MarkdownIt

from gapjax.models.thoughts import without_thoughts

_PYTHON = re.compile(r"\{?\s*\.?(?:i?python|py)(?:\d[\d.]*)?(?![\w+#-])", re.IGNORECASE)
_MBPP = re.compile(r"\[BEGIN\](.*?)(?:\[DONE\]|\Z)", re.DOTALL)
_BEGINS = re.compile(r"^(?:def |async def |class |import |from \w|@\w)", re.MULTILINE)
_PATH = re.compile(r"\w+(?:\.\w+)+")
_CUTS = 8  # how often text after bare code is cut off


def extract_code(response: str, tests: str = "") -> str:
    """The code of a response, by the rule above; the response itself if there is none.

    **Arguments:**

    - `tests`: the code that will call it.
    """
    text = without_thoughts(response) or response
    if _defined(text):
        return text
    if blocks := _blocks(text):
        return "\n\n".join(_chosen(blocks, called(tests)))
    if enclosed := _MBPP.findall(text):
        return enclosed[-1]
    return _bare(text)


def called(tests: str) -> set[str]:
    """The names that tests use and neither define themselves nor have from Python."""
    used = _free(tests)
    return used - set(dir(builtins)) or used


def analysed(code: str, tests: str) -> dict[str, list[str]]:
    """What tests and code have from each other.

    - `wanted`: names that the tests have from the code.
    - `lacking`: names that the code uses and does not define, and the tests import or give a
        class; not the tests' data, which may be what they expect.
    - `modules`: of the standard library, which the tests use by attributes without importing them.
    - `watched`: what the tests replace in modules of the standard library, as `time.sleep`.
    - `functions`: the tests' own `test_…` that nothing mentions.

    **Raises:** `ValueError` if the tests are no Python, or functions among them need arguments.
    """
    tree = _parsed(tests)
    if tree is None:
        raise ValueError("no Python")
    wanted = called(tests)
    nodes = list(ast.walk(tree))
    mentioned = [node for node in nodes if isinstance(node, ast.Name)]
    owners = {id(node.value) for node in nodes if isinstance(node, ast.Attribute)}
    whole = {node.id for node in mentioned if id(node) not in owners}
    # Their own, not what the code may have put in their place.
    modules = (wanted & sys.stdlib_module_names) - whole
    functions = []
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if node.name.startswith("test_") and node.name not in {name.id for name in mentioned}:
            if _required(node.args) and not node.decorator_list:
                raise ValueError(f"{node.name} needs arguments")
            functions.append(node.name)
    return {
        "wanted": sorted(wanted - modules),
        "lacking": sorted(_free(code) & _given(tree)),
        "modules": sorted(modules),
        "watched": sorted(_replaced(tree)),
        "functions": functions,
    }


def _given(tree: ast.Module) -> set[str]:
    """What tests import, and their classes."""
    names: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            names |= {(each.asname or each.name).partition(".")[0] for each in node.names}
        elif isinstance(node, ast.ClassDef):
            names.add(node.name)
    return names


def _replaced(tree: ast.Module) -> set[str]:
    """By `patch("time.sleep")` or `patch.object(time, "sleep")`."""
    names = set()
    for node in ast.walk(tree):
        match node:
            case ast.Call(args=[ast.Constant(value=str(name)), *_]) if _PATH.fullmatch(name):
                names.add(name)
            case ast.Call(args=[ast.Name(id=module), ast.Constant(value=str(name)), *_]):
                names.add(f"{module}.{name}")
    return {
        name
        for name in names
        if name.partition(".")[0] in sys.stdlib_module_names and not name.startswith("sys.std")
    }


def _required(parameters: ast.arguments) -> bool:
    positional = [*parameters.posonlyargs, *parameters.args]
    return len(positional) > len(parameters.defaults) or None in parameters.kw_defaults


def _blocks(text: str) -> list[str]:
    # Only what a fence can stand in: emphasis, tables and links are no concern of ours.
    markdown = MarkdownIt("zero").enable(["fence", "list", "blockquote"])
    fences = [token for token in markdown.parse(text) if token.type == "fence"]
    return [
        token.content
        for token in fences
        if (_PYTHON.match(token.info.strip()) if token.info.strip() else _defined(token.content))
    ]


def _chosen(blocks: list[str], wanted: set[str]) -> list[str]:
    defined = [_defined(block) for block in blocks]
    taken: set[int] = set()
    # A name with the number of blocks among which its definition is sought.
    asked = [(name, len(blocks)) for name in sorted(wanted)]
    seen = set(asked)
    while asked:
        name, before = asked.pop()
        at = next((i for i in reversed(range(before)) if name in defined[i]), None)
        if at is None or at in taken:
            continue
        taken.add(at)
        more = {(need, at) for need in _free(blocks[at])} - seen
        seen |= more
        asked += sorted(more)
    return [blocks[i] for i in sorted(taken)] or blocks[-1:]


def _bare(text: str) -> str:
    begin = _BEGINS.search(text)
    if begin is None:
        return text
    lines = text[begin.start() :].split("\n")
    for _ in range(_CUTS):
        code = "\n".join(lines)
        try:
            _parse(code)
        except SyntaxError as error:
            # Text after the code is a fault where it begins.
            if not error.lineno or error.lineno > len(lines) or error.lineno < 2:
                break
            lines = lines[: error.lineno - 1]
        except (ValueError, RecursionError, MemoryError):
            break
        else:
            return code
    return text[begin.start() :]


def _defined(code: str) -> set[str]:
    """The names that code defines at its top level; none if it is no code."""
    tree = _parsed(code)
    return set() if tree is None else _bound(tree)


def _bound(tree: ast.Module) -> set[str]:
    names: set[str] = set()
    waiting: list[ast.AST] = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {(each.asname or each.name).partition(".")[0] for each in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif not isinstance(node, ast.Lambda):
            waiting += ast.iter_child_nodes(node)
    return names


def _free(code: str) -> set[str]:
    """The names that code has from elsewhere, Python's own included; none if it is no code."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            top = symtable.symtable(code, "<code>", "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set()
    used: set[str] = set()
    bound: set[str] = set()
    waiting = [top]
    while waiting:
        table = waiting.pop()
        waiting += table.get_children()
        for symbol in table.get_symbols():
            if table is top or symbol.is_global():
                binds = symbol.is_assigned() or symbol.is_imported() or symbol.is_namespace()
                (bound if binds else used).add(symbol.get_name())
    return used - bound


def _parsed(code: str) -> ast.Module | None:
    try:
        return _parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _parse(code: str) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of escapes in texts
        return ast.parse(code)
