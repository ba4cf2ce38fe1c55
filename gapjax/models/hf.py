"""Hugging Face folders as they are read: `config.json` and safetensors.

Only safetensors are read: pickled weights can execute code.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError, safe_open

from gapjax.errors import UserError
from gapjax.json_files import read_json_object
from gapjax.models.assemble import assemble
from gapjax.models.ends import stated_ends, with_ends
from gapjax.models.families import config_from_hf
from gapjax.models.generation_keys import GENERATION_KEYS
from gapjax.models.transformer import Transformer

if TYPE_CHECKING:
    from jax.sharding import Mesh

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
_STORED = ("F64", "F32", "F16", "BF16")
CONFIG = "config.json"
_FILE_NAME = re.compile(r"[\w+-][\w.+ -]{0,199}", re.ASCII)
GENERATION_CONFIG = "generation_config.json"


class SafetensorsFiles:
    """The tensors of safetensors files, whichever of the files each one is in.

    A file is mapped anew for each tensor, so that what has been read does not stay in
    memory beside the model.

    **Raises:** `UserError` for a file that is truncated, not safetensors, or quantised.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self._files: dict[str, Path] = {}
        shapes: dict[str, tuple[int, ...]] = {}
        stored: dict[str, str] = {}  # a tensor of each type
        for path in paths:
            try:
                with safe_open(path, framework="numpy") as file:
                    for name in file.keys():  # noqa: SIM118 (not a dict)
                        tensor = file.get_slice(name)
                        if name in self._files:
                            other = self._files[name].name
                            raise UserError(f"holds {name:.200}, as {other} does", where=path)
                        self._files[name] = path
                        shapes[name] = tuple(tensor.get_shape())
                        stored.setdefault(tensor.get_dtype(), name)
            except (SafetensorError, OSError) as error:
                raise UserError(f"not a readable safetensors file ({error})", where=path) from error
        for dtype in stored.keys() - set(_STORED):
            raise UserError(
                f"{stored[dtype]} is stored as {dtype}",
                where=self._files[stored[dtype]],
                hint=f"only {', '.join(_STORED)} are read: quantised weights need their scales",
            )
        self.shapes = shapes

    def read(self, name: str) -> np.ndarray:
        """The values of one tensor."""
        with safe_open(self._files[name], framework="numpy") as file:
            return file.get_tensor(name)


def _weight_files(folder: Path) -> list[Path]:
    names = [WEIGHTS]
    # Where there is a whole file, an index beside it is of an earlier export; so transformers.
    if not (folder / WEIGHTS).is_file() and (folder / INDEX).is_file():
        listed = read_json_object(folder / INDEX).get("weight_map")
        files = list(listed.values()) if isinstance(listed, dict) else []
        if not files or not all(isinstance(name, str) for name in files):
            raise UserError("has no weight_map", where=folder / INDEX)
        names = sorted(set(files))
    for name in names:
        if not _FILE_NAME.fullmatch(name):
            raise UserError(f"names no file beside it ({name!r:.200})", where=folder / INDEX)
        if not (folder / name).is_file():
            hint = None
            if any(folder.glob("*.bin")):
                hint = "pickled .bin weights can execute code and are not read: convert them"
            raise UserError(f"has no {name}", where=folder, hint=hint)
    return [folder / name for name in names]


def load_folder(folder: Path, *, dtype: str, mesh: Mesh | None) -> Transformer:
    """Read the model.

    **Raises:** `UserError` for missing, corrupt or mismatching files.
    """
    if not (folder / CONFIG).is_file():
        raise UserError(f"has no {CONFIG}", where=folder, hint="expected a Hugging Face folder")
    config = config_from_hf(read_json_object(folder / CONFIG), where=folder / CONFIG)
    source = SafetensorsFiles(_weight_files(folder))
    if config.tie_embeddings and _has_other_head(source):
        config = dataclasses.replace(config, tie_embeddings=False)
    return assemble(config, source, dtype=dtype, mesh=mesh, where=folder)


def _has_other_head(source: SafetensorsFiles) -> bool:
    """Whether there is a head beside the table to which the configuration ties it.

    It is kept, as in transformers 5: it was trained or put there. Many exports store it twice.
    """
    head, table = "lm_head.weight", "model.embed_tokens.weight"
    return {head, table} <= source.shapes.keys() and not np.array_equal(
        source.read(head), source.read(table)
    )


def load_generation_config(folder: Path) -> dict[str, Any] | None:
    """The contents of `generation_config.json`, with the end tokens of `config.json`.

    Either file may name end tokens that the other does not.

    **Raises:** `UserError` for end tokens that are none.
    """
    path = folder / GENERATION_CONFIG
    stated = read_json_object(path) if path.is_file() else {}
    GENERATION_KEYS.check(stated, where=path)
    stated_ends(stated, where=path)
    more = stated_ends(read_json_object(folder / CONFIG), where=folder / CONFIG)
    return with_ends(stated, more)
