# SPDX-License-Identifier: Apache-2.0
"""A model file that libllama can load: random weights, without a vocabulary, 1.1 MB.

python3 tests/support/tiny_gguf.py model.gguf
"""

import array
import random
import struct
import sys

# The weights of the layers are so small that the next token mostly follows from the last one alone. The text therefore
# repeats itself, but not always, so that a draft is right or wrong.
LAYER_SCALE = 0.1
TOKENS, WIDTH, LAYERS, HEADS, INNER = 512, 64, 4, 4, 192
ALIGNMENT = 32
F32 = 0  # ggml's type of all tensors


def text(value):
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def pair(key, value):
    """A key of the file with its value. The number before the value is its type in GGUF."""
    if isinstance(value, str):
        return text(key) + struct.pack("<I", 8) + text(value)
    if isinstance(value, float):
        return text(key) + struct.pack("<If", 6, value)
    return text(key) + struct.pack("<II", 4, value)


def shapes():
    """The tensors of the architecture "llama"."""
    yield "token_embd.weight", (WIDTH, TOKENS)
    yield "output_norm.weight", (WIDTH,)
    yield "output.weight", (WIDTH, TOKENS)
    for layer in range(LAYERS):
        for name, shape in (("attn_norm", (WIDTH,)), ("attn_q", (WIDTH, WIDTH)), ("attn_k", (WIDTH, WIDTH)),
                            ("attn_v", (WIDTH, WIDTH)), ("attn_output", (WIDTH, WIDTH)), ("ffn_norm", (WIDTH,)),
                            ("ffn_gate", (WIDTH, INNER)), ("ffn_up", (WIDTH, INNER)), ("ffn_down", (INNER, WIDTH))):
            yield "blk.%d.%s.weight" % (layer, name), shape


def write(path, seed=1):
    pairs = [pair("general.architecture", "llama"), pair("general.name", "random"),
             pair("llama.vocab_size", TOKENS), pair("llama.context_length", 1 << 17),
             pair("llama.embedding_length", WIDTH), pair("llama.block_count", LAYERS),
             pair("llama.feed_forward_length", INNER), pair("llama.attention.head_count", HEADS),
             pair("llama.rope.dimension_count", WIDTH // HEADS),
             pair("llama.attention.layer_norm_rms_epsilon", 1e-5), pair("tokenizer.ggml.model", "no_vocab")]
    generator = random.Random(seed)
    infos, data = [], bytearray()
    for name, shape in shapes():
        infos.append(text(name) + struct.pack("<I%dQIQ" % len(shape), len(shape), *shape, F32, len(data)))
        if len(shape) == 1:
            values = [1.0] * shape[0]
        else:
            scale = LAYER_SCALE if name.startswith("blk.") else 1.0
            values = [generator.uniform(-scale, scale) for _ in range(shape[0] * shape[1])]
        data += array.array("f", values).tobytes()
        data += bytes(-len(data) % ALIGNMENT)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(infos), len(pairs)) + b"".join(pairs) + b"".join(infos)
    with open(path, "wb") as file:
        file.write(head + bytes(-len(head) % ALIGNMENT) + data)


if __name__ == "__main__":
    write(sys.argv[1])
