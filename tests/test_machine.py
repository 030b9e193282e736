"""Cores and memory, with the limits of a container."""

import os

import pytest

from taskgroup import machine


def test_cores_and_memory_are_those_of_the_machine():
    assert 1 <= machine.available_cores() <= os.cpu_count()
    assert 0 < machine.resident_memory() < machine.free_memory() * 100


def test_a_containers_limit_counts(monkeypatch: pytest.MonkeyPatch, tmp_path):
    limit, usage = tmp_path / "memory.max", tmp_path / "memory.current"
    monkeypatch.setattr(machine, "_CGROUP_LIMITS", (str(limit),))
    monkeypatch.setattr(machine, "_CGROUP_USAGES", (str(usage),))
    limit.write_text("3000000\n")
    usage.write_text("1000000\n")
    assert machine.free_memory() == 2_000_000
    limit.write_text("max\n")
    assert machine.free_memory() > 2_000_000
