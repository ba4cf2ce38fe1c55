"""`gapjax convert` and `gapjax sample`: checkpoints to Hugging Face folders; answers of models."""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gapjax import yaml_files
from gapjax.cli.output import output_folder, refuse_existing
from gapjax.errors import UserError
from gapjax.foreign import json_line, shown
from gapjax.paths import Path, is_remote

if TYPE_CHECKING:
    from gapjax.models import LoadedModel

_LONGEST = 100_000  # characters of an answer, which cannot have as many
_MODEL_HELP = "a Hugging Face folder, a .gguf file, smollm2, adder, or a hub id (org/name)"


def add_parsers(commands: argparse._SubParsersAction) -> None:
    """Register the commands of this module."""
    convert = commands.add_parser(
        "convert",
        help="a checkpoint to a Hugging Face folder",
        description="Write a model as a Hugging Face folder (safetensors, configuration, "
        "tokenizer), which transformers and gapjax load.",
    )
    convert.add_argument("source", metavar="SRC", help=_MODEL_HELP)
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

    sample = commands.add_parser(
        "sample",
        help="answers of a language model, with their log-probabilities",
        description="Sample answers of one prompt. The log-probabilities are those of the model "
        "itself, whatever the temperature and the cuts.",
    )
    sample.add_argument("model", metavar="MODEL", help=_MODEL_HELP)
    sample.add_argument("--prompt", required=True, metavar="TEXT", help="- reads standard input")
    sample.add_argument("-n", type=int, default=4, help="answers (default 4)")
    sample.add_argument(
        "--max-new-tokens", type=int, default=64, metavar="T", help="of an answer (default 64)"
    )
    sample.add_argument(
        "--temperature", type=float, default=1.0, help="0: the most likely token (default 1)"
    )
    sample.add_argument("--top-k", type=int, metavar="K", help="draw from the K likeliest tokens")
    sample.add_argument(
        "--top-p", type=float, metavar="P", help="draw from the fewest tokens with probability P"
    )
    sample.add_argument(
        "--stop",
        action="append",
        default=[],
        metavar="TEXT",
        help="a text that ends an answer, beside the model's end tokens; may be repeated",
    )
    sample.add_argument("--seed", type=int, default=0, help="of all randomness (default 0)")
    sample.add_argument(
        "--chat",
        action=argparse.BooleanOptionalAction,
        help="the prompt as a user's message (default: if the model has a chat template)",
    )
    sample.add_argument("--system", metavar="TEXT", help="a system prompt, for the chat template")
    sample.add_argument(
        "--template-option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a variable of the chat template, as enable_thinking=false; may be repeated",
    )
    sample.add_argument(
        "--date",
        type=datetime.date.fromisoformat,
        metavar="YYYY-MM-DD",
        help="of a chat template that writes today's (default: today)",
    )
    sample.add_argument(
        "--json", action="store_true", help="one JSON object a line, an answer each"
    )
    sample.set_defaults(run=_sample)


def _convert(arguments: argparse.Namespace) -> None:
    destination: Path = arguments.destination
    for read in filter(None, (Path(arguments.source), arguments.adapter)):
        if is_remote(destination) or not read.exists():
            continue
        if read.resolve().is_relative_to(destination.resolve()):
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


def _sample(arguments: argparse.Namespace) -> None:
    prompt = sys.stdin.read().rstrip("\n") if arguments.prompt == "-" else arguments.prompt
    if not prompt:
        raise UserError("the prompt is empty", where="--prompt")

    import jax

    from gapjax import generation, models
    from gapjax.models.templates import Framing

    framing = Framing(arguments.system, _options(arguments.template_option), arguments.date)
    loaded = dataclasses.replace(models.load(arguments.model), framing=framing)
    tokenizer = loaded.tokenizer
    if tokenizer is None:
        raise UserError("the model has no tokenizer", where=arguments.model)
    samples = generation.sample(
        loaded.model,
        [_encoded(loaded, prompt, arguments.chat)],
        key=jax.random.key(arguments.seed),
        n=arguments.n,
        max_new_tokens=arguments.max_new_tokens,
        stop=generation.stops_of(loaded, arguments.stop),
        temperature=arguments.temperature,
        top_k=arguments.top_k,
        top_p=arguments.top_p,
    )
    for i in range(arguments.n):
        text = tokenizer.decode(samples.text_tokens(0, i), skip_special_tokens=True)
        tokens, finished = int(samples.lengths[0, i]), bool(samples.finished[0, i])
        logprob = -float(samples.uncertainties[0, i])
        if arguments.json:
            record = {
                "text": text,
                "logprob": logprob,
                "logprob_per_token": logprob / tokens,
                "tokens": tokens,
                "finished": finished,
            }
            print(json_line(record))
        else:
            cut = "" if finished else ", cut off"
            print(f"[{i + 1}] {logprob:.2f} nats, {logprob / tokens:.3f} a token ({tokens}{cut})")
            print(f"{shown(text, _LONGEST, lines=True)}\n")


def _encoded(loaded: LoadedModel, prompt: str, chat: bool | None) -> list[int]:
    from gapjax.models.prompts import encode_text
    from gapjax.models.templates import Framing, check_framing

    tokenizer = loaded.tokenizer
    assert tokenizer is not None
    if chat and tokenizer.chat_template is None:
        raise UserError("the model has no chat template", where="--chat")
    if chat is False:
        if loaded.framing != Framing():
            raise UserError("takes no chat template and nothing that is for one", where="--no-chat")
        return encode_text(tokenizer, prompt)
    check_framing(tokenizer, loaded.framing)
    return loaded.prompt(prompt)


def _options(given: Sequence[str]) -> dict[str, Any]:
    """`["enable_thinking=false"]` as a table; values as in YAML."""
    options = {}
    for each in given:
        name, equals, value = each.partition("=")
        if not equals or not name:
            raise UserError(f"{each!r} is not NAME=VALUE", where="--template-option")
        try:
            options[name] = yaml_files.parse(value)
        except yaml_files.BadYAML:
            options[name] = value
    return options
