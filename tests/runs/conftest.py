import pytest

from blomix.runs import open_run

CONFIG = {"steps": 3, "recipe": {"rate": 1e-4, "name": "paper"}, "layers": None}
DIGESTS = {"train": ["aa", "bb"], "validation": "cc"}


@pytest.fixture
def opened(tmp_path):
    """Opens the run of this test's directory, as often as it is called."""

    def opener(config=CONFIG, digests=DIGESTS, path=tmp_path / "run"):
        return open_run(path, config, digests)

    return opener
