"""docs/tests.md says which fact runs where, as the suite's markers do."""

import pathlib
import subprocess
import sys

PROJECT = pathlib.Path(__file__).resolve().parents[2]


def test_page_is_made_from_the_suite():
    """`tests/where.py --write` writes it."""
    command = [sys.executable, "-B", PROJECT / "tests/where.py"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr + done.stdout
    assert done.stdout == (PROJECT / "docs/tests.md").read_text()


def test_fact_that_ci_leaves_to_the_rehearsal_is_there_with_the_same_cut():
    sys.path.append(str(PROJECT / "tests"))
    from ci import CUT, REHEARSED

    assert REHEARSED.endswith(f"tests/guide/test_demo.py::{CUT}[20]")
    rehearsal = (PROJECT / "tests/lab/test_rehearse.py").read_text()
    assert 'CUT = "20"\n' in rehearsal and f"def {CUT}(lab" in rehearsal


def test_web_site_takes_lessons_from_a_part_that_ends_before_it_begins():
    sys.path.append(str(PROJECT / "tests"))
    from ci import KEEP, PHASES, SITE

    assert KEEP.partition("=")[2] == SITE.partition(" ")[2]
    chains = [chain for phase in PHASES for chain in phase]
    (chain,) = [c for c in chains if any(part.name == "site" for part in c)]
    kept = [part for part in chain if any(KEEP in words for words in part.commands)]
    (site,) = [part for part in chain if part.name == "site"]
    assert kept and chain.index(kept[-1]) < chain.index(site) and not site.beside
    assert all({*SITE.split()} <= {*words} for words in site.commands)


def test_lessons_in_the_tab_come_long_after_its_machine_is_built():
    """With two workers, a chain begins after all but one of those before it have ended."""
    sys.path.append(str(PROJECT / "tests"))
    from ci import PHASES

    names = [{part.name for part in chain} for chain in PHASES[0]]
    (tab,) = [i for i, chain in enumerate(names) if "tab" in chain]
    (lessons,) = [i for i, chain in enumerate(names) if "tab lessons" in chain]
    assert tab + 2 < lessons


def test_facts_that_ci_leaves_to_the_web_site_are_those_that_its_lessons_check():
    """The other facts of that file need no VM, so the native parts of CI run them."""
    sys.path.append(str(PROJECT / "tests"))
    from ci import LESSONS

    from host import lessons

    assert LESSONS.split() == ["--ignore", lessons.TEST]
    names = lessons.chosen(PROJECT / "notebooks", [])
    words = ["--collect-only", "-q", "-p", "no:cacheprovider", "--where", "vm"]
    command = [sys.executable, "-B", "-m", "pytest", *words, lessons.TEST]
    done = subprocess.run(
        command, cwd=PROJECT, capture_output=True, text=True, timeout=120
    )
    left = [line for line in done.stdout.splitlines() if "::" in line]
    assert left, done.stdout + done.stderr
    test = "test_lesson_runs_and_its_cells_print_what_they_promise"
    assert {*left} <= {f"{lessons.TEST}::{test}[{name}]" for name in names}


def test_facts_that_need_no_vm_run_only_once():
    """Even if the command line names their directory, as `./lab test --all` does."""
    words = ["--collect-only", "-q", "-p", "no:cacheprovider", "--where", "native"]
    command = [sys.executable, "-B", "-m", "pytest", *words, "tests/unit"]
    done = subprocess.run(
        command, cwd=PROJECT, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.startswith("\nno tests collected in"), done.stdout + done.stderr
