"""Developer tools: cluster, releases, benchmarks, generated files and linters. Never imported by app or training."""
