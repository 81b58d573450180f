"""One file a step: `(bench, tick) -> the files it wrote`. The order is in `edgeprune.pipeline`."""
