"""The table of TPU generations against the one that comes with JAX."""

from __future__ import annotations

import pytest
from jax.experimental.pallas import tpu as pltpu

from gapjax.errors import UserError
from gapjax.launch.slices import SLICES
from gapjax.parallel.hardware import GENERATIONS, find_hardware, peak_flops


@pytest.mark.fast
@pytest.mark.parametrize("name", GENERATIONS)
def test_figures_are_those_that_jax_has(name) -> None:
    ours = GENERATIONS[name]
    version = pltpu.ChipVersion(name)
    core = pltpu.get_tpu_info_for_chip(version, 1)
    cores = version.num_physical_tensor_cores_per_chip
    assert ours.flops == pytest.approx(cores * core.bf16_ops_per_second, rel=0.01)
    assert ours.memory == pytest.approx(cores * core.hbm_capacity_bytes, rel=0.02)
    # Of v5p JAX says 2.46e12 bytes a second, Google's page 2.765e12.
    assert ours.memory_bandwidth == pytest.approx(cores * core.mem_bw_bytes_per_second, rel=0.13)


@pytest.mark.parametrize("name", SLICES)
def test_slices_have_the_chips_that_job_files_ask_for(name) -> None:
    hardware = find_hardware(name)
    assert (hardware.chips, hardware.hosts) == (SLICES[name].chips, SLICES[name].hosts)


@pytest.mark.parametrize("name", ["v5e", "v5e-", "v5e-0", "v5e-48", "v5e-512", "v5p-1", "h100-8"])
def test_other_names_are_one_line(name) -> None:
    with pytest.raises(UserError, match=r"hardware|slice") as caught:
        find_hardware(name)
    assert "\n" not in str(caught.value)


def test_peaks_are_known_or_absent() -> None:
    assert peak_flops("TPU v5 lite") == 197e12
    assert peak_flops("cpu") is None
