"""The tokenizer in the metadata of a GGUF file: byte-level BPE, or SentencePiece's BPE.

transformers can build both (`gguf_file=`), in a module that moves between its releases; there
the prefix space and the reserved pieces are not always those of llama.cpp, which we follow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from gapjax.errors import UserError

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from tokenizers.pre_tokenizers import PreTokenizer
    from transformers import PreTrainedTokenizerFast

    from gapjax.models.gguf import Metadata

# `tokenizer.ggml.token_type`
_NORMAL, _CONTROL, _USER_DEFINED, _UNUSED = 1, 3, 4, 5

# How text is cut before byte-pair merges, by llama.cpp's name of the rule. The expressions
# are those of the `tokenizer.json` of the models themselves.
_SPLITS = {
    "llama-bpe": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "qwen2": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
}
_SPACE = "▁"  # SentencePiece's; not an underscore

# After other special tokens of Phi-3, white space is left out (as in its `tokenizer.json`).
_PHI3_KEEPS_SPACE = ("<unk>", "<s>", "<|endoftext|>")


def _pre_tokenizer(rule: str) -> PreTokenizer:
    from tokenizers import Regex, pre_tokenizers

    if rule == "smollm":  # every digit is a token of its own
        first = pre_tokenizers.Digits(individual_digits=True)
        return pre_tokenizers.Sequence([first, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    split = pre_tokenizers.Split(Regex(_SPLITS[rule]), behavior="isolated")
    last = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return pre_tokenizers.Sequence([split, last])


def read_tokenizer(metadata: Metadata) -> PreTrainedTokenizerFast:
    """Build the tokenizer that a GGUF file describes.

    **Raises:** `UserError` for any but SentencePiece's byte-pair encoding and byte-level ones
    with a known cutting rule, and for lists that do not fit together.
    """
    # `tokenizers` raises bare `Exception`s.
    try:
        return _build(metadata)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"tokenizer cannot be read ({error})", where=metadata.path) from error


def _build(metadata: Metadata) -> PreTrainedTokenizerFast:
    from tokenizers import AddedToken, processors
    from transformers import PreTrainedTokenizerFast

    kind = metadata["tokenizer.ggml.model"]
    tokens: Sequence[str] = metadata.texts("tokenizer.ggml.tokens")
    types = metadata.numbers("tokenizer.ggml.token_type")
    if len(types) != len(tokens):
        raise UserError(f"{len(tokens)} tokens, but types of {len(types)}", where=metadata.path)
    sentencepiece = kind == "llama"
    backend = _sentencepiece(metadata, tokens, types) if sentencepiece else _byte_level(metadata)
    strips = sentencepiece and metadata["general.architecture"] == "phi3"
    for type_, special in ((_CONTROL, True), (_USER_DEFINED, False)):
        added = [
            AddedToken(
                token,
                special=special,
                normalized=False,
                rstrip=strips and token not in _PHI3_KEEPS_SPACE,
            )
            for token, token_type in zip(tokens, types, strict=True)
            if token_type == type_
        ]
        (backend.add_special_tokens if special else backend.add_tokens)(added)

    def token(name: str) -> str | None:
        index = metadata.get(f"tokenizer.ggml.{name}_token_id")
        if index is None:
            return None
        if not 0 <= index < len(tokens):
            raise UserError(
                f"the {name} token {index} is not one of {len(tokens)}", where=metadata.path
            )
        return tokens[index]

    bos = token("bos")
    # llama.cpp's default, for files older than the key.
    if metadata.get("tokenizer.ggml.add_bos_token", sentencepiece) and bos is not None:
        backend.post_processor = processors.TemplateProcessing(
            single=[bos, "$A"],
            pair=[bos, "$A", bos, "$B"],
            special_tokens=[(bos, backend.token_to_id(bos))],
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=bos,
        eos_token=token("eos"),
        unk_token=token("unknown"),
        pad_token=token("padding"),
        chat_template=metadata.get("tokenizer.chat_template"),
        clean_up_tokenization_spaces=False,
    )


def _byte_level(metadata: Metadata) -> Tokenizer:
    """GPT-2's way: bytes spelled as characters, merges listed in the file."""
    from tokenizers import Tokenizer, decoders, models, normalizers

    known = ("smollm", *_SPLITS)
    kind, rule = metadata["tokenizer.ggml.model"], metadata.get("tokenizer.ggml.pre")
    if kind != "gpt2" or rule not in known:
        raise UserError(
            f"tokenizer {(kind, rule)} is not supported",
            where=metadata.path,
            hint=f"known: llama, {', '.join(known)}; load the safetensors folder of the same model",
        )
    vocabulary = {token: i for i, token in enumerate(metadata["tokenizer.ggml.tokens"])}
    merges = [tuple(merge.split(" ", 1)) for merge in metadata["tokenizer.ggml.merges"]]
    # Llama 3 takes a piece that is in the vocabulary as it is, without merging.
    whole = rule == "llama-bpe"
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=whole))
    if rule == "qwen2":
        backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = _pre_tokenizer(rule)
    backend.decoder = decoders.ByteLevel()
    return backend


def _sentencepiece(metadata: Metadata, tokens: Sequence[str], types: Sequence[float]) -> Tokenizer:
    """SentencePiece's way: spaces spelled `▁`, merges by score, unknown characters as bytes.

    Llama 2, TinyLlama, Mistral 0.1, Phi-3. A space is put before the text, and before what
    follows a special token, as llama.cpp does.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers

    scores: Sequence[float] = metadata["tokenizer.ggml.scores"]
    if len(scores) != len(tokens):
        raise UserError(f"{len(tokens)} tokens, but {len(scores)} scores", where=metadata.path)
    unknown = metadata.get("tokenizer.ggml.unknown_token_id", 0)
    mergeable = {
        token: score
        for token, score, type_ in zip(tokens, scores, types, strict=True)
        if type_ in (_NORMAL, _USER_DEFINED, _UNUSED)
    }
    backend = Tokenizer(
        models.BPE(
            vocab={token: i for i, token in enumerate(tokens)},
            merges=merges_by_score(mergeable),
            unk_token=tokens[unknown],
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    prefix = metadata.get("tokenizer.ggml.add_space_prefix", True)
    spelled = normalizers.Replace(" ", _SPACE)
    backend.normalizer = (
        normalizers.Sequence([normalizers.Prepend(_SPACE), spelled]) if prefix else spelled
    )
    steps = [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    backend.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)] if prefix else steps)
    return backend


def merges_by_score(scores: Mapping[str, float]) -> list[tuple[str, str]]:
    """The pairs of pieces that make another piece, the highest score of what they make first.

    SentencePiece stores no merges: any two neighbours may join that make a piece.
    """
    ranked = sorted(scores, key=lambda piece: -scores[piece])  # stable: then as listed
    return [
        (piece[:cut], piece[cut:])
        for piece in ranked
        for cut in range(1, len(piece))
        if piece[:cut] in scores and piece[cut:] in scores
    ]
