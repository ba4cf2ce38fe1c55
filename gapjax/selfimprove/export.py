"""What a run leaves for others: its model as a Hugging Face folder, and its adapter for PEFT."""

from __future__ import annotations

import pathlib
import shutil
import tempfile

from gapjax.models import LoadedModel, Transformer, save
from gapjax.models.adapter import save_adapter
from gapjax.models.hub import hub_id
from gapjax.parallel import is_first
from gapjax.paths import Path, copy_tree, is_remote, remove_tree

EXPORT = "export"
# In a folder of its own: transformers would put the adapter on top of the merged weights.
ADAPTER = "adapter"


def write_export(
    folder: Path, loaded: LoadedModel, adapted: Transformer | None, *, base: str
) -> None:
    """Write the folder `export` of a run, in one step; an older one is replaced.

    All processes of a run take part, as none holds the model whole.

    **Arguments:**

    - `folder`: of the run.
    - `loaded`: the model, adapters merged.
    - `adapted`: with its adapters, if it has any, which are written as well.
    - `base`: what the run began with, as the recipe names it. In the adapter's configuration only
        if it is a name on the hub: a path is of this machine.
    """
    if is_remote(folder):
        with tempfile.TemporaryDirectory() as name:
            local = pathlib.Path(name)
            _write(local, loaded, adapted, base)
            if is_first():
                remove_tree(folder / EXPORT)
                copy_tree(Path(local), folder / EXPORT)
        return
    partial = pathlib.Path(folder / f".{EXPORT}.partial")
    if is_first():
        for old in (partial, pathlib.Path(folder / EXPORT)):
            shutil.rmtree(old, ignore_errors=True)
    _write(partial, loaded, adapted, base)
    if is_first():
        partial.rename(folder / EXPORT)


def _write(
    folder: pathlib.Path, loaded: LoadedModel, adapted: Transformer | None, base: str
) -> None:
    save(loaded.model, loaded.tokenizer, folder, generation_config=loaded.generation_config)
    if adapted is not None:
        save_adapter(adapted, folder / ADAPTER, base=hub_id(base))
