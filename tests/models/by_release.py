"""What a release of transformers makes of folders; run as a program, with it first on the path.

Takes, as JSON on standard input, rows of token ids by folder of a model and texts by folder of a
tokenizer. Writes the logits of all tokens, row after row, to the file that is named, and says the
rest, as JSON on standard output.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np


def main() -> None:
    import torch
    import transformers

    torch.set_num_threads(1)
    asked = json.load(sys.stdin)
    ends, tokenizers, logits = {}, {}, {}
    for folder, rows in asked["rows"].items():
        model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
        ends[folder] = model.generation_config.eos_token_id
        with torch.no_grad():
            logits[folder] = np.concatenate([model(torch.tensor([row])).logits[0] for row in rows])
    for folder, texts in asked["texts"].items():
        tokenizers[folder] = _described(transformers.AutoTokenizer.from_pretrained(folder), texts)
    np.savez(sys.argv[1], **logits)
    print(json.dumps({"version": transformers.__version__, "ends": ends, "texts": tokenizers}))


def _described(tokenizer: Any, texts: list[str]) -> dict[str, Any]:
    encoded = [dict(tokenizer(text)) for text in texts]
    chat = None
    if tokenizer.chat_template:
        message = [{"role": "user", "content": texts[0]}]
        chat = tokenizer.apply_chat_template(message, tokenize=False)
    return {
        "encoded": encoded,
        "decoded": [tokenizer.decode(each["input_ids"]) for each in encoded],
        "without special tokens": [
            tokenizer.decode(each["input_ids"], skip_special_tokens=True) for each in encoded
        ],
        "chat": chat,
        "sides": [tokenizer.padding_side, tokenizer.truncation_side, tokenizer.model_max_length],
        "special": sorted(set(tokenizer.all_special_ids)),
        "named": [str(tokenizer.bos_token), str(tokenizer.eos_token), str(tokenizer.pad_token)],
    }


if __name__ == "__main__":
    main()
