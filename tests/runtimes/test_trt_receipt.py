"""The receipt says yes or no where there is evidence and none against it, and unknown everywhere else."""

import json

import pytest
from captured_prints import CAPTURED, captured
from hypothesis import given
from hypothesis import strategies as st

from runtimes.trt_inspector import InspectedLayer, inspected_layers
from runtimes.trt_logs import Sparsity, sparsity
from runtimes.trt_receipt import is_sparse_tactic, receipt

SILENT = Sparsity(None, None, None, None)
SPARSE = "sm80_xmma_fprop_sparse_conv_interleaved_f16f16_f16_f16_nhwckrsc_nhwc_tilesize128x128x64_sptensor16x8x32"
DENSE = "sm80_xmma_fprop_implicit_gemm_f16f16_f16_f16_nhwckrsc_nhwc_tilesize128x32x64_stage1_tensor16x8x16"
CONV = InspectedLayer("conv1 + relu1", "CaskConvolution", DENSE, True)
SPARSE_CONV = InspectedLayer("conv2", "CaskConvolution", SPARSE, True)
UNNAMED_CONV = InspectedLayer("conv3", "CaskConvolution", None, True)
SHUFFLE = InspectedLayer("shuffle", "NoOp", None, None)
ONLY_A_NAME = InspectedLayer("conv4", None, None, None)


def verdict(told, layers=()):
    found = receipt(told, layers, {})
    return found["verdict"], found["reason"]


# Each branch ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "layers", "expected", "says"),
    [
        (Sparsity(3, 2, ["a", "b", "c"], ["b", "c"]), [], "yes", "for 2 of 3 eligible layers (b, c)."),
        (Sparsity(39, 1, None, None), [], "yes", "for 1 of 39 eligible layers."),
        (Sparsity(None, 7, None, None), [], "yes", "sparse kernels for 7 layers."),
        (Sparsity(None, None, ["a", "b"], ["b"]), [], "yes", "for 1 of 2 eligible layers (b)."),
        (Sparsity(None, None, None, []), [], "no", "for no layer."),
        (Sparsity(39, 5, None, None), [CONV, UNNAMED_CONV], "yes", "for 5 of 39 eligible layers."),
        (Sparsity(39, 5, None, None), [CONV, SPARSE_CONV], "yes", "for 5 of 39 eligible layers."),
        (SILENT, [CONV, SPARSE_CONV], "yes", "runs sparse kernels in conv2."),
        (SILENT, [ONLY_A_NAME, SPARSE_CONV], "yes", "conv2"),
        (Sparsity(39, None, None, None), [SPARSE_CONV], "yes", "conv2"),
        (Sparsity(None, 1, None, None), [], "yes", "for 1 layer."),
        (Sparsity(None, 2, None, None), [], "yes", "for 2 layers."),
        (Sparsity(39, 0, None, []), [], "no", "for none of 39 eligible layers."),
        (Sparsity(0, 0, [], []), [], "no", "for none of 0 eligible layers."),
        (Sparsity(39, 0, None, []), [CONV, UNNAMED_CONV], "no", "for none of 39 eligible layers."),
        (SILENT, [CONV, SHUFFLE], "no", "none is sparse"),
        (Sparsity(39, None, None, None), [CONV], "no", "none is sparse"),
        (SILENT, [], "unknown", "The log says nothing of chosen layers"),
        (SILENT, [SHUFFLE], "unknown", "does not name its kernels"),
        (SILENT, [CONV, UNNAMED_CONV], "unknown", "weights marked as sparse (2) are no proof"),
        (SILENT, [CONV, ONLY_A_NAME], "unknown", "does not name its kernels"),
        (Sparsity(2, None, ["a", "b"], None), [], "unknown", "2 layers are eligible, but"),
        (Sparsity(1, None, ["a"], None), [], "unknown", "1 layer is eligible, but"),
        (Sparsity(0, None, [], None), [], "unknown", "0 layers are eligible, but"),
        (Sparsity(39, 0, None, None), [SPARSE_CONV], "unknown", "but the engine runs a sparse kernel in conv2"),
        (Sparsity(39, 5, None, None), [CONV], "unknown", "for 5 of 39 eligible layers, but the engine names none."),
        (Sparsity(3, 5, None, None), [], "unknown", "5 layers were chosen of 3 eligible"),
        (Sparsity(9, 2, None, ["a"]), [], "unknown", "counts 2 chosen layers and names 1"),
    ],
)
def test_the_verdict_and_its_reason(told, layers, expected, says):
    found, reason = verdict(told, layers)
    assert found == expected, reason
    assert says in reason


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sparsity-trt8.0-docs.log", "yes"),
        ("sparsity-trt8-empty-lists.log", "no"),
        ("sparsity-trt8-matmul-list-abridged.log", "unknown"),
        ("sparsity-trt10-orin-nano-none-chosen.log", "no"),
        ("sparsity-trt10-template.log", "unknown"),
        ("layer-text-trt10.4-HasSparseWeights.log", "no"),
        ("engine-inspector-HasSparseWeights.json", "no"),
        ("perf-trt10.7-cudagraph.log", "unknown"),
    ],
)
def test_captured_prints_have_the_verdict_a_person_gives_them(name, expected):
    text = captured(name)
    assert verdict(sparsity(text), inspected_layers(text))[0] == expected


def test_only_the_print_that_names_chosen_layers_gets_a_yes():
    texts = {path.name: path.read_text() for path in CAPTURED.glob("*.log")}
    yes = [name for name, text in texts.items() if verdict(sparsity(text), inspected_layers(text))[0] == "yes"]
    assert yes == ["sparsity-trt8.0-docs.log"]


# What is no proof ----------------------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from([True, False, None]), min_size=1, max_size=5), st.booleans())
def test_marked_weights_alone_never_decide(marks, named):
    layers = [InspectedLayer(f"conv{k}", "CaskConvolution", DENSE if named else None, m) for k, m in enumerate(marks)]
    assert verdict(SILENT, layers)[0] == ("no" if named else "unknown")


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("CaskConvolution", "unknown"),
        ("gemm", "unknown"),
        ("MatrixMultiply", "unknown"),
        ("FullyConnected", "unknown"),
        ("CaskGemmMatrixMultiply", "unknown"),
        ("matmul", "unknown"),
        ("Myelin", "unknown"),
        ("PluginV2", "unknown"),
        ("kgen", "unknown"),
        ("Einsum", "unknown"),
        ("SomethingNew", "unknown"),
        ("Reformat", "no"),
        ("MyelinReformat", "no"),
        ("NoOp", "no"),
        ("PoolingV2", "no"),
        ("PointWise", "no"),
        ("PointWiseV2", "no"),
        ("CaskPooling", "no"),
        ("SoftMaxV2", "no"),
        ("ElementWise", "no"),
    ],
)
def test_a_layer_that_may_compute_without_telling_how_forbids_a_no(kind, expected):
    assert verdict(SILENT, [CONV, InspectedLayer("other", kind, None, None)])[0] == expected


@pytest.mark.parametrize(
    ("name", "kind", "tactic", "expected"),
    [
        ("{ForeignNode[a...b]}", "Myelin", "__myl_fused_0x1", "unknown"),
        ("{ForeignNode[a...b]}", "CaskConvolution", "run_everything", "unknown"),
        ("block", "kgen", "__myl_MulAdd_0x2", "unknown"),
        ("mine", "PluginV3", "layer_norm", "unknown"),
        ("new", "SomethingNew", "secret", "unknown"),
        ("new", None, "secret", "unknown"),
        ("block", "Myelin", "sm80_xmma_fprop_x", "no"),
        ("block", "kgen", "cutlass_tensorop_x", "no"),
        ("new", "SomethingNew", "ampere_h16816gemm_x", "no"),
        ("conv", "CaskConvolution", "0xdeadbeef", "no"),
    ],
)
def test_an_opaque_layer_has_to_name_a_kernel_that_multiplies(name, kind, tactic, expected):
    assert verdict(SILENT, [CONV, InspectedLayer(name, kind, tactic, None)])[0] == expected


@pytest.mark.parametrize(
    ("tactic", "expected"),
    [
        (SPARSE, True),
        ("sm87_xmma_SPARSE_gemm", True),
        ("sm80_sptensor16x8x64", True),
        (DENSE, False),
        ("", False),
        (None, False),
    ],
)
def test_sparse_kernels_are_known_by_their_name(tactic, expected):
    assert is_sparse_tactic(tactic) is expected


# The document --------------------------------------------------------------------------------------------------------


def test_the_receipt_carries_counts_names_kernels_and_times():
    found = receipt(
        Sparsity(2, 1, ["conv1 + relu1", "conv2"], ["conv2"]), [SHUFFLE, CONV, SPARSE_CONV], {"conv2": 0.25, "x": 9.0}
    )
    assert {key: found[key] for key in ("eligible", "chosen", "eligible_layers", "chosen_layers", "verdict")} == {
        "eligible": 2,
        "chosen": 1,
        "eligible_layers": ["conv1 + relu1", "conv2"],
        "chosen_layers": ["conv2"],
        "verdict": "yes",
    }
    assert found["tactics"] == [
        {"layer": "conv1 + relu1", "tactic": DENSE, "sparse": False, "ms": None},
        {"layer": "conv2", "tactic": SPARSE, "sparse": True, "ms": 0.25},
    ]
    assert set(found) == {"eligible", "chosen", "eligible_layers", "chosen_layers", "tactics", "verdict", "reason"}


def test_many_names_are_cut_short_in_the_sentence_only():
    names = [f"layer{k}" for k in range(9)]
    found = receipt(Sparsity(9, 9, names, names), [], {})
    assert "layer0, layer1, layer2, and 6 more" in found["reason"]
    assert found["chosen_layers"] == names
    assert receipt(Sparsity(3, 3, None, names[:3]), [], {})["reason"].endswith("(layer0, layer1, layer2).")


def test_marked_weights_are_spoken_of_only_where_there_are_any():
    assert "marked" in verdict(SILENT, [UNNAMED_CONV])[1]
    assert "marked" not in verdict(SILENT, [ONLY_A_NAME])[1]


def test_the_sentence_is_one_line_whatever_layers_are_called():
    odd = SPARSE_CONV._replace(name="a\n  b")
    assert verdict(SILENT, [odd])[1] == "The engine runs sparse kernels in a b."


layers = st.lists(
    st.builds(
        InspectedLayer,
        st.text(max_size=5),
        st.sampled_from([None, "CaskConvolution", "gemm", "NoOp", "Myelin"]),
        st.sampled_from([None, SPARSE, DENSE]),
        st.sampled_from([None, True, False]),
    ),
    max_size=6,
)
counts = st.none() | st.integers(0, 4)


@given(counts, counts, layers)
def test_no_verdict_goes_against_any_evidence(eligible, chosen, layers):
    found = receipt(Sparsity(eligible, chosen, None, None), layers, {})
    sparse = any(entry["sparse"] for entry in found["tactics"])
    assert json.dumps(found)
    assert found["reason"].endswith(".")
    assert "\n" not in found["reason"]
    if found["verdict"] == "yes":
        assert sparse or chosen
        assert chosen != 0
    elif found["verdict"] == "no":
        assert not sparse
        assert not chosen
        assert chosen == 0 or any(layer.tactic for layer in layers)
    else:
        assert found["verdict"] == "unknown"
        assert not (chosen == 0 and not layers)
