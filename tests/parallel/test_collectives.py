"""The reader of HLO on text written by hand; real programs are in test_compile_ahead."""

from __future__ import annotations

import pytest

from gapjax.parallel.collectives import Kind, Traffic, by_name, collectives

# ruff: noqa: E501
HLO = """\
HloModule jit_f, is_scheduled=true, num_partitions=8

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  ROOT %s = f32[] add(%a, %b)
}

%body.3 (p: (s32[], bf16[16,32])) -> (s32[], bf16[16,32]) {
  %g = bf16[16,32]{1,0:T(8,128)(2,1)} all-gather(%x), channel_id=1, replica_groups=[2,4]<=[8], dimensions={0}
  ROOT %t = (s32[], bf16[16,32]) tuple(%i, %g)
}

%cond (p: (s32[], bf16[16,32])) -> pred[] {
  ROOT %lt = pred[] compare(%i, %n), direction=LT
}

%fused (p: f32[8]) -> f32[8] {
  ROOT %r = f32[8]{0} reduce-scatter(%p), replica_groups={{0,1},{2,3},{4,5},{6,7}}, to_apply=%add
}

%part.1 (p: f32[8]) -> f32[8] {
  ROOT %mb = f32[4,6] all-gather(%p), channel_id=7, replica_groups=mesh['axis_0'=2,'axis_1'=4], device_ids=([2,4]T(1,0)) {'axis_0', 'axis_1':(1)2}, dimensions={1}
}

ENTRY %main.9 (x: f32[64]) -> f32[8] {
  %w = (s32[], bf16[16,32]) while(%t), condition=%cond, body=%body.3, backend_config={"known_trip_count":{"n":"5"}}
  %ar-start = (f32[10]{0}, f32[2,3]{1,0}) all-reduce-start(%x, %y), replica_groups={}, to_apply=%add
  %ar-done = (f32[10], f32[2,3]) all-reduce-done(%ar-start)
  %ag = (f32[4]{0}, f32[16]{0}) all-gather-start(%x), replica_groups={{0,2,4,6},{1,3,5,7}}, dimensions={0}
  %cp = (u8[64], u8[64], u32[], u32[]) collective-permute-start(%x), source_target_pairs={{0,1}}
  %all-gather-done.1 = f32[16] all-gather-done(%ag)
  %ma = f32[4,6] all-gather(%x), channel_id=7, replica_groups=mesh['axis_0'=2,'axis_1'=4], device_ids=([2,4]T(1,0)) {'axis_0', 'axis_1':(1)2}, dimensions={1}
  %h = f32[8] fusion(%x), kind=kCustom, calls=%part.1
  ROOT %f = f32[8] fusion(%x), kind=kCustom, calls=%fused
}
"""


@pytest.mark.fast
def test_collectives_of_a_text_by_hand() -> None:
    found = collectives(HLO)
    assert found == {
        Kind("all-gather", 4): Traffic(7, (5 * 16 * 32 * 2 + 16 * 4 + 4 * 6 * 4) * 3 / 4),
        Kind("all-reduce", 0): Traffic(1, 2 * (10 + 6) * 4),
        Kind("collective-permute", 0): Traffic(1, 64),
        Kind("reduce-scatter", 2): Traffic(1, 8 * 4 * 1),
    }
    assert by_name(found)["reduce-scatter"] == 32


def test_a_program_for_one_device_passes_nothing_on() -> None:
    import jax

    text = jax.jit(lambda x: x @ x).lower(jax.numpy.ones((4, 4))).compile().as_text()
    assert text.count("ENTRY") == 1
    assert collectives(text) == {}
