"""A real llama.cpp server for tests: its own HTTP code, with a generated model of random weights.

`make_model(path)` writes the model (half a megabyte, always the same bytes). `python llama_server.py MODEL PORT` serves it
until a signal ends it (PORT 0: on a free port) and prints its address. Needs gguf, numpy, tokenizers and xllamacpp. Its
answers are noise. It spells nearly every word letter by letter, unless it gets the vocabulary of a real model.
"""

import argparse
import json
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Shape:
    """The size of the model: tiny answers in milliseconds, medium reads some thousand tokens per second. `weights` is the
    gguf type of the matrices."""

    hidden: int
    feed_forward: int
    layers: int
    heads: int
    kv_heads: int
    head_size: int
    weights: str = "F32"


TINY = Shape(64, 128, 2, 4, 2, 16)
# Eight bits, as for large models: writing a token then costs about ten times reading one, as on laptops.
MEDIUM = Shape(384, 1024, 3, 6, 2, 64, "Q8_0")
CONTROL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
# ChatML as in Qwen's newer models, which think unless the request has `enable_thinking: false`.
TEMPLATE = """\
{%- for message in messages -%}
<|im_start|>{{ message.role }}
{% if message.reasoning_content %}<think>
{{ message.reasoning_content }}
</think>

{% endif %}{{ message.content }}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}
<|im_start|>assistant
<think>
{% if enable_thinking is defined and enable_thinking is false %}
</think>

{% endif -%}
{%- endif -%}"""


@dataclass(frozen=True)
class Vocabulary:
    """The vocabulary of a byte-level BPE tokenizer. `kinds`: the gguf.TokenType of each token; `pre`: llama.cpp's name of the
    pre-tokenizer."""

    tokens: Sequence[str]
    kinds: Sequence[int]
    merges: Sequence[str]
    pre: str


def few_words() -> Vocabulary:
    """A vocabulary trained here: a dozen words, and letters for everything else; about 1.1 characters per token."""
    import gguf  # type: ignore[import-not-found, unused-ignore]
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers  # type: ignore[import-not-found, unused-ignore]

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=list(CONTROL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["the document is an invoice, a letter or a report"] * 50, trainer)
    ids: dict[str, int] = tokenizer.get_vocab()
    tokens = sorted(ids, key=ids.__getitem__)
    kinds = [gguf.TokenType.CONTROL if token in CONTROL_TOKENS else gguf.TokenType.NORMAL for token in tokens]
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    return Vocabulary(
        tokens, kinds, [merge if isinstance(merge, str) else " ".join(merge) for merge in merges], "qwen2"
    )


def vocabulary_of(model: Path) -> Vocabulary:
    """The vocabulary of a GGUF file with a byte-level BPE tokenizer and ChatML's control tokens."""
    import gguf

    fields = gguf.GGUFReader(model).fields
    parts = ("tokens", "token_type", "merges", "pre")
    return Vocabulary(*(fields[f"tokenizer.ggml.{part}"].contents() for part in parts))


# As in Gemma 2 and older Mistral models.
WITHOUT_SYSTEM_ROLE = (
    """\
{%- if messages[0].role == 'system' -%}{{ raise_exception('System role not supported') }}{%- endif -%}
"""
    + TEMPLATE
)


def make_model(path: Path, shape: Shape = TINY, vocabulary: Vocabulary | None = None, template: str = TEMPLATE) -> None:
    """Write a Qwen3-shaped model with small random weights, and with `few_words` unless a vocabulary is given."""
    import gguf
    import numpy as np  # type: ignore[import-not-found, unused-ignore]

    words = vocabulary or few_words()
    writer: Any = gguf.GGUFWriter(path, "qwen3")
    writer.add_context_length(8192)
    writer.add_embedding_length(shape.hidden)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head_size)
    writer.add_value_length(shape.head_size)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(words.pre)
    writer.add_token_list(words.tokens)
    writer.add_token_types(words.kinds)
    writer.add_token_merges(words.merges)
    writer.add_eos_token_id(words.tokens.index("<|im_end|>"))
    writer.add_add_bos_token(False)
    writer.add_chat_template(template)

    random = np.random.default_rng(20)
    shapes = {
        "token_embd": (len(words.tokens), shape.hidden),
        "output": (len(words.tokens), shape.hidden),
        "output_norm": (shape.hidden,),
    }
    for layer in range(shape.layers):
        block: dict[str, tuple[int, ...]] = {
            "attn_q": (shape.heads * shape.head_size, shape.hidden),
            "attn_k": (shape.kv_heads * shape.head_size, shape.hidden),
            "attn_v": (shape.kv_heads * shape.head_size, shape.hidden),
            "attn_output": (shape.hidden, shape.heads * shape.head_size),
            "attn_q_norm": (shape.head_size,),
            "attn_k_norm": (shape.head_size,),
            "attn_norm": (shape.hidden,),
            "ffn_norm": (shape.hidden,),
            "ffn_gate": (shape.feed_forward, shape.hidden),
            "ffn_up": (shape.feed_forward, shape.hidden),
            "ffn_down": (shape.hidden, shape.feed_forward),
        }
        shapes |= {f"blk.{layer}.{name}": shape for name, shape in block.items()}
    for name, size in shapes.items():
        weights = np.ones(size) if len(size) == 1 else random.normal(0, 0.05, size)
        kind = gguf.GGMLQuantizationType["F32" if len(size) == 1 else shape.weights]
        writer.add_tensor(f"{name}.weight", gguf.quants.quantize(weights.astype(np.float32), kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main() -> None:
    import xllamacpp  # type: ignore[import-not-found, import-untyped, unused-ignore]

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("port", type=int)
    parser.add_argument("--api-key")
    parser.add_argument("--ctx", type=int, default=4096, help="context in tokens, divided among the slots")
    parser.add_argument("--slots", type=int, default=1, help="requests processed at once")
    args = parser.parse_args()
    params: Any = xllamacpp.CommonParams()
    params.model.path = str(args.model)
    params.port = args.port
    params.n_ctx, params.n_parallel = args.ctx, args.slots
    params.endpoint_metrics = True
    # Two threads on two busy cores wait for each other: 4 tokens/s instead of 24 with one.
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    if args.api_key:
        params.api_keys = [args.api_key]
    server = xllamacpp.Server(params)  # returns when the model is loaded; ends with the process
    print("listening on", server.listening_address, flush=True)
    signal.pause()


if __name__ == "__main__":
    main()
