"""`workshop` with standard streams that are closed, full, or in an encoding without the guide's
characters: at most one line of error, and the documented status."""

import os
import subprocess
import sys

import pytest
from runtime import PROJECT

from workshop import output
from workshop.subcommands import SUBCOMMANDS

# What each subcommand prints most of, if it needs no root; of the others, the help.
WORDS = {"progress": "", "diff": "diff 3"}
PATH = f"{PROJECT}:{PROJECT / 'steps'}"
FULL = "workshop: the output cannot be written: No space left on device\n"


@pytest.fixture
def guide(tmp_path):
    """Runs `workshop WORDS` with redirections of a shell. Returns its CompletedProcess."""

    def run(words, redirection="", **environment):
        # Descriptor 3 is a pipe that no one reads any more.
        command = f"'{sys.executable}' -P -m workshop {words} {redirection}"
        script = f"exec 3> >(true); wait $!; {command}"
        variables = {"PYTHONPATH": PATH, "WORKSHOP_MY": str(tmp_path / "my")}
        variables |= {"COLUMNS": "80", "PYTHONUNBUFFERED": ""}
        return subprocess.run(
            ["bash", "-c", script],
            env=os.environ | variables | environment,
            capture_output=True,
            timeout=60,
            check=False,
        )

    return run


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_full_output_in_a_small_encoding_is_an_error_of_one_line(guide, name):
    words = WORDS.get(name, f"{name} --help")
    done = guide(words, ">/dev/full", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr.decode()) == (1, FULL)


@pytest.mark.parametrize(
    ("words", "redirection", "status", "lines"),
    [
        ("--version", ">/dev/full", 1, 1),
        ("--help", ">/dev/full", 1, 1),
        ("diff 3", ">&3", 1, 0),
        ("--help", ">&3", 1, 0),
        ("diff 3", ">&-", 0, 0),
        ("diff 3", "<&-", 0, 0),
        ("diff 3", "2>&-", 0, 0),
        ("diff 3", "2>/dev/full", 0, 0),
        ("nonsense", ">/dev/full", 2, 1),
        ("nonsense", "2>/dev/full", 2, 0),
        ("nonsense", "2>&-", 2, 0),
        ("check 99", "2>/dev/full", 2, 0),
        ("hint 1", "2>/dev/full >/dev/full", 1, 0),
        ("watch", "</dev/null >/dev/full", 1, 1),
        ("check 1", "", 1, 1),  # there is no runtime
        ("check 1", "2>/dev/full", 1, 0),
        ("check 1", ">&- 2>&-", 1, 0),
    ],
)
def test_stream_that_is_full_or_closed_does_not_change_the_status(
    guide, words, redirection, status, lines
):
    done = guide(words, redirection)
    assert done.returncode == status, done
    assert len(done.stderr.splitlines()) == lines and b"Traceback" not in done.stderr


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8", "cp437"])
def test_every_encoding_gets_what_it_can_show(guide, encoding):
    done = guide("", PYTHONIOENCODING=encoding)
    assert done.returncode == 0 and not done.stderr, done
    text = done.stdout.decode(encoding)
    assert "00_run" in text and "?" not in text


def test_file_does_not_get_the_number_of_a_closed_stream(tmp_path):
    script = f"""if True:
        import subprocess
        from workshop import output
        output.prepare()
        file = open("{tmp_path}/ours", "w")
        print("lost")
        file.write(str(file.fileno()))
        file.close()
        child = "exec 3>{tmp_path}/child; echo lost; echo 3 >&3"
        subprocess.run(["sh", "-c", child], check=True)
    """
    command = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, "-c", script]
    subprocess.run(command, env=os.environ | {"PYTHONPATH": PATH}, check=True)
    assert int((tmp_path / "ours").read_text()) > 2
    assert (tmp_path / "child").read_text() == "3\n"


def test_marks_stay_different_in_every_encoding():
    assert output.LOOKALIKES["✓"] != output.LOOKALIKES["✗"]
    assert all(text.isascii() for text in output.LOOKALIKES.values())
