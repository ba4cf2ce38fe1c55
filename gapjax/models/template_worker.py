"""Renders chat templates; a worker of its own, see `gapjax.workers`.

Run as a script and on its own on purpose: it must start without JAX, and what a template may
spend is this process's to limit. A template gets what transformers gives it: Jinja's immutable
sandbox, loop controls, the tag `generation`, `raise_exception`, `strftime_now` and `tojson`.
"""

from __future__ import annotations

import datetime
import functools
import json
import math
import resource
import sys
from typing import Any

import jinja2
from jinja2 import ext, meta, nodes
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

_MEMORY = 2**30  # bytes of address space


class _Generation(ext.Extension):
    """`{% generation %}` marks what the assistant says, which changes nothing of the text."""

    tags = {"generation"}  # noqa: RUF012 (Jinja's own spelling)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _raise(message: object) -> None:
    raise jinja2.TemplateError(str(message))


def _tojson(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Without HTML's escapes, unlike Jinja's own."""
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


@functools.lru_cache(maxsize=4)
def _environment(date: str) -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, ext.loopcontrols]
    )
    now = datetime.datetime.fromisoformat(date)
    environment.filters["tojson"] = _tojson
    environment.globals |= {"raise_exception": _raise, "strftime_now": now.strftime}
    return environment


@functools.lru_cache(maxsize=4)
def _compiled(template: str, date: str) -> jinja2.Template:
    return _environment(date).from_string(template)


def render(template: str, date: str, variables: dict[str, Any], longest: int) -> dict[str, Any]:
    """The text, unless it has more than `longest` characters."""
    parts, length = [], 0
    for part in _compiled(template, date).generate(variables):
        length += len(part)
        if length > longest:
            return {"error": f"it writes more than {longest} characters"}
        parts.append(part)
    return {"text": "".join(parts)}


def options(template: str) -> dict[str, Any]:
    """The names of what a template takes from outside, beside what is always there."""
    environment = _environment("2000-01-01")
    found = meta.find_undeclared_variables(environment.parse(template))
    return {"names": sorted(found - environment.globals.keys())}


def _reply(request: dict[str, Any]) -> dict[str, Any]:
    try:
        return render(**request) if "variables" in request else options(**request)
    except RecursionError:
        return {"error": "it is nested too deeply"}
    except MemoryError:
        return {"error": "it needs more than a gigabyte"}
    except jinja2.TemplateSyntaxError as error:
        return {"error": f"line {error.lineno}: {error.message}"[:500]}
    except jinja2.TemplateError as error:
        return {"error": str(error.message or type(error).__name__)[:500]}
    except Exception as error:  # a program of others: whatever it raises is what it has done
        return {"error": f"{type(error).__name__}: {error}"[:500]}


def main(timeout: float) -> None:
    """Answer requests until the input ends."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        # Should the parent die meanwhile, the kernel ends what goes on for ever.
        used = resource.getrusage(resource.RUSAGE_SELF)
        seconds = math.ceil(used.ru_utime + used.ru_stime + timeout) + 5
        _, hard = resource.getrlimit(resource.RLIMIT_CPU)
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, hard))
        print(json.dumps(_reply(request)), flush=True)


if __name__ == "__main__":
    main(float(sys.argv[1]))
