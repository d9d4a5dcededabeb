"""Makes `dropout.json`: where torch's models draw dropout, and at which rate (needs torch).

    python tests/golden/encoders/make_dropout.py

For each fixture: `rates`, a rate of its own for each dropout setting of the config, and `drawn`,
for each mask of one training pass over its batch the number of elements and the rate, sorted.
"""

import json
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification

HERE = Path(__file__).parent


def masks(directory: Path) -> dict:
    arrays = np.load(directory / "expected.npz")
    names = ("input_ids", "attention_mask", "token_type_ids")
    batch = {name: torch.tensor(arrays[name]).long() for name in names if name in arrays}
    settings = sorted(json.loads((directory / "config.json").read_text()))
    settings = [name for name in settings if "dropout" in name]
    rates = {name: round(0.05 + 0.01 * i, 2) for i, name in enumerate(settings)}
    model = AutoModelForSequenceClassification.from_pretrained(
        directory, attn_implementation="eager", **rates
    ).train()
    drawn = []
    usual = torch.nn.functional.dropout

    def spy(x, p=0.5, training=True, inplace=False):
        if training and p > 0:
            drawn.append([x.numel(), p])
        return usual(x, p, training, inplace)

    torch.nn.functional.dropout = spy
    try:
        model(**batch)
    finally:
        torch.nn.functional.dropout = usual
    return {"rates": rates, "drawn": sorted(drawn)}


if __name__ == "__main__":
    every = {path.parent.name: masks(path.parent) for path in sorted(HERE.glob("*/expected.npz"))}
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(found)}" for name, found in every.items())
    (HERE / "dropout.json").write_text("{\n" + lines + "\n}\n")
