"""Tab completion, as the README says."""

from __future__ import annotations

import subprocess

COMPLETE = """
source "$0"
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
$(complete -p handi | sed "s/.*-F \\([^ ]*\\).*/\\1/") handi "${@: -1}"
echo "${COMPREPLY[@]}"
"""


def test_bash_completes_commands_options_and_values(handi, tmp_path):
    code, script, err = handi("--tyro-print-completion", "bash")
    assert code == 0, err
    (tmp_path / "handi").write_text(script)

    def completed(*words: str) -> str:
        command = ["bash", "--norc", "-c", COMPLETE, str(tmp_path / "handi"), "handi", *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    assert completed("ge") == "generate"
    assert completed("generate", "--area-s") == "--area-steps"
    assert completed("evaluate", "--scope", "area") == "area-mask area-crop"


def test_zsh_gets_a_function_for_its_fpath(handi):
    code, script, err = handi("--tyro-print-completion", "zsh")
    assert code == 0, err
    assert script.startswith("#compdef handi")
    assert "--area-steps" in script
