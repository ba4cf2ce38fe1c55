"""The tokenizer of a folder: `tokenizer.json`, or the older files that come in its place.

transformers makes a tokenizer of `tokenizer.model` (SentencePiece) or of `vocab.json` and
`merges.txt`, by the class that the configuration names. It has rules and exceptions for that which
change between its releases, so it is asked, and what it makes is looked at: it may have found no
rule, or one that is not the model's.
"""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from gapjax.errors import UserError
from gapjax.json_files import read_json_object
from gapjax.models.tokenizer_keys import check_added, check_end, check_tokenizer_files

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor
    from transformers import PreTrainedTokenizerFast

_WHOLE, _PIECES, _VOCABULARY, _MERGES = (
    *("tokenizer.json", "tokenizer.model", "vocab.json"),
    "merges.txt",
)
# Those whose rules transformers knows by heart: byte-level, from a vocabulary and merges.
_BYTE_LEVEL = ("GPT2Tokenizer", "Qwen2Tokenizer", "CodeGenTokenizer")
# Ordinary text, in which SentencePiece and what transformers makes of its file have to agree. Not:
# white space at the beginning, which is left to transformers, nor what normalisation would change.
_TEXTS = (
    "What is 12 plus 345? It is 357, isn't it (or 7.5 % of it)?",
    "x = a_b[0] * 2; return {x: 'y'}",
    "naïve Zoë — 😀 مرحبا 你好",
)
_SAMPLED = 400  # pieces of the vocabulary that are put together to a text


def load_tokenizer(folder: Path) -> PreTrainedTokenizerFast | None:
    """The tokenizer of a folder, if it has one.

    **Raises:** `UserError` for files that cannot be read, or that transformers reads in another
    way than they are meant.
    """
    added = check_tokenizer_files(folder)
    whole = read_json_object(folder / _WHOLE) if (folder / _WHOLE).is_file() else None
    tokenizer = _load(folder)
    if tokenizer is not None:
        check_added(tokenizer, added, folder)
        if whole is not None and tokenizer.eos_token not in added:
            check_end(tokenizer, whole, folder)
    return tokenizer


def _load(folder: Path) -> PreTrainedTokenizerFast | None:
    from transformers import PreTrainedTokenizerFast

    if (folder / _WHOLE).is_file():
        # `AutoTokenizer` would look for remote code and slow tokenizers; this reads the
        # same files and nothing else. `tokenizers` raises bare `Exception`s.
        try:
            return PreTrainedTokenizerFast.from_pretrained(str(folder), local_files_only=True)
        except Exception as error:
            raise UserError(f"tokenizer cannot be read ({error})", where=folder) from error
    if (folder / _PIECES).is_file():
        return _from_pieces(folder)
    if (folder / _VOCABULARY).is_file() and (folder / _MERGES).is_file():
        return _from_merges(folder)
    return None


def _from_pieces(folder: Path) -> PreTrainedTokenizerFast:
    path = folder / _PIECES
    if not all(map(_installed, ("sentencepiece", "google.protobuf"))):
        raise UserError(
            "is read with the packages sentencepiece and protobuf, which are not both installed",
            where=path,
            hint=f"pip install sentencepiece protobuf, or run where they are: {_command(folder)}",
        )
    import sentencepiece
    from tokenizers import models

    try:
        pieces = sentencepiece.SentencePieceProcessor(model_file=str(path))
    except (RuntimeError, OSError) as error:
        raise UserError(
            f"is no SentencePiece model ({error})",
            where=path,
            hint=f"add its {_WHOLE}: {_command(folder)}",
        ) from error
    tokenizer = _made_by_transformers(folder, path, classes="LlamaTokenizer")
    for text in (*_TEXTS, _of_pieces(pieces, tokenizer)):
        theirs = tokenizer.encode(text, add_special_tokens=False)
        if _is_unigram(pieces) != isinstance(tokenizer.backend_tokenizer.model, models.Unigram) or (
            theirs != pieces.encode(text)
        ):
            raise UserError(
                f"this release of transformers cuts text in another way than SentencePiece does "
                f"by it, such as {text[:40]!r}",
                where=path,
                hint=f"add a {_WHOLE}, which transformers 4 makes: pip install 'transformers<5'; "
                f"{_command(folder)}",
            )
    return tokenizer


def _is_unigram(pieces: SentencePieceProcessor) -> bool:
    """Whether scores are log-probabilities, rather than ranks of byte-pair merges."""
    return any(not pieces.get_score(i).is_integer() for i in range(len(pieces)))


def _of_pieces(pieces: SentencePieceProcessor, tokenizer: PreTrainedTokenizerFast) -> str:
    """A text of many pieces of a vocabulary."""
    chosen = [
        pieces.id_to_piece(i)
        for i in range(0, len(pieces), max(1, len(pieces) // _SAMPLED))
        if not (pieces.is_control(i) or pieces.is_unknown(i) or pieces.is_byte(i))
    ]
    ordinary = (piece for piece in chosen if piece not in tokenizer.added_tokens_encoder)
    words = "".join(ordinary).replace("▁", " ").split()
    return " ".join(word for word in words if word.isascii())


def _from_merges(folder: Path) -> PreTrainedTokenizerFast:
    path = folder / _VOCABULARY
    vocabulary = read_json_object(path)
    classes = ", ".join(_BYTE_LEVEL)
    tokenizer = _made_by_transformers(folder, path, classes=classes)
    name = type(tokenizer).__name__
    known = tokenizer.get_vocab()
    if name not in _BYTE_LEVEL or any(known.get(token) != i for token, i in vocabulary.items()):
        raise UserError(
            f"transformers makes a {name} of it, which does not use it as it stands",
            where=path,
            hint=_name_the_class(folder, classes),
        )
    return tokenizer


def _made_by_transformers(folder: Path, path: Path, *, classes: str) -> PreTrainedTokenizerFast:
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    try:
        with _quiet():
            made = AutoTokenizer.from_pretrained(
                str(folder), local_files_only=True, trust_remote_code=False
            )
    # Of any kind, by `tokenizers` and for each file that is not as expected.
    except Exception as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise UserError(
            f"transformers makes no tokenizer of it ({reason})",
            where=path,
            hint=_name_the_class(folder, classes),
        ) from error
    if not isinstance(made, PreTrainedTokenizerFast):
        raise UserError(
            f"transformers makes a {type(made).__name__} of it, which is not supported",
            where=path,
            hint=f"add its {_WHOLE}",
        )
    return made


def _name_the_class(folder: Path, classes: str) -> str:
    return (
        f"name its tokenizer_class in tokenizer_config.json ({classes}), or add its {_WHOLE}, as "
        f"where this works: {_command(folder)}"
    )


def _command(folder: Path) -> str:
    made = "__import__('transformers').AutoTokenizer.from_pretrained"
    return f'python -c "{made}({str(folder)!r}).save_pretrained({str(folder)!r})"'


def _installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # of the package that it is in
        return False


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' own warnings: what matters of them is found out here."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)
