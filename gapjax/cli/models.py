"""`gapjax convert`: checkpoints from any form that gapjax reads to Hugging Face folders."""

from __future__ import annotations

import argparse
from pathlib import Path

from gapjax.cli.output import output_folder, refuse_existing
from gapjax.errors import UserError


def add_parsers(commands: argparse._SubParsersAction) -> None:
    """Register the commands of this module."""
    convert = commands.add_parser(
        "convert",
        help="a checkpoint to a Hugging Face folder",
        description="Write a model as a Hugging Face folder (safetensors, configuration, "
        "tokenizer), which transformers and gapjax load.",
    )
    convert.add_argument(
        "source",
        metavar="SRC",
        help="a Hugging Face folder, a .gguf file, smollm2, adder, or a hub id (org/name)",
    )
    convert.add_argument("destination", metavar="DST", type=Path, help="folder to write")
    convert.add_argument(
        "--dtype",
        default="float32",
        help="type of the weights: float32 (default, exact for every source), bfloat16, float16",
    )
    convert.add_argument(
        "--adapter", type=Path, metavar="DIR", help="PEFT adapter to merge into the weights"
    )
    convert.add_argument("--overwrite", action="store_true", help="replace a non-empty DST")
    convert.add_argument("--quiet", action="store_true", help="no progress, only errors")
    convert.set_defaults(run=_convert)


def _convert(arguments: argparse.Namespace) -> None:
    destination: Path = arguments.destination
    for read in filter(None, (Path(arguments.source), arguments.adapter)):
        if read.exists() and read.resolve().is_relative_to(destination.resolve()):
            raise UserError("would replace what is read", where=destination)
    refuse_existing(destination, overwrite=arguments.overwrite)

    from gapjax import models
    from gapjax.models.adapter import load_adapter, save_merged

    loaded = models.load(arguments.source, dtype=arguments.dtype)
    model = loaded.model
    save = models.save
    if arguments.adapter is not None:
        model = load_adapter(model, arguments.adapter)
        save = save_merged
    with output_folder(destination, overwrite=arguments.overwrite) as folder:
        save(model, loaded.tokenizer, folder, generation_config=loaded.generation_config)
        written = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    if not arguments.quiet:
        without = "" if loaded.tokenizer is not None else ", without a tokenizer"
        print(
            f"{destination}: {loaded.config.family} model, {written / 1e6:.1f} MB in "
            f"{arguments.dtype}{without}"
        )
