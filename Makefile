# What a person types; `.ci/run` does the same on a bare machine without make.

.PHONY: check test bench docs wheel

check:
	uv run ruff check
	uv run ruff format --check
	uv run mypy
	uv run python docs/generate.py --check
	uv run pytest

test:
	uv run pytest

bench:
	@set -e; for bench in tests/benchmarks/bench_*.py; do echo "$$bench"; uv run python "$$bench"; done
	@echo "runtimes side by side: uv run edgeprune bench resnet18-cifar --sparsity 0.98 (docs/benchmarks.md)"

docs:
	uv run python docs/generate.py

wheel:
	uv build --wheel
