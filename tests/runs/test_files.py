"""Manifests, full disks, read-only storage, numbers that are none."""

import errno
import subprocess
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blomix.errors import InputError
from blomix.runs import Damaged, NonFinite, finite, manifest


def make_export(directory: Path) -> Path:
    (directory / "nested").mkdir(parents=True)
    (directory / "model.safetensors").write_bytes(bytes(range(256)))
    (directory / "nested" / "config.json").write_text("{}")
    (directory / "empty").write_text("")
    manifest.write(directory, {"score": 0.5})
    return directory


def test_an_untouched_directory_verifies(tmp_path):
    assert manifest.verify(make_export(tmp_path / "export")) == {"score": 0.5}


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_every_flipped_bit_is_found(tmp_path, data):
    directory = tmp_path / "export"
    if not directory.exists():
        make_export(directory)
    name = data.draw(st.sampled_from(["model.safetensors", "nested/config.json", "manifest.json"]))
    whole = (directory / name).read_bytes()
    content = bytearray(whole)
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    (directory / name).write_bytes(content)
    facts = verified(directory)
    (directory / name).write_bytes(whole)
    # White space between the manifest's values may become other white space.
    assert facts is None or (name == "manifest.json" and facts == {"score": 0.5})


def verified(directory: Path) -> dict | None:
    try:
        return manifest.verify(directory)
    except Damaged:
        return None


def test_missing_added_and_resized_files_are_named(tmp_path):
    directory = make_export(tmp_path / "export")
    (directory / "empty").unlink()
    (directory / "pytorch_model.bin").write_text("")
    (directory / "nested" / "config.json").write_text("{ }")
    with pytest.raises(Damaged) as caught:
        manifest.verify(directory)
    message = str(caught.value)
    assert "empty is missing" in message
    assert "pytorch_model.bin was not there when it was written" in message
    assert "nested/config.json has 3 bytes, not 2" in message


@pytest.mark.parametrize("text", ["", "[]", "1", '{"seal": 1}', "{" * 10**5, "[" * 10**6, "\0"])
def test_a_hostile_manifest_is_damage(tmp_path, text):
    directory = make_export(tmp_path / "export")
    (directory / "manifest.json").write_text(text)
    with pytest.raises(Damaged, match=r"manifest\.json"):
        manifest.verify(directory)


def test_a_directory_without_manifest_is_damage(tmp_path):
    with pytest.raises(Damaged, match=r"manifest\.json is missing"):
        manifest.verify(tmp_path)


@pytest.fixture
def small_disk(tmp_path):
    """Mounts a file system of 4 MiB; may be asked to make it read-only."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(options):
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
        return subprocess.run(command, capture_output=True, check=False).returncode

    try:
        refused = mount("size=4m")
    except FileNotFoundError:
        refused = True
    if refused:
        pytest.skip("mounting a tmpfs needs root and the command mount")
    yield place, mount
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_costs_only_the_save_that_filled_it(opened, small_disk, caplog):
    place, _ = small_disk
    small, large = {"w": jnp.ones(1000)}, {"w": jax.random.normal(jax.random.key(0), (3, 10**6))}
    with opened(path=place / "run") as run:
        run.restore("finetune", small)
        run.save("finetune", 1, small)
        run.save("finetune", 2, large)
        with pytest.raises(InputError, match="the disk is full: free some space") as caught:
            run.wait()
        assert "00000002" in str(caught.value)
        assert not list(run.path.rglob(".tmp-*"))
        assert "Traceback" not in caplog.text
        run.log({"step": 2})
    with opened(path=place / "run") as run:
        step, state = run.restore("finetune", small)
        assert step == 1
        assert np.array_equal(state["w"], small["w"])


def test_a_disk_full_of_metrics_is_one_message(opened, small_disk):
    place, _ = small_disk
    run = opened(path=place / "run")
    run.restore("finetune", 0)
    with pytest.raises(InputError, match="the disk is full"):
        run.log({"text": "x" * 10**7})
    run.close()


def test_a_run_that_cannot_be_closed_well_lets_go_of_its_directory(opened, monkeypatch):
    run = opened()
    close = run._metrics.close

    def full():
        close()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(run._metrics, "close", full)
    with pytest.raises(InputError, match="the disk is full"):
        run.close()
    opened().close()  # or it would be in use, by this very process


def test_read_only_storage_is_refused(opened, small_disk):
    place, mount = small_disk
    assert mount("remount,ro") == 0
    with pytest.raises(InputError, match="the storage is read-only: choose another directory"):
        opened(path=place / "run")


def test_finite_numbers_pass():
    state = {"w": jnp.ones(3), "key": jax.random.key(0), "step": 3, "count": jnp.int32(1)}
    finite.check(1, {"loss": 0.5, "norm": jnp.float32(2)}, state)


def test_the_first_bad_number_is_named():
    state = {"good": jnp.ones(2), "layer": {"query": jnp.asarray([1.0, jnp.inf])}}
    with pytest.raises(NonFinite) as caught:
        finite.check(17, {"loss": 1.0}, state, rows_digests=["0123456789abcdef", "ff"])
    message = str(caught.value)
    for part in ("step 17", "leaf layer/query", "0123456789ab, ff", "learning rate"):
        assert part in message
    with pytest.raises(NonFinite, match="step 3: metric loss is nan"):
        finite.check(3, {"loss": jnp.float32(jnp.nan)}, state)
