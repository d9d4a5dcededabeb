"""The command itself, stopped by a real signal and run again."""

import os
import signal
import threading
import time

from kill import arguments_of_finetune, outcome


def test_finetune_stops_at_a_signal_and_goes_on(blomix, tmp_path):
    arguments = ["finetune", *arguments_of_finetune(tmp_path), "--json", "--run-dir"]
    assert blomix(*arguments, tmp_path / "unbroken")[0] == 0

    def stop():
        while not (tmp_path / "broken/checkpoints/search/0/final").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=stop)
    thread.start()
    code, _, errors = blomix(*arguments, tmp_path / "broken")
    thread.join()
    assert code == 143
    assert "the same command continues from here" in errors
    assert not (tmp_path / "broken" / "result.json").exists()
    assert blomix(*arguments, tmp_path / "broken")[0] == 0
    assert outcome(tmp_path / "broken") == outcome(tmp_path / "unbroken")


def test_ctrl_c_outside_of_a_run_is_no_traceback(blomix, monkeypatch):
    from blomix.cli import doctor

    def interrupted(config):
        raise KeyboardInterrupt

    monkeypatch.setattr(doctor, "run", interrupted)
    code, _, errors = blomix("doctor")
    assert code == 130
    assert errors == "blomix doctor: stopped\n"
