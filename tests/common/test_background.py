"""Copies in memory, and files that a thread writes."""

import io
import multiprocessing
import os
import signal
import threading
from pathlib import Path

import pytest
import torch

from common.background import BackgroundWriter, bytes_of, copied_to_host
from common.files import remove_parts, write_atomically


def saved(content: object) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def test_a_copy_is_the_same_file_and_nothing_of_the_first():
    base = torch.arange(12.0)
    content = {
        "a": base,
        "view": base.view(3, 4)[1:, ::2],
        "lists": [base[:2], (torch.empty(0), 3, "text", None)],
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "half": torch.ones(2, 3, dtype=torch.bfloat16).to(memory_format=torch.contiguous_format),
    }
    assert bytes_of(content) == 12 * 4 + 2 * 4 + 6 * 2
    before, copy = saved(content), copied_to_host(content)
    assert saved(copy) == before
    with torch.no_grad():
        base.zero_()
        content["parameter"].zero_()
    assert saved(copy) == before != saved(content)


def test_one_file_after_the_other_and_errors_where_somebody_asks():
    writer, go, order = BackgroundWriter(), threading.Event(), []
    writer.begin(lambda: (go.wait(100), order.append(1)))
    writer.check()
    assert order == []
    go.set()
    writer.begin(lambda: order.append(2))  # after the first
    writer.wait()
    assert order == [1, 2]

    def fails() -> None:
        raise OSError("the disk")

    writer.begin(fails)
    with pytest.raises(OSError, match="the disk"):
        writer.begin(lambda: order.append(3))
    writer.wait()  # told once
    assert order == [1, 2]


def _killed(path: Path) -> None:
    def half(file) -> None:
        file.write(b"new"[:1])
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)

    writer = BackgroundWriter()
    writer.begin(lambda: write_atomically(path, b"old"))
    writer.begin(lambda: write_atomically(path, half))
    writer.wait()


def test_a_process_that_is_killed_while_it_writes_leaves_the_file_of_before(tmp_path):
    path = tmp_path / "last.ckpt"
    process = multiprocessing.get_context("fork").Process(target=_killed, args=(path,))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert path.read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 2
    remove_parts(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]
