"""The parts of `bench_search.py`: tables, metrics, methods (ours and rivals), runs, and what they showed."""
