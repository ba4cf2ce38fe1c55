"""Time, memory and traffic of a round on slices of TPUs: estimates, and what the compiler says.

    python -m benchmarks.scale             # estimates: seconds
    python -m benchmarks.scale --compile [MODEL ...]   # compiles as well: many minutes

Writes benchmarks/results/scale.md and docs/images/scale.png; what was compiled is kept in
scale.json and not made again.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from gapjax.cli.hardware import _compiled_json
from gapjax.models.published import find_config
from gapjax.parallel.compile_ahead import has_tpu_compiler
from gapjax.parallel.footprint import Parameters
from gapjax.parallel.hardware import Generation, Hardware, find_hardware
from gapjax.parallel.load import Load, Mesh
from gapjax.parallel.plots import growth_figure
from gapjax.parallel.roofline import best_mesh, estimate, times
from gapjax.parallel.steps import decode_step, prefill_step, train_step, verify_step

RESULTS = Path(__file__).parent / "results" / "scale.md"
PICTURE = Path(__file__).parents[1] / "docs/images/scale.png"
GIB = 2**30
STEPS = {"prefill": prefill_step, "decode": decode_step, "verify": verify_step, "train": train_step}


@dataclasses.dataclass(frozen=True)
class Case:
    """What is compiled."""

    model: str
    hardware: str
    mesh: Mesh
    load: Load
    programs: tuple[str, ...]

    @property
    def name(self) -> str:
        trained = "all weights" if self.load.rank == 0 else f"rank {self.load.rank}"
        return f"{self.model}, {self.hardware}, {self.mesh}, {trained}"


# A row of prompts and of training for each chip, at least: that is how the work is split.
def _load(chips: int, rank: int = 16) -> Load:
    return Load(prompts=chips, samples=16, batch=chips, rank=rank)


def _cases() -> Iterator[Case]:
    """The most telling ones first: the fastest meshes, then one that gathers weights."""
    for chips in (16, 256, 64):
        for model in ("8b", "phi-4-mini"):
            hardware, load = find_hardware(f"v5e-{chips}"), _load(chips)
            mesh = best_mesh(find_config(model), load, hardware)
            yield Case(model, f"v5e-{chips}", mesh, load, ("decode", "verify", "train"))
    for model in ("8b", "phi-4-mini"):
        everything = Case(model, "v5e-16", Mesh(fsdp=4, tensor=4), _load(16), ("decode", "train"))
        yield everything
        yield dataclasses.replace(everything, load=_load(16, rank=0), programs=("train",))


CASES = tuple(_cases())


def estimates() -> Iterator[str]:
    """Growth with chips and with the model, at a load that grows with the chips."""
    yield (
        "| model | slice | mesh | sample 1000 answers | verify them | train step "
        "| chip-seconds of 1000 answers | bound by: decode, verify, train | GiB held at most |"
    )
    yield "|---|---|---|---|---|---|---|---|---|"
    for model in ("1b", "phi-4-mini", "8b", "70b"):
        config = find_config(model)
        for slice_name in ("v5e-16", "v5e-64", "v5e-256", "v5p-32", "v5p-128", "v5p-512"):
            hardware = find_hardware(slice_name)
            load = _load(hardware.chips)
            found = estimate(config, load, hardware, best_mesh(config, load, hardware))
            prefill, decode, verify, train = found.phases
            per_thousand = 1000 / (load.prompts * load.samples)
            sampling = (prefill.seconds + decode.seconds) * per_thousand
            verifying = verify.seconds * per_thousand
            cost = (sampling + verifying) * hardware.chips
            bounds = ", ".join(p.times.bound for p in (decode, verify, train))
            most = max(phase.step.held for phase in found.phases) / GIB
            times = f"{sampling:.3g} s | {verifying:.3g} s | {train.seconds:.3g} s | {cost:.3g}"
            if not found.fits:
                times, bounds = "does not fit | | | ", ""
            mesh = f"{found.mesh}"
            if decode.mesh != found.mesh:
                mesh += "; sampling: each chip by itself"
            yield (
                f"| {model} | {slice_name} ({hardware.chips} chips) | {mesh} | {times} "
                f"| {bounds} | {most:.3g} of {hardware.generation.memory / GIB:.0f} |"
            )


def strong_scaling() -> Iterator[str]:
    """The same work on more chips."""
    config, load = find_config("8b"), Load(prompts=256, samples=16, batch=256)
    yield "| slice | mesh | sample | verify | train step | chip-seconds of all three |"
    yield "|---|---|---|---|---|---|"
    for chips in (16, 32, 64, 128, 256):
        hardware = find_hardware(f"v5e-{chips}")
        found = estimate(config, load, hardware, best_mesh(config, load, hardware))
        prefill, decode, verify, train = found.phases
        fits = "" if found.fits else " (does not fit)"
        yield (
            f"| v5e-{chips} | {found.mesh}{fits} | {prefill.seconds + decode.seconds:.3g} s "
            f"| {verify.seconds:.3g} s | {train.seconds:.3g} s | {found.seconds * chips:.3g} |"
        )


def draw_growth() -> None:
    """The same work by 1 to 70 billion parameters on 16 to 256 chips, where it fits."""
    load = Load(prompts=256, samples=16, batch=256)
    costs: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for name, unit in (("v5e", 1), ("v5p", 2)):
        models = costs.setdefault(name, {})
        for model in ("1b", "phi-4-mini", "8b", "70b"):
            config, points = find_config(model), models.setdefault(model, [])
            for chips in (16, 32, 64, 128, 256):
                hardware = find_hardware(f"{name}-{chips * unit}")
                found = estimate(config, load, hardware, best_mesh(config, load, hardware))
                if found.fits:
                    points.append((chips, found.seconds * chips))
    label = "chip-seconds to sample and verify\n256 x 16 answers and train a step of 256"
    growth_figure(costs, label).savefig(PICTURE, dpi=130)


def compile_cases(done: dict, path: Path, only: Sequence[str] = ()) -> None:
    """Compile what has not been compiled; each result is kept at once."""
    from gapjax.selfimprove.ahead import compile_programs

    for case in CASES:
        for program in case.programs:
            hardware = find_hardware(case.hardware)
            key = f"{case.name}: {program}"
            if key in done or (only and case.model not in only):
                continue
            print(key, flush=True)
            whole = program == "decode"  # quickly compiled
            found = compile_programs(
                find_config(case.model),
                case.load,
                hardware,
                case.mesh,
                programs=(program,),
                whole=whole,
            )
            done[key] = {
                "compiler": "TPU" if has_tpu_compiler() else "CPU",
                "whole": whole,
                **_compiled_json(found[program]),
            }
            path.write_text(json.dumps(done, indent=1) + "\n", encoding="utf-8")


def compiled_table(done: dict) -> Iterator[str]:
    """What the compiler says, beside the closed forms."""
    yield (
        "| model, slice, mesh | program | GiB arguments | temporaries | peak | estimate "
        "| TFLOP | closed form | GiB received | closed form | by kind |"
    )
    yield "|---|---|---|---|---|---|---|---|---|---|---|"
    for case in CASES:
        config = find_config(case.model)
        for program in case.programs:
            row = done.get(f"{case.name}: {program}")
            if row is None:
                continue
            if "refused" in row:
                yield f"| {case.name} | {program} | refused: {row['refused'][:80]} |||||||||"
                continue
            step = STEPS[program](config, case.load, case.mesh)
            kinds: dict[str, float] = {}
            for found in row["collectives"]:
                kinds[found["kind"]] = kinds.get(found["kind"], 0.0) + found["bytes"]
            by_kind = ", ".join(f"{kind} {size / GIB:.3g}" for kind, size in kinds.items())
            yield (
                f"| {case.name} | {program} | {row['arguments'] / GIB:.3g} "
                f"| {row['temporaries'] / GIB:.3g} | {row['peak'] / GIB:.3g} "
                f"| {step.held / GIB:.3g} | {row['flops'] / 1e12:.3g} | {step.flops / 1e12:.3g} "
                f"| {sum(kinds.values()) / GIB:.3g} | {sum(step.network.values()) / GIB:.3g} "
                f"| {by_kind or 'none'} |"
            )


def compiled_times(done: dict) -> Iterator[str]:
    """The roofline with the traffic that the compiler has put into the program."""
    yield "| model, slice, mesh | program | compute | memory | network: closed form | as compiled |"
    yield "|---|---|---|---|---|---|"
    for case in CASES:
        hardware: Hardware = find_hardware(case.hardware)
        generation = hardware.generation
        for program in case.programs:
            row = done.get(f"{case.name}: {program}")
            if row is None or "refused" in row:
                continue
            t = times(
                STEPS[program](find_config(case.model), case.load, case.mesh), generation, case.mesh
            )
            seconds = sum(_seconds(found, generation) for found in row["collectives"])
            yield (
                f"| {case.name} | {program} | {t.compute:.3g} s | {t.memory:.3g} s "
                f"| {t.network:.3g} s | {seconds:.3g} s |"
            )


def _seconds(found: dict, generation: Generation) -> float:
    """Of a collective: half the bandwidth where its devices are no ring."""
    ring = found["devices"] and found["devices"] % generation.wraparound == 0
    return found["bytes"] / (generation.ring_bandwidth if ring else generation.link_bandwidth)


def main() -> None:
    path = RESULTS.with_suffix(".json")
    done = json.loads(path.read_text()) if path.exists() else {}
    if "--compile" in sys.argv:
        compile_cases(done, path, sys.argv[sys.argv.index("--compile") + 1 :])
    count = Parameters.of(find_config("8b")).total
    parts = [
        "# Scale: estimates; not run on TPUs\n",
        "Made by `python -m benchmarks.scale`. A prompt and a training row for each chip, 16",
        "answers of 512 tokens to a prompt of 512, adapters of rank 16, layers computed again in",
        f"the backward pass. Llama 3 of 1, 8 ({count / 1e9:.2f}) and 70 billion parameters,",
        "Phi-4-mini.\n",
        "## Closed forms: the load grows with the chips\n",
        *estimates(),
        "\n## Closed forms: the same work on more chips\n",
        "The model of 8 billion, 256 prompts, batches of 256.\n",
        *strong_scaling(),
    ]
    if done:
        compilers = ", ".join(sorted({row["compiler"] for row in done.values()}))
        parts += [
            f"\n## Compiled ahead of time ({compilers} compiler), per device\n",
            "Of decoding all layers were compiled; else one and two, from which follow all.\n",
            *compiled_table(done),
            "\n## Seconds of a step at published peaks\n",
            *compiled_times(done),
        ]
    RESULTS.write_text("\n".join(parts) + "\n", encoding="utf-8")
    draw_growth()
    print(RESULTS, PICTURE)


if __name__ == "__main__":
    main()
