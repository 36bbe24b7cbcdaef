"""The benchmark of large evaluations measures what it says, at a tiny size."""

from benchmarks.large_evaluation import one


def test_it_measures_time_memory_and_the_report():
    found = one(6)
    assert 0 < found["report"] < found["seconds"] < 600
    assert 50 < found["mb"] < 100_000 and 10_000 < found["bytes"] < 5e6
