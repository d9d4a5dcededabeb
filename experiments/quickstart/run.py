"""BBC headlines, 5 topics, 100 labelled: plain finetuning against blomix, on a real encoder.

Command: make quickstart (2 cores: under 6 minutes with installation)

The encoder is all-MiniLM-L6-v2, which its authors trained further on sentence pairs.
"""

import json
import subprocess
import sys
from pathlib import Path

CACHE = Path(sys.argv[1])
RUNS = Path("runs") / "quickstart"


def finetune(method: str) -> dict:
    """Runs the command line and returns the run's result."""
    command = [sys.executable, "-m", "blomix", "finetune", "--method", method]
    command += ["--model", CACHE / "all-MiniLM-L6-v2", "--train", CACHE / "headlines-train.csv"]
    command += ["--validation", CACHE / "headlines-test.csv", "--run-dir", RUNS / method]
    print(f"\n$ blomix {' '.join(map(str, command[3:]))}", flush=True)
    if code := subprocess.run(command).returncode:
        sys.exit(code)
    return json.loads((RUNS / method / "result.json").read_text())


results = [finetune(method) for method in ("plain", "blomix")]
print(f"\n{'method':<10}{'accuracy':>10}{'majority':>10}{'steps':>8}{'seconds':>9}")
for result in results:
    print(
        f"{result['method']:<10}{result['score']:>10.4f}{result['majority_score']:>10.4f}"
        f"{result['steps']:>8}{result['seconds']:>9.1f}"
    )
print(f"\nrun directory:  {RUNS / 'blomix'}\nexported model: {RUNS / 'blomix' / 'export'}")
