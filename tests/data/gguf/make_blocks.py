"""Makes blocks.safetensors: random blocks of each GGUF weight type and the values that the `gguf`
package reads from them. Scales are ordinary, zero or subnormal halves; weights are any bits."""
import numpy as np
from gguf import GGMLQuantizationType as T, GGML_QUANT_SIZES
from gguf.quants import dequantize
from safetensors.numpy import save_file

rng = np.random.default_rng(7)
# Where the half-precision scales of a block are.
HALVES = {T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2], T.Q8_0: [0],
          T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208]}
out = {}
for t in (T.F32, T.F16, T.BF16, *HALVES):
    values, size = GGML_QUANT_SIZES[t]
    n = 12 if values > 1 else 64
    if t == T.F32:
        blocks = rng.standard_normal((n, 1)).astype(np.float32).view(np.uint8)
    elif t == T.F16:
        blocks = (rng.standard_normal((n, 1)) * 10.0 ** rng.integers(-8, 4, (n, 1))).astype(np.float16).view(np.uint8)
    else:
        blocks = rng.integers(0, 256, (n, size), dtype=np.uint8)
    if t == T.BF16:
        blocks[:, 1] &= 0xBF            # finite
    for at in HALVES.get(t, []):
        scale = (rng.standard_normal(n) * 0.05).astype(np.float16)
        scale[0], scale[1] = 0, np.float16(3e-7)
        blocks[:, at:at + 2] = scale.reshape(n, 1).view(np.uint8)
    out[t.name + ".blocks"] = np.ascontiguousarray(blocks)
    out[t.name + ".values"] = np.ascontiguousarray(dequantize(blocks, t).reshape(-1).astype(np.float32))
save_file(out, "blocks.safetensors")
