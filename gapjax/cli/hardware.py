"""`gapjax plan --hardware`: time and memory of a round on a slice of TPUs, before paying for it."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from gapjax.cli.output import output_folder, refuse_existing
from gapjax.errors import UserError
from gapjax.foreign import in_picture

if TYPE_CHECKING:
    from gapjax.models.config import DecoderConfig
    from gapjax.parallel.compile_ahead import Compiled
    from gapjax.parallel.hardware import Hardware
    from gapjax.parallel.load import Load, Mesh
    from gapjax.parallel.roofline import Estimate

_NOTE = "estimates at published peaks; not measured on TPUs"
_GIB = 2**30

# Destination, what it is called in `Load`, type, help.
_LOAD: tuple[tuple[str, str, Callable[[str], Any], str], ...] = (
    ("prompts", "prompts", int, "prompts sampled at a time (default 64)"),
    ("samples", "samples", int, "answers of each (default 16)"),
    ("prompt_tokens", "prompt_tokens", int, "length of a prompt (default 512)"),
    ("new_tokens", "new_tokens", int, "length of an answer (default 512)"),
    ("batch", "batch", int, "rows of a training step (default 64)"),
    ("rank", "rank", int, "of the adapters; 0 trains all weights (default 16)"),
    ("remat", "remat", str, "none, dots or full: less is kept for the backward pass"),
)


def add_hardware_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what is to run where."""
    group = parser.add_argument_group("on what hardware")
    group.add_argument("--hardware", metavar="NAME", help="a slice, as v5e-64 or v5p-128")
    group.add_argument(
        "--model", metavar="NAME", help="1b, 8b, 70b, phi-4-mini or a config.json (default 8b)"
    )
    group.add_argument(
        "--mesh", metavar="SIZES", help='as "fsdp=16,tensor=4"; by default the fastest that fits'
    )
    for name, _, kind, text in _LOAD:
        group.add_argument(
            f"--{name.replace('_', '-')}",
            type=kind,
            metavar="N" if kind is int else "WHAT",
            choices=("none", "dots", "full") if name == "remat" else None,
            help=text,
        )
    group.add_argument(
        "--compile",
        action="store_true",
        help="compile the steps for these devices (minutes) and say what the compiler says",
    )


def refuse_hardware_arguments(arguments: argparse.Namespace) -> None:
    """Raise `UserError` for options that mean nothing without `--hardware`."""
    for name in ("model", "mesh", *(name for name, *_ in _LOAD)):
        if getattr(arguments, name) is not None:
            raise UserError(f"--{name.replace('_', '-')} needs --hardware")
    if arguments.compile:
        raise UserError("--compile needs --hardware")


def plan_hardware(arguments: argparse.Namespace) -> None:
    """Estimate, compile if asked to, print and write."""
    refuse_existing(arguments.out, overwrite=arguments.overwrite)
    from gapjax.models.published import find_config
    from gapjax.parallel import roofline
    from gapjax.parallel.hardware import find_hardware
    from gapjax.parallel.load import Load, make_mesh
    from gapjax.parallel.plots import estimate_figure

    hardware = find_hardware(arguments.hardware)
    model = arguments.model or "8b"
    config = find_config(model)
    given = {field: getattr(arguments, name) for name, field, *_ in _LOAD}
    load = Load(**{field: value for field, value in given.items() if value is not None})
    if arguments.mesh is None:
        mesh = roofline.best_mesh(config, load, hardware)
    else:
        mesh = make_mesh(_sizes(arguments.mesh), hardware)
    found = roofline.estimate(config, load, hardware, mesh)
    say: Callable[[str], None] = (lambda text: None) if arguments.quiet else print
    say(f"{model} on {hardware.chips} x {hardware.generation.name}, mesh {mesh} ({_NOTE})")
    for line in _table(found, hardware):
        say(line)
    plan = _as_json(model, load, hardware, found)
    if arguments.compile:
        plan["compiled"] = _compile(config, load, hardware, mesh, say)
    with output_folder(arguments.out, overwrite=arguments.overwrite) as folder:
        title = f"{in_picture(model)} on {hardware.chips} x {hardware.generation.name}, {mesh}"
        (folder / "plots").mkdir()
        estimate_figure(found, hardware, title).savefig(folder / "plots/plan.png", dpi=150)
        (folder / "plan.json").write_text(json.dumps(plan, indent=2) + "\n", encoding="utf-8")
    say(f"wrote {arguments.out}")


def _sizes(text: str) -> dict[str, int]:
    """`"fsdp=16,tensor=4"` as a table."""
    sizes = {}
    for part in text.split(","):
        axis, _, size = part.partition("=")
        if not (size.isascii() and size.isdigit()):
            raise UserError(f"{text!r} is not a mesh", where="--mesh", hint="as fsdp=16,tensor=4")
        sizes[axis.strip()] = int(size)
    return sizes


def _table(found: Estimate, hardware: Hardware) -> list[str]:
    room = hardware.generation.memory / _GIB
    lines = [
        f"{'phase':8}{'steps':>7}{'seconds':>10}{'bound by':>10}{'compute':>10}{'memory':>10}"
        f"{'network':>10}{'tokens/s':>11}{'MFU <=':>8}{'GiB held':>10}"
    ]
    for phase in found.phases:
        t = phase.times
        per_second = phase.step.tokens / t.seconds
        lines.append(
            f"{phase.name:8}{phase.repeated:7}{phase.seconds:10.3g}{t.bound:>10}{t.compute:10.2g}"
            f"{t.memory:10.2g}{t.network:10.2g}{per_second:11.3g}{t.utilisation:8.0%}"
            f"{phase.step.held / _GIB:10.3g}{'' if phase.fits else '  does not fit'}"
        )
    lines.append(
        f"compute, memory, network: seconds of one step; held: of {room:.0f} GiB a chip; "
        f"sampling and verifying run on mesh {found.phases[1].mesh}"
    )
    return lines


def _as_json(model: str, load: Load, hardware: Hardware, found: Estimate) -> dict[str, Any]:
    return {
        "note": _NOTE,
        "model": model,
        "hardware": {"generation": hardware.generation.name, "chips": hardware.chips},
        "mesh": vars(found.mesh),
        "load": vars(load),
        "fits": found.fits,
        "phases": {
            phase.name: {
                "seconds": phase.seconds,
                "steps": phase.repeated,
                "bound": phase.times.bound,
                "step_seconds": vars(phase.times),
                "flops": phase.step.flops,
                "memory_bytes": phase.step.memory,
                "network_bytes": dict(phase.step.network),
                "resident_bytes": dict(phase.step.resident),
                "tokens_per_second": phase.step.tokens / phase.times.seconds,
                "most_utilisation": phase.times.utilisation,
                "mesh": vars(phase.mesh),
                "fits": phase.fits,
            }
            for phase in found.phases
        },
    }


def _compile(
    config: DecoderConfig,
    load: Load,
    hardware: Hardware,
    mesh: Mesh,
    say: Callable[[str], None],
) -> dict[str, Any]:
    from gapjax.parallel.compile_ahead import has_tpu_compiler
    from gapjax.selfimprove.ahead import compile_programs

    compiler = "TPU" if has_tpu_compiler() else "CPU"
    say(
        f"compiling for the {compiler}: 1 and 2 layers, from which follow {config.num_layers}"
        + ("" if compiler == "TPU" else '; pip install "gapjax[tpu]" for the TPU\'s compiler')
    )
    found = compile_programs(config, load, hardware, mesh, say=say)
    say(
        f"{'program':8}{'GiB arguments':>15}{'temporaries':>13}{'peak':>8}{'TFLOP':>8}"
        "  GiB received"
    )
    for name, compiled in found.items():
        say(f"{name:8}{_compiled_line(compiled)}")
    return {
        "compiler": compiler,
        "layers_compiled": [1, 2] if config.num_layers > 2 else [config.num_layers],
        "programs": {name: _compiled_json(compiled) for name, compiled in found.items()},
    }


def _compiled_line(compiled: Compiled | str) -> str:
    if isinstance(compiled, str):
        return f" refused: {compiled}"
    from gapjax.parallel.collectives import by_name

    traffic = by_name(compiled.traffic).items()
    received = ", ".join(f"{kind} {size / _GIB:.3g}" for kind, size in traffic)
    return (
        f"{compiled.arguments / _GIB:15.3g}{compiled.temporaries / _GIB:13.3g}"
        f"{compiled.peak / _GIB:8.3g}{compiled.flops / 1e12:8.3g}  {received or 'nothing'}"
    )


def _compiled_json(compiled: Compiled | str) -> Mapping[str, Any]:
    if isinstance(compiled, str):
        return {"refused": compiled}
    return {
        **{name: value for name, value in vars(compiled).items() if name != "traffic"},
        "collectives": [
            {"kind": kind.name, "devices": kind.group, "count": moved.count, "bytes": moved.bytes}
            for kind, moved in compiled.traffic.items()
        ],
    }
