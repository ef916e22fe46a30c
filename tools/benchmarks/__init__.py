"""The benchmarks behind tools/bench: each compares the same work done by cptbpf and by others, in one run."""
