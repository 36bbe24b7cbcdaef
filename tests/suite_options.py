"""What make check and make test ask of pytest: fewer cases of each test, and who is slow without saying so."""

import resource
from collections import defaultdict
from collections.abc import Generator
from typing import Any

import pytest

SLOW_SECONDS = 5.0  # of CPU, of the processes that it starts too: a busy machine does not make a test slow


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--cases",
        type=int,
        metavar="N",
        help="of each parametrised test only N cases, evenly spread over all of them (default: all)",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    count = config.getoption("--cases")
    if count is None:
        return
    tests: dict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        tests[item.nodeid.partition("[")[0]].append(item)
    chosen = {id(item) for cases in tests.values() for item in spread(cases, count)}
    config.hook.pytest_deselected(items=[item for item in items if id(item) not in chosen])
    items[:] = [item for item in items if id(item) in chosen]


def spread(cases: list[Any], count: int) -> list[Any]:
    """`count` of the cases, evenly spread, the first and the last among them; all where there are no more."""
    if len(cases) <= count:
        return cases
    if count == 1:
        return cases[:1]
    return [cases[round(k * (len(cases) - 1) / (count - 1))] for k in range(count)]


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    began = _cpu_seconds()
    yield
    seconds = _cpu_seconds() - began
    if seconds > SLOW_SECONDS and item.get_closest_marker("slow") is None:
        item.user_properties.append(("unmarked_slow", round(seconds, 1)))


def _cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    reports = [r for kind in ("passed", "failed") for r in terminalreporter.getreports(kind)]
    found = {r.nodeid: dict(r.user_properties).get("unmarked_slow") for r in reports}
    slow = {name: seconds for name, seconds in found.items() if seconds is not None}
    if slow:
        terminalreporter.section(f"more than {SLOW_SECONDS:g} s of CPU and not marked slow")
        for name, seconds in sorted(slow.items(), key=lambda entry: -entry[1]):
            terminalreporter.line(f"{seconds:6.1f} s  {name}")
