"""How wrong is each hypergradient estimator along a real run? See README.md.

python -m experiments.hypergradient_error.run --model DIRECTORY --data cola/train.tsv
"""

import argparse
import json
import subprocess
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import optax

from blomix import BilevelProblem, Encoder, Mixup
from blomix.bilevel import adamw
from blomix.data import batch_rows, folds, load, subsample
from blomix.hypergradient import (
    Estimator,
    Exact,
    FiniteDifference,
    FirstOrder,
    Neumann,
)
from experiments.hypergradient_error.released import ReleasedCode

LEARNING_RATE, BATCH, EXAMPLES, SEED = 1e-4, 8, 300, 0
HERE = Path(__file__).parent


class Case(NamedTuple):
    """One estimate: of which estimator, on which loss, with which dropout keys."""

    estimator: Estimator
    dropout: bool = True
    half: bool = False  # bfloat16 compute, weights and sums in float32
    other_keys: bool = False


SHARED, FRESH = FiniteDifference(), FiniteDifference(fresh_keys=True)
CASES = {
    "exact, other masks": Case(Exact(), other_keys=True),
    "finite difference, shared masks": Case(SHARED),
    "finite difference, fresh masks": Case(FRESH),
    "released code": Case(ReleasedCode(LEARNING_RATE)),
    "first order": Case(FirstOrder()),
    "Neumann": Case(Neumann(terms=8, step_size=0.01)),
    "exact, bfloat16": Case(Exact(), half=True),
    "finite difference, bfloat16": Case(SHARED, half=True),
    "finite difference, no dropout": Case(SHARED, dropout=False),
    "released code, no dropout": Case(ReleasedCode(LEARNING_RATE), dropout=False),
    "first order, no dropout": Case(FirstOrder(), dropout=False),
}


def losses(model: str, num_labels: int):
    """(encoder, {(dropout, half): loss})."""

    def loss(encoder, dropout, params, batch, key):
        logits = encoder.apply(params, batch, key=key if dropout else None)
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch["labels"]).mean()

    single, half = (
        Encoder.from_pretrained(model, num_labels, seed=SEED, dtype=dtype, scan_layers=True)
        for dtype in ("float32", "bfloat16")
    )
    return single, {
        (dropout, is_half): partial(loss, half if is_half else single, dropout)
        for dropout in (True, False)
        for is_half in (True, False)
    }


def flat(tree) -> np.ndarray:
    return np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree)]).astype(np.float64)


def compare(found: np.ndarray, expected: np.ndarray) -> dict[str, float]:
    norms = np.linalg.norm(found), np.linalg.norm(expected)
    return {
        "relative_error": float(np.linalg.norm(found - expected) / norms[1]),
        "cosine": float(found @ expected / (norms[0] * norms[1])) if norms[0] else 0.0,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="directory of the encoder")
    parser.add_argument("--data", required=True, help="labelled file")
    parser.add_argument(
        "--at", type=int, nargs="+", default=[0, 1, 3, 10, 20, 40], help="outer steps to measure at"
    )
    parser.add_argument("--unroll", type=int, default=1, help="inner steps of an outer step")
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=CASES)
    parser.add_argument("--output", type=Path, default=HERE / "results" / "cola.json")
    options = parser.parse_args()

    # --- data ------------------------------------------------------------------------------
    examples = subsample(load(options.data), EXAMPLES, SEED)
    encoder, loss = losses(options.model, examples.num_labels)
    tokens = encoder.encode(examples, max_length=32)
    inner_rows, outer_rows = folds(examples, 5, SEED)[0]

    def batch(rows, step, fold):
        chosen = rows[batch_rows(len(rows), BATCH, seed=SEED, fold=fold, step=step)]
        return {name: column[chosen] for name, column in tokens.items()}

    # --- problems --------------------------------------------------------------------------
    def problem(case: Case) -> BilevelProblem:
        return BilevelProblem(
            loss[case.dropout, case.half],
            Mixup(where=encoder.is_mixed),
            inner=adamw(LEARNING_RATE, weight_decay=0.01),
            outer=optax.adam(2e-3),
            unroll=options.unroll,
            hypergradient=case.estimator,
        )

    advance = jax.jit(problem(Case(Exact())).step)
    compiled = {}

    def estimate(case: Case, state, *data) -> np.ndarray:
        if case.other_keys:
            state = replace(state, key=jax.random.key(SEED + 1))
        case = case._replace(other_keys=False)
        if case not in compiled:
            compiled[case] = jax.jit(problem(case).hypergradient)
        return flat(compiled[case](state, *data))

    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=HERE, check=True
    )
    setting = {
        "commit": commit.stdout.strip(),
        "jax": jax.__version__,
        "device": jax.devices()[0].device_kind,
        "seed": SEED,
        "examples": EXAMPLES,
        "batch": [BATCH, tokens["input_ids"].shape[1]],
        "learning_rate": LEARNING_RATE,
        "unroll": options.unroll,
    }

    # --- the run ---------------------------------------------------------------------------
    began = time.monotonic()
    state = problem(Case(Exact())).init(jax.random.key(SEED), encoder.params)
    records, shares = [], []
    for step in range(max(options.at) + 1):
        first = step * options.unroll
        each = [batch(inner_rows, first + k, 0) for k in range(options.unroll)]
        inner = jax.tree.map(lambda *parts: np.stack(parts), *each)
        outer = batch(outer_rows, step, 1)
        data = (encoder.params, inner, outer)
        if step in options.at:
            exact, direct = (
                {on: estimate(Case(kind, dropout=on), state, *data) for on in (True, False)}
                for kind in (Exact(), FirstOrder())
            )
            for name in options.cases:
                case = CASES[name]
                found, on = estimate(case, state, *data), case.dropout
                at = direct[on]
                if case.other_keys:
                    at = estimate(Case(FirstOrder(), on, other_keys=True), state, *data)
                indirect = compare(found - at, exact[on] - direct[on])
                records.append(
                    {"step": step, "estimator": name, "norm": float(np.linalg.norm(found))}
                    | compare(found, exact[on])
                    | {f"indirect_{field}": value for field, value in indirect.items()}
                )
            for on in (True, False):
                share = np.linalg.norm(exact[on] - direct[on]) / np.linalg.norm(exact[on])
                shares.append({"step": step, "dropout": on, "indirect_share": float(share)})
            seconds = round(time.monotonic() - began)
            measured = {"indirect_shares": shares, "records": records}
            # At every point, so that a run which is stopped leaves what it has measured.
            options.output.write_text(
                json.dumps(setting | {"last_step": step, "seconds": seconds} | measured, indent=1)
                + "\n"
            )
            print(f"step {step}: {seconds} s", flush=True)
        state, _ = advance(state, *data)


if __name__ == "__main__":
    main()
