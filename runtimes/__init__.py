"""What reaches a device: files become an engine, an engine gives answers and timings.

Runs on the device's own Python (3.8 or newer) with numpy and one runtime. Nothing here imports anything else.
"""

RUNTIMES = {
    "null": "runtimes.null",  # answers nothing: what it measures is the harness
    "ort": "runtimes.ort",  # ONNX Runtime, CPU
    "sparse_cpu": "runtimes.sparse_cpu",  # our own: skips the zeros of unstructured pruning on a CPU
    "openvino": "runtimes.openvino",  # OpenVINO, CPU: a peer to compare with
    "deepsparse": "runtimes.deepsparse",  # DeepSparse, CPU: likewise, from an environment of its own
    "trt": "runtimes.trt",  # TensorRT: engines are built on the device that runs them
}
