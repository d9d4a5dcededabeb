"""What the fuzz tests share: how many examples, and damage done to bytes.

BLOMIX_FUZZ sets the number of examples of each test (default 150); `tests/chaos/catalogue.py
--examples N` sets it for a long run.
"""

import os

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

RUNS = settings(
    max_examples=int(os.environ.get("BLOMIX_FUZZ", "150")),
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TOKENS = [
    *rb'" "" , : { } [ ] null NaN -Infinity 1e999 0.5 -1 \ud800 \u0000 text label =1+1'.split(),
    *(b"\t", b"\n", b"\r", b"\r\n", b"\0", b" ", b"\x1a", b"9" * 400),
    *(b"\xef\xbb\xbf", b"\xff\xfe", b"\xed\xa0\x80", "\u202e".encode(), "\u2028".encode()),
]


@st.composite
def mutated(draw, source) -> bytes:
    """A few bytes flipped, cut, doubled or replaced by a token that parsers trip over."""
    data = bytearray(draw(source))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 12)))
        kind = draw(st.sampled_from(["flip", "cut", "double", "token"]))
        if kind == "flip" and start < len(data):
            data[start] ^= 1 << draw(st.integers(0, 7))
        elif kind == "cut":
            del data[start:end]
        elif kind == "double":
            data[start:start] = data[start:end]
        else:
            data[start:end] = draw(st.sampled_from(TOKENS))
    return bytes(data)
