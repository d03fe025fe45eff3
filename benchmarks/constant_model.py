"""Writes a model for mlx_lm that gives the same answer to every request. Runs in the venv with mlx_lm: `FOLDER ANSWER`.

mlx_lm cannot force an answer into a schema, and the noise of random weights is no JSON. So this model, shaped like Qwen3,
has weights that make the answer certain: attention and feed-forward add nothing, and each token alone decides the next one.
"""

import json
import sys
from pathlib import Path

import mlx.core as mx  # type: ignore[import-not-found, unused-ignore]
from tokenizers import (  # type: ignore[import-not-found, unused-ignore]
    AddedToken,
    Tokenizer,
    decoders,
    models,
    pre_tokenizers,
)

END, ANSWER_BEGINS = "<|im_end|>", "<|answer|>"
TEMPLATE = (
    "{%- for message in messages -%}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor -%}"
    "{%- if add_generation_prompt -%}<|im_start|>assistant\n<|answer|>{%- endif -%}"
)
WIDTH, HEADS, KV_HEADS, HEAD_SIZE, FEED_FORWARD = 512, 4, 2, 16, 64
CONTEXT_TOKENS = 32_768


def tokenizer_with(answer: str) -> Tokenizer:
    """Bytes, ChatML's control tokens, and one token for the whole answer."""
    letters = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=letters, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(mark, special=True) for mark in ("<|im_start|>", END, ANSWER_BEGINS)])
    tokenizer.add_tokens([AddedToken(answer, normalized=False)])
    return tokenizer


def weights(tokenizer: Tokenizer, answer: str) -> dict[str, mx.array]:
    """An embedding that distinguishes all tokens, and an output that writes the answer, then the end."""
    ids: dict[str, int] = tokenizer.get_vocab()
    size, next_token = len(ids), {ids[ANSWER_BEGINS]: ids[answer]}
    output = [[0.0] * WIDTH for _ in range(size)]
    for token in range(size):
        output[next_token.get(token, ids[END])][token] = 1.0
    block = {
        "input_layernorm": mx.ones((WIDTH,)),
        "post_attention_layernorm": mx.ones((WIDTH,)),
        "self_attn.q_proj": mx.zeros((HEADS * HEAD_SIZE, WIDTH)),
        "self_attn.k_proj": mx.zeros((KV_HEADS * HEAD_SIZE, WIDTH)),
        "self_attn.v_proj": mx.zeros((KV_HEADS * HEAD_SIZE, WIDTH)),
        "self_attn.o_proj": mx.zeros((WIDTH, HEADS * HEAD_SIZE)),
        "self_attn.q_norm": mx.ones((HEAD_SIZE,)),
        "self_attn.k_norm": mx.ones((HEAD_SIZE,)),
        "mlp.gate_proj": mx.zeros((FEED_FORWARD, WIDTH)),
        "mlp.up_proj": mx.zeros((FEED_FORWARD, WIDTH)),
        "mlp.down_proj": mx.zeros((WIDTH, FEED_FORWARD)),
    }
    tensors = {f"model.layers.0.{name}.weight": value for name, value in block.items()}
    tensors["model.embed_tokens.weight"] = mx.eye(size, WIDTH)
    tensors["model.norm.weight"] = mx.ones((WIDTH,))
    tensors["lm_head.weight"] = mx.array(output)
    return tensors


def main() -> None:
    folder, answer = Path(sys.argv[1]), sys.argv[2]
    folder.mkdir(parents=True)
    tokenizer = tokenizer_with(answer)
    config = {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "vocab_size": tokenizer.get_vocab_size(),
        "hidden_size": WIDTH,
        "num_hidden_layers": 1,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "head_dim": HEAD_SIZE,
        "intermediate_size": FEED_FORWARD,
        "max_position_embeddings": CONTEXT_TOKENS,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10_000.0,
        "tie_word_embeddings": False,
        "eos_token_id": tokenizer.token_to_id(END),
    }
    tokenizer_config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": END,
        "chat_template": TEMPLATE,
        "clean_up_tokenization_spaces": False,
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer_config))
    tokenizer.save(str(folder / "tokenizer.json"))
    mx.save_safetensors(str(folder / "model.safetensors"), weights(tokenizer, answer), metadata={"format": "mlx"})


if __name__ == "__main__":
    main()
