import sys
import types

import pytest

from reelm.energy import Energy


def zone(folder, place, name, used, span=1_000_000):
    (folder / place).mkdir(parents=True, exist_ok=True)
    for file, text in (("name", name), ("energy_uj", used), ("max_energy_range_uj", span)):
        (folder / place / file).write_text(f"{text}\n")


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_packages_and_memory_are_summed_and_nothing_twice(tmp_path):
    for place, name in (
        ("intel-rapl:0", "package-0"),
        ("intel-rapl:0:0", "core"),  # within the package
        ("intel-rapl:0:1", "dram"),
        ("intel-rapl:1", "psys"),  # holds the package
    ):
        zone(tmp_path, place, name, 100)
    energy = Energy(tmp_path)
    assert energy.names == "package-0+dram" and energy.read() == 0
    zone(tmp_path, "intel-rapl:0", "package-0", 500_100)
    zone(tmp_path, "intel-rapl:0:0", "core", 400_100)
    zone(tmp_path, "intel-rapl:0:1", "dram", 250_100)
    assert energy.read() == pytest.approx(0.75)


def test_a_counter_that_began_anew_is_followed(tmp_path):
    zone(tmp_path, "intel-rapl:0", "package-0", 900_000)
    energy = Energy(tmp_path)
    zone(tmp_path, "intel-rapl:0", "package-0", 100_000)
    assert energy.read() == pytest.approx(0.2)
    zone(tmp_path, "intel-rapl:0", "package-0", 400_000)
    assert energy.read() == pytest.approx(0.5)


def test_what_cannot_be_read_is_none_and_no_guess(tmp_path):
    assert Energy(tmp_path / "nowhere").read() is None
    zone(tmp_path, "intel-rapl:0", "package-0", 1)
    energy = Energy(tmp_path)
    (tmp_path / "intel-rapl:0" / "energy_uj").unlink()
    assert energy.read() is None and energy.names == ""
    assert Energy(tmp_path).read() is None


def nvml(used):
    """The package's functions over a dict of millijoules by GPU."""
    made = types.ModuleType("pynvml")
    made.NVMLError = type("NVMLError", (Exception,), {})
    made.nvmlInit = lambda: None
    made.nvmlDeviceGetCount = lambda: len(used)
    made.nvmlDeviceGetHandleByIndex = lambda n: n
    made.nvmlDeviceGetHandleByUUID = lambda name: {"GPU-b": 1}[name]
    made.nvmlDeviceGetIndex = lambda handle: handle

    def told(handle):
        if used[handle] is None:
            raise made.NVMLError("not supported")
        return used[handle]

    made.nvmlDeviceGetTotalEnergyConsumption = told
    return made


@pytest.mark.parametrize(("visible", "names", "joules"), [
    (None, "gpu0+gpu1", 7.0), ("1", "gpu1", 4.0), ("GPU-b", "gpu1", 4.0), ("", "", None),
])  # fmt: skip
def test_gpus_that_may_be_used_are_counted(tmp_path, monkeypatch, visible, names, joules):
    used = {0: 1000, 1: 1000}
    monkeypatch.setitem(sys.modules, "pynvml", nvml(used))
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    energy = Energy(tmp_path)
    used |= {0: 4000, 1: 5000}
    assert (energy.names, energy.read()) == (names, joules)


def test_a_gpu_that_tells_no_energy_is_none(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", nvml({0: None}))
    assert Energy(tmp_path).read() is None
    used = {0: 1}
    monkeypatch.setitem(sys.modules, "pynvml", nvml(used))
    energy = Energy(tmp_path)
    used[0] = None
    assert energy.read() is None
