"""Peak memory of loading an encoder, over what the interpreter with jax needs, per byte of weights.

python experiments/encoder_speed/loading_memory.py DIRECTORY
"""

import resource
import sys
from pathlib import Path

import jax

from blomix.encoders import Encoder


def peak() -> int:
    """Peak resident memory of this process, bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


jax.numpy.zeros(1).block_until_ready()
directory = Path(sys.argv[1])
before = peak()
encoder = Encoder.from_pretrained(directory)
jax.block_until_ready(encoder.params)
weights = sum(leaf.nbytes for leaf in jax.tree.leaves(encoder.params))
print(f"{(peak() - before) / weights:.3f} x {weights / 1e6:.1f} MB")
