"""What a command costs before it computes anything."""

import os
import subprocess
import sys
from pathlib import Path

from blomix.parallel import cache

HEAVY = {
    "jax", "jaxlib", "flax", "optax", "orbax", "transformers", "datasets", "sklearn", "scipy",
    "matplotlib", "pyarrow", "pandas", "torch", "tyro", "rich", "numpy",
}  # fmt: skip


def modules_after(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint('\\n'.join(sys.modules), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {line.split(".")[0] for line in done.stderr.splitlines()}


def test_importing_blomix_loads_nothing_heavy():
    loaded = modules_after("import blomix")
    assert "blomix" in loaded
    assert not loaded & HEAVY


def test_help_loads_nothing_heavy():
    loaded = modules_after("from blomix.cli import _main\nassert _main(['--help']) == 0")
    assert "blomix" in loaded
    assert not loaded & HEAVY


def test_folder_follows_the_environment(tmp_path):
    assert cache.folder({"BLOMIX_CACHE_DIR": str(tmp_path)}) == tmp_path
    assert cache.folder({"BLOMIX_CACHE_DIR": ""}) is None
    assert cache.folder({"XDG_CACHE_HOME": "/c"}) == Path("/c/blomix/xla")
    assert cache.folder({}) == Path.home() / ".cache/blomix/xla"


START = (
    "import jax\n"
    "from blomix.parallel import cache\n"
    "cache.enable()\n"
    "jax.config.update('jax_persistent_cache_min_compile_time_secs', 0)\n"
)


def test_compiled_programs_outlive_the_process(tmp_path):
    """The second process compiles nothing: it finds the first one's program."""
    code = (
        START + "events = []\n"
        "jax.monitoring.register_event_listener(lambda event, **_: events.append(event))\n"
        "jax.jit(lambda x: x @ x + 1)(jax.numpy.ones((8, 8)))\n"
        "print(sum(event.endswith('compilation_cache/cache_misses') for event in events))\n"
    )
    environment = os.environ | {"BLOMIX_CACHE_DIR": str(tmp_path / "cache")}
    misses = [
        int(subprocess.check_output([sys.executable, "-c", code], env=environment, text=True))
        for _ in range(2)
    ]
    assert misses[0] > 0
    assert misses[1] == 0


def test_programs_for_absent_devices_are_not_kept(tmp_path):
    code = (
        START + "def kept(x):\n    return x @ x + 1\n"
        "def passing(x):\n    return x @ x + 2\n"
        "with cache.unwritten():\n    jax.jit(passing)(jax.numpy.ones((8, 8)))\n"
        "jax.jit(kept)(jax.numpy.ones((8, 8)))\n"
    )
    environment = os.environ | {"BLOMIX_CACHE_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    names = {path.name.split("-")[0] for path in tmp_path.iterdir()}
    assert "jit_kept" in names
    assert "jit_passing" not in names
