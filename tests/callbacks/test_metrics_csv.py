import csv

from callbacks.metrics_csv import MetricsCSV


def rows(path) -> list[dict]:
    with open(path) as file:
        return list(csv.DictReader(file))


def test_rows_are_appended_and_new_columns_keep_the_old_rows(tmp_path):
    log = MetricsCSV(tmp_path)
    log.log_metrics({"train/loss": 0.5, "epoch": 0}, step=0)
    log.log_metrics({"train/loss": 0.25, "epoch": 0}, step=1)
    log.log_metrics({"val/loss": 0.4, "epoch": 0}, step=1)
    found = rows(log.path)
    assert [r["train/loss"] for r in found] == ["0.5", "0.25", ""] and [r["val/loss"] for r in found] == ["", "", "0.4"]


def test_a_continued_run_states_every_step_once(tmp_path):
    first = MetricsCSV(tmp_path)
    for step in range(6):
        first.log_metrics({"train/loss": float(step)}, step=step)
    with open(first.path, "a") as file:
        file.write("6,")  # a line that a kill has torn
    second = MetricsCSV(tmp_path)
    second.resume_at(4)
    second.log_metrics({"train/loss": 40.0}, step=4)
    assert [(r["step"], r["train/loss"]) for r in rows(first.path)] == [
        ("0", "0"),
        ("1", "1"),
        ("2", "2"),
        ("3", "3"),
        ("4", "40"),
    ]
