"""Tab completion, as the README says."""

from __future__ import annotations


def test_completions_know_commands_and_options(handi):
    code, out, _ = handi("--tyro-print-completion", "bash")
    assert code == 0
    assert "generate" in out
    assert "--area-steps" in out
