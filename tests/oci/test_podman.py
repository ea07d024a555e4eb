"""Step 11 as podman's runtime: each function of podman.sh, by judge.py."""

import shutil
import subprocess
import sys

import pytest
from runtime import PROJECT

pytestmark = pytest.mark.skipif(not shutil.which("podman"), reason="this needs podman")


def test_podman_does_with_step_11_what_its_users_do():
    """runtime-spec, runtime.md: podman's run, exec, stop and others have the right results."""
    words = [sys.executable, str(PROJECT / "tests/oci/judge.py"), "podman"]
    words += [str(PROJECT / "steps/11_oci/container.py"), "--patience", "3"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=2700)
    assert done.returncode == 0, done.stdout + done.stderr
    assert ", 0 not ok" in done.stdout and not done.stdout.startswith("0 ok")
