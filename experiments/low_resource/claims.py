"""Prints the paired gains of README.md that no results.md has: some tasks alone, or two studies.

python experiments/low_resource/claims.py
"""

import json
import tomllib
from pathlib import Path

from blomix.evaluation import statistics

HERE = Path(__file__).parent
THREE, PAIRS = ("cola", "sst2", "trec"), ("mrpc", "rte")
SINGLE = (*THREE, "subj")
ALL = (*SINGLE, *PAIRS)
F, G, K, A, C, T = "float32", ".", "five_folds", "ablations", "confirmation", "tuning"
N, R, H = "thousand", "rates", "head_scale"
BOTH = f"{F}+{C}"  # of other seeds and subsets: ten together
RIVALS = (
    *("mixout", "lora", "hype", "joint", "l2sp", "ema", "bitfit", "wise_ft", "child_f", "child_d"),
    *("top_layers", "reinit", "random_alpha", "rdrop", "r3f", "sam"),
)
CHOSEN = tomllib.loads((HERE / "chosen.toml").read_text())


def tuned(method: str) -> tuple[str, str]:
    """A method at the rate that was chosen for it, where that was chosen."""
    return T, f"{method}@learning_rate={CHOSEN[method]['learning_rate']}"


# (study, method), (study, method), n, tasks
CLAIMS = [
    *(
        ((G, "default"), (G, other), n, tasks)
        for n in (100, 300)
        for other in ("plain_steps", "lp_ft", "soup")
        for tasks in (ALL, SINGLE, PAIRS)
    ),
    *(
        ((G, "default"), (G, other), n, ALL)
        for n in (100, 300)
        for other in ("paper", "released", "plain_20", "three_finishes", *RIVALS)
    ),
    *(((G, one), (G, "plain_steps"), n, ALL) for n in (100, 300) for one in RIVALS),
    *(
        ((G, "lp_ft"), (G, "plain_steps"), n, tasks)
        for n in (100, 300)
        for tasks in (SINGLE, PAIRS)
    ),
    *(((N, "default"), (N, other), 1000, None) for other in ("plain_steps", "lp_ft", "soup")),
    *(
        ((R, f"{one}@learning_rate={rate}"), (R, f"plain_steps@learning_rate={own}"), n, tasks)
        for n in (100, 300)
        for one, rate, own, tasks in (
            ("plain_steps", "0.00015", "5e-05", None),
            *(("soup", rate, rate, None) for rate in ("5e-05", "0.00015")),
            *(("soup", "5e-05", "5e-05", (task,)) for task in ("scicite", "irony", "agnews")),
        )
    ),
    *(((H, "scale_0.1"), (H, other), 100, None) for other in ("scale_1", "scale_0.3")),
    *(((F, "scaled_head"), (F, other), 100, SINGLE) for other in ("default", "plain_steps")),
    *(
        ((F, "default"), (F, other), n, tasks)
        for n in (100, 300)
        for other in ("plain_steps", "lp_ft", "soup")
        for tasks in (ALL, SINGLE, PAIRS)
    ),
    *(
        ((study, "default"), (study, "plain_steps"), 100, tasks)
        for study in (C, BOTH)
        for tasks in (ALL, SINGLE, PAIRS)
    ),
    *(((F, "lp_ft"), (F, "plain_steps"), n, SINGLE) for n in (100, 300)),
    *(((F, "default"), (F, "l2sp"), n, tasks) for n, tasks in ((100, ALL), (300, SINGLE))),
    *(((F, "l2sp"), (F, "plain_steps"), n, tasks) for n, tasks in ((100, ALL), (300, SINGLE))),
    *(((F, "default"), (F, one), 100, THREE) for one in RIVALS),
    *(((F, one), (F, "plain_steps"), 100, THREE) for one in RIVALS),
    *((tuned("default"), tuned(one), 100, None) for one in CHOSEN if one != "default"),
    *((tuned(one), tuned("plain_steps"), 100, None) for one in CHOSEN if one != "plain_steps"),
    (tuned("lp_ft"), tuned("soup_three_finishes"), 100, None),
    ((F, "default"), (F, "paper"), 100, SINGLE),
    *(
        ((G, "three_finishes"), (G, other), n, ALL)
        for n in (100, 300)
        for other in ("plain_steps", "soup_three_finishes")
    ),
    *(((G, "paper"), (G, "released"), n, ALL) for n in (100, 300)),
    *(((G, "paper"), (G, "plain_20"), n, ALL) for n in (100, 300)),
    ((G, "released_leaking"), (G, "released"), 100, ALL),
    *(((G, "plain_steps"), (G, "plain_3"), n, ALL) for n in (100, 300)),
    *(
        ((K, one), (K, "plain_steps"), 100, ("cola", "trec"))
        for one in (
            *("reinit", "child_d", "lp_ft", "rdrop", "mixout", "ema", "l2sp", "joint", "hype"),
            *("wise_ft", "child_f", "top_layers", "random_alpha", "default"),
        )
    ),
    *(
        ((A, one), (A, other), 100, None)
        for one, other in (
            ("moving", "soup_half_rate"),
            ("moving", "inner_soup"),
            ("moving", "inner"),
            ("moving_first_order", "moving"),
            ("moving_finite_difference", "moving"),
            ("moving_matrix", "moving"),
            ("moving_full", "moving"),
            *(
                (f"moving_{other}", "moving")
                for other in ("layer", "row", "column", "average_alpha")
            ),
            *((f"moving_{other}", "moving") for other in ("sigmoid", "unroll_4", "masks")),
            ("leak", "inner"),
            *((other, "inner") for other in ("formula_released", "pooling_cls", "search_3")),
            *((other, "inner") for other in ("folds_10", "inner_outer_1e-1")),
            ("finetune_10", "soup_finetune_10"),
            ("pooling_pooler", "inner"),
            ("folds_1", "base"),
            ("inner", "base"),
            ("outer_3e-1", "soup_half_rate"),
            ("outer_3e-1", "init_0.7"),
            ("init_0.5", "soup_5e-5"),
            ("moving", "outer_3e-1"),
            ("inner_soup", "soup"),
            ("soup_folds_3_epochs_9_5e-5", "soup_folds_3_finishes_3_5e-5"),
            ("soup_folds_3_epochs_9_5e-5", "soup"),
            ("soup_folds_3_epochs_9_5e-5", "lp_ft_long_5e-5"),
            ("soup_folds_3_epochs_9_finishes_2_5e-5", "soup_folds_3_epochs_9_5e-5"),
        )
    ),
    (
        (A, "soup_folds_3_epochs_9_finishes_2_5e-5"),
        (A, "soup_folds_3_epochs_9_5e-5"),
        300,
        None,
    ),
]


def runs(study: str, method: str, name: str, n: int | None, tasks: tuple[str, ...] | None):
    """The cells of a method, called `name`, of one size (or all) and some tasks (or all)."""
    for folder in study.split("+"):
        for path in sorted((HERE / folder / "results" / method).glob("*.json")):
            record = json.loads(path.read_text())
            if (n is None or record["n"] == n) and (tasks is None or record["task"] in tasks):
                yield record | {"method": name}


def main() -> None:
    for ours, theirs, n, tasks in CLAIMS:
        cells = [*runs(*ours, "ours", n, tasks), *runs(*theirs, "theirs", n, tasks)]
        pairs = statistics.paired(cells, "ours", "theirs")
        if not pairs:
            continue
        [found] = statistics.compare(cells, ["ours"], "theirs")
        ran = sorted({own[0][0]["task"] for own in pairs})
        print(
            f"{'/'.join(ours)} less {'/'.join(theirs)}, n {n or 'all'}, {' '.join(ran)}, "
            f"{found.pairs} pairs: {found.gain:+.3f} ({found.low:.3f} to {found.high:.3f}; "
            f"p {found.p:.4f}); above on {found.above} of {found.strata}; "
            f"sd {found.sd_ratio:.2f} ({found.sd_low:.2f} to {found.sd_high:.2f}; "
            f"{found.sd_strata} strata)"
        )


if __name__ == "__main__":
    main()
