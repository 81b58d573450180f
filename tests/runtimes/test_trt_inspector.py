"""The layers of an engine and trtexec's exports, read back from captured prints and from what its source writes."""

import json

import pytest
from captured_prints import captured

from runtimes.trt_inspector import (
    InspectedLayer,
    exported_profile,
    exported_times,
    inspected_layers,
    layers_of_text,
    lines_of,
)

CONV = (
    "sm80_xmma_fprop_implicit_gemm_indexed_wo_smem_f16f16_f16f16_f16_nhwckrsc_nhwc_"
    "tilesize128x32x64_stage1_warpsize4x1x1_g1_tensor16x8x16_aligna8_alignc8"
)
GEMM = "sm50_xmma_cublas_gemvx_f16f16_f32_f32_tn_n_int32_unit_n_launch_param4x32x32_strided_unit_stride"
INT8 = (
    "sm80_xmma_fprop_implicit_gemm_interleaved_i8f32_i8i32_f32_nchw_vect_c_32kcrs_vect_c_32_nchw_"
    "tilesize64x32x64_stage6_warpsize2x1x1_g1_tensor16x8x32_t1r3s3_alignc4_nchw"
)


def test_the_captured_layer_lines():
    assert layers_of_text(captured("layer-text-trt10.4-HasSparseWeights.log")) == [
        InspectedLayer("/features/features.0/Conv + /features/features.1/Relu", "CaskConvolution", CONV, False),
        InspectedLayer("/classifier/classifier_6/Gemm_myl9_4", "gemm", GEMM, None),
    ]


def test_a_layer_line_without_kind_or_kernel_has_none():
    assert layers_of_text("Name: a, LayerType: , TacticName: , StreamId: 0\n[I] Name: b, LayerType: NoOp") == [
        InspectedLayer("a", None, None, None),
        InspectedLayer("b", "NoOp", None, None),
    ]


def test_the_byte_that_tensorrt_puts_into_metadata_breaks_neither_lines_nor_json():
    text = captured("layer-text-trt10.4-HasSparseWeights.log").replace("][ONNX", "]\x1e[ONNX")
    assert "\x1e" in text
    assert len(lines_of(text)) == 3  # the last one is empty
    assert [layer.tactic for layer in layers_of_text(text)] == [CONV, GEMM]
    entry = '{"Layers": [{"Name": "a", "LayerType": "conv", "TacticName": "k", "Metadata": "[x]\x1e[y]"}]}'
    assert inspected_layers(entry) == [InspectedLayer("a", "conv", "k", None)]


def test_the_captured_inspector_json():
    expected = [
        InspectedLayer("(Unnamed Layer* 0) [Shuffle]", "NoOp", None, None),
        InspectedLayer(
            "Reformatting CopyNode for Input Tensor 0 to (Unnamed Layer* 1) [Convolution]", "Reformat", None, None
        ),
        InspectedLayer("(Unnamed Layer* 1) [Convolution]", "CaskConvolution", INT8, False),
    ]
    text = captured("engine-inspector-HasSparseWeights.json")
    assert inspected_layers(text) == expected
    assert inspected_layers(json.loads(text)) == expected


def test_an_engine_without_detailed_verbosity_has_only_names():
    assert inspected_layers('{"Layers": ["conv1 + relu1", "fc"]}') == [
        InspectedLayer("conv1 + relu1", None, None, None),
        InspectedLayer("fc", None, None, None),
    ]


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"AllowSparse": 1}, True),
        ({"AllowSparse": 0}, False),
        ({"HasSparseWeights": True}, True),
        ({"HasSparseWeights": "1"}, None),
        ({"HasSparseWeights": 2}, None),
        ({}, None),
    ],
)
def test_the_mark_of_sparse_weights_in_each_age(entry, expected):
    assert inspected_layers([{"Name": "a", **entry}])[0].has_sparse_weights is expected
    flag = next(iter(entry.items()), None)
    if flag and flag[1] in (0, 1):
        line = f"Name: a, LayerType: CaskConvolution, {flag[0]}: {int(flag[1])}, TacticName: k"
        assert layers_of_text(line)[0].has_sparse_weights is expected


def test_a_kind_or_kernel_that_is_no_text_is_not_known():
    assert inspected_layers([{"Name": "a", "LayerType": 3, "TacticName": ""}]) == [
        InspectedLayer("a", None, None, None)
    ]


def test_what_is_no_list_of_layers_gives_none():
    for source in ("", "{", "null", "3", '{"Layers": 3}', '[3, {"LayerType": "x"}]', None, 7, "[" * 100_000):
        assert inspected_layers(source) == []


# Exports of trtexec --------------------------------------------------------------------------------------------------

QUERY = '{ "startEnqMs" : 0, "endEnqMs" : 1, "h2dMs" : 0.1, "computeMs" : %s, "d2hMs" : 0.1, "latencyMs" : %s }'


def test_exported_times_are_read_in_order():
    text = "[\n  " + QUERY % (1.5, 1.7) + "\n, " + QUERY % (2, 2.25) + "\n]\n"
    assert exported_times(text) == {"latency": [1.7, 2.25], "gpu": [1.5, 2.0]}


def test_what_is_no_file_of_times_has_no_times():
    for text in (
        "",
        "[",
        "{}",
        "3",
        "[1, null]",
        '[{"computeMs": true, "latencyMs": "1"}]',
        '[{"computeMs": NaN, "latencyMs": Infinity}]',
    ):
        assert exported_times(text) == {"latency": [], "gpu": []}


def test_exported_profile_gives_medians_and_means_where_there_is_none():
    new = '[\n  { "count" : 9 }\n, { "name" : "a + b", "timeMs" : 9, "averageMs" : 1, "medianMs" : 0.5 }'
    old = '\n, { "name" : "c \\ "x", "timeMs" : 4.5, "averageMs" : 0.25, "percentage" : -nan }\n]\n'
    assert exported_profile(new + old) == {"a + b": 0.5, 'c \\ "x': 0.25}
    assert exported_profile('{ "name" : "a", "timeMs" : nan, "averageMs" : nan, "medianMs" : nan }') == {}
