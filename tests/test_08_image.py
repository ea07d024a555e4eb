"""Step 08: an image is more than its layers. Its config says what to run, as whom, where and
with which environment. OCI image-spec, config.md; podman-run(1)"""

import json
import os
import pathlib
import random

import pytest
from archives import digest
from runtime import assert_one_line_error, shell
from workshop import oci

STATE = pathlib.Path("/var/lib/workshop")
LAYER = STATE / "layers/busybox"
PASSWD = """root:x:0:0:root:/root:/bin/sh
app:x:1000:50:an app:/srv:/bin/sh
1234:x:77:77:a name of digits:/srv:/bin/sh
damaged:x:many:1:x
nobody:x:65534:65534:nobody:/:/bin/false
"""
GROUP = "root:x:0:\nstaff:x:50:\naudio:x:29:other,app\nvideo:x:44:app\nbad:x:-1:app\n"
SHOW = "id -u; id -g; id -G; pwd; env | sort"


@pytest.fixture
def image(container_py):
    """Makes images of busybox with a config and with files on top of it. Afterwards they are
    gone."""
    made, blobs = [], set()

    def make(config=None, document=None, script=""):
        name = f"image-{random.randint(10**6, 10**7)}"
        layer = STATE / "layers" / f"{name}@0"
        made.extend([layer, STATE / "images" / name, STATE / "origins" / name])
        (layer / "etc").mkdir(parents=True)
        (layer / "etc/passwd").write_text(PASSWD)
        (layer / "etc/group").write_text(GROUP)
        shell(f"cd {layer}; {script or ':'}")
        (STATE / "images" / name).write_text(f"{layer}\n{LAYER}\n")
        if config is None and document is None:
            return name
        # With a comment of their own, since facts run at the same time and remove their blobs.
        document = {"comment": name, **(document or {"config": config})}
        manifest = {"comment": name, "schemaVersion": 2, "config": blob(document)}
        manifest = blob({**manifest, "layers": []})
        origin = {"reference": "a test", "digest": "", "manifest": manifest}
        (STATE / "origins").mkdir(exist_ok=True)
        (STATE / "origins" / name).write_text(json.dumps(origin))
        return name

    def blob(document):
        data = json.dumps(document).encode()
        path = STATE / "blobs" / digest(data).replace(":", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        blobs.add(path)
        path.write_bytes(data)
        return {"mediaType": oci.CONFIG, "digest": digest(data), "size": len(data)}

    yield make
    for path in [*made, *blobs]:
        shell(f"rm -rf {path}")


def run(runtime, name, *command, **options):
    """Runs a container of an image, without a command if none is given."""
    words = ["run", "--net", "none", name, *command]
    return runtime.run(*words, raw=True, **options)


def ok(runtime, name, *command, **options):
    result = run(runtime, name, *command, **options)
    assert result.status == 0, result
    return result.out


@pytest.mark.told("spec", "spec-command")
@pytest.mark.parametrize(
    ("config", "command", "runs"),
    [
        ({"Cmd": ["echo", "cmd"]}, [], "cmd"),
        pytest.param(
            {"Cmd": ["echo", "cmd"]},
            ["echo", "mine"],
            "mine",
            marks=pytest.mark.also_before,
        ),
        ({"Entrypoint": ["echo", "entry"]}, [], "entry"),
        ({"Entrypoint": ["echo", "entry"]}, ["mine"], "entry mine"),
        ({"Entrypoint": ["echo", "a"], "Cmd": ["b c"]}, [], "a b c"),
        ({"Entrypoint": ["echo", "a"], "Cmd": ["b"]}, ["c", "-d"], "a c -d"),
        pytest.param(
            {"Entrypoint": None, "Cmd": None},
            ["echo", "mine"],
            "mine",
            marks=pytest.mark.also_before,
        ),
        ({"Entrypoint": [], "Cmd": ["echo", ""]}, [], ""),
    ],
)
def test_command_is_that_of_the_image_unless_one_is_given(
    runtime, image, config, command, runs
):
    """execve(2): Entrypoint comes first, then what the user types or, if that is nothing, Cmd."""
    assert ok(runtime, image(config), *command) == f"{runs}\n"


@pytest.mark.told("spec-command", "spec-errors")
@pytest.mark.parametrize("config", [None, {}, {"Entrypoint": [], "Cmd": []}])
def test_image_without_a_command_needs_one(runtime, image, config):
    """execve(2)"""
    result = run(runtime, image(config))
    assert_one_line_error(result, "names no command")


@pytest.mark.also_before
@pytest.mark.told("spec", "spec-config")
def test_image_without_a_config_still_starts(runtime, image):
    """execve(2): an image that was made here has no origin."""
    assert ok(runtime, image(), "id", "-u") == "0\n"
    assert ok(runtime, image(document={"os": "linux"}), "id", "-u") == "0\n"
    assert ok(runtime, str(LAYER), "id", "-u") == "0\n"


@pytest.mark.told("spec", "spec-child", given=["HOME=/root"])
def test_environment_is_that_of_the_image(runtime, image):
    """environ(7): the last one of the same name counts, and PATH also finds the command."""
    config = {"Env": ["A=1", "B=x=y", "EMPTY=", "A=2", "NOTHING", "PATH=/own:/bin"]}
    name = image(
        config,
        script="mkdir own; printf '#!/bin/sh\\necho own' >own/ls; chmod 755 own/ls",
    )
    lines = ok(runtime, name, "env").splitlines()
    assert {"A=2", "B=x=y", "EMPTY=", "PATH=/own:/bin", "HOME=/root"} <= {*lines}
    assert ok(runtime, name, "ls") == "own\n"


@pytest.mark.told("spec-child")
def test_environment_of_the_image_does_not_reach_the_runtime(runtime, image, tmp_path):
    """ld.so(8) and Python read variables when a program starts."""
    names = ["LD_PRELOAD", "PYTHONPATH", "PYTHONSTARTUP", "BASH_ENV"]
    name = image({"Env": [f"{one}=/evil" for one in names]}, script="echo evil >evil")
    result = run(runtime, name, "env")
    assert {f"{one}=/evil" for one in names} <= {*result.out.splitlines()}, result
    assert result.status == 0


@pytest.mark.told("spec", "spec-child")
@pytest.mark.parametrize(
    ("directory", "where"),
    [
        ("/srv", "/srv"),
        ("/not/there", "/not/there"),
        ("relative", "/relative"),
        pytest.param("/../../..", "/", marks=pytest.mark.also_before),
        ("/link", "/srv"),
        pytest.param("", "/", marks=pytest.mark.also_before),
        pytest.param(None, "/", marks=pytest.mark.also_before),
    ],
)
def test_working_directory_is_that_of_the_image(runtime, image, directory, where):
    """chdir(2), mkdir(2): it is made if it is not there."""
    name = image({"WorkingDir": directory}, script="mkdir srv; ln -s srv link")
    assert ok(runtime, name, "pwd", "-P") == f"{where}\n"


@pytest.mark.told("spec-errors", given=["passwd"])
def test_working_directory_that_is_a_file_is_an_error_of_one_line(runtime, image):
    """chdir(2)"""
    assert_one_line_error(
        run(runtime, image({"WorkingDir": "/etc/passwd"}), "pwd"), "passwd"
    )


@pytest.mark.also_before  # the step before does not use the path at all
@pytest.mark.told("spec-child", "spec-why-answer")
@pytest.mark.parametrize("descriptor", range(3, 24))
def test_working_directory_does_not_lead_out_by_an_open_descriptor(
    runtime, image, descriptor
):
    """proc_pid_fd(5), CVE-2024-21626: a path there led to a directory of the host."""
    name = image({"WorkingDir": f"/proc/self/fd/{descriptor}"})
    layers = [path / "poison" for path in (LAYER, STATE / f"layers/{name}@0")]
    held = os.open("/usr/share", os.O_RDONLY)
    try:
        options = {"popen": {"pass_fds": [held]}}
        result = run(runtime, name, "sh", "-c", "pwd -P; ls; echo >poison", **options)
    finally:
        os.close(held)
    poisoned = [path for path in layers if path.exists()]
    for path in poisoned:
        path.unlink()  # it would stay for every later container
    assert not poisoned
    outside = {"doc", "man"}
    assert not outside & {*result.out.split()}, result
    assert result.status in (0, 1, 125, 2), result


@pytest.mark.told("spec", "spec-child")
@pytest.mark.parametrize(
    ("user", "ids"),
    [
        pytest.param("", "0 0 0", marks=pytest.mark.also_before),
        pytest.param("root", "0 0 0", marks=pytest.mark.also_before),
        pytest.param("0", "0 0 0", marks=pytest.mark.also_before),
        ("app", "1000 50 50 29 44"),
        ("1000", "1000 50 50 29 44"),
        ("app:audio", "1000 29 29"),
        ("app:7", "1000 7 7"),
        ("4711", "4711 0 0"),
        ("4711:50", "4711 50 50"),
        ("4711:staff", "4711 50 50"),
        ("1234", "77 77 77"),
        ("65535:65535", "65535 65535 65535"),
    ],
)
def test_user_is_that_of_the_image(runtime, image, user, ids):
    """passwd(5), group(5) of the image, and not of the host."""
    out = ok(runtime, image({"User": user}), "sh", "-c", "id -u; id -g; id -G")
    uid, gid, groups = out.splitlines()
    wanted = ids.split()
    assert [uid, gid] == wanted[:2] and sorted(groups.split()) == sorted({*wanted[1:]})


@pytest.mark.told("spec-child", given=["/srv", "/mine"])
def test_home_is_that_of_the_user(runtime, image):
    """passwd(5), environ(7)"""
    assert ok(runtime, image({"User": "app"}), "sh", "-c", "echo $HOME") == "/srv\n"
    config = {"User": "app", "Env": ["HOME=/mine"]}
    assert ok(runtime, image(config), "sh", "-c", "echo $HOME") == "/mine\n"


@pytest.mark.told("spec-errors")
@pytest.mark.parametrize(
    "user",
    [
        "nosuchuser",
        "damaged",
        "-1",
        "65536",
        "4294967295",
        "99999999999",
        "app:nogroup",
        "app:-1",
        "²",
    ],
)
def test_user_that_is_not_there_is_an_error_of_one_line(runtime, image, user):
    """passwd(5), group(5), setuid(2)"""
    assert_one_line_error(run(runtime, image({"User": user}), "id"))


@pytest.mark.told("spec-child", "spec-errors")
@pytest.mark.parametrize(
    "script",
    [
        "mkfifo passwd",
        "mkdir passwd",
        "ln -s /dev/zero passwd",
        "ln -s /proc/kmsg passwd",
        "ln -s passwd passwd",
        "ln -s ../../../../../../etc/passwd passwd",
        "head -c 3000000 /dev/zero >passwd",
        "printf 'a:b\\n\\377:x:1:1:::\\n' >passwd",
        ":",
    ],
)
def test_users_may_be_in_any_kind_of_file(runtime, image, script):
    """passwd(5), fifo(7): the image's file is never the host's, and never without end."""
    name = image({"User": "4711"}, script=f"cd etc; rm passwd; {script}")
    # busybox's id would read the file as well.
    words = ["grep", "^Uid:", "/proc/self/status"]
    assert ok(runtime, name, *words, timeout=20).split()[1] == "4711"
    name = image({"User": "daemon"}, script=f"cd etc; rm passwd; {script}")
    assert_one_line_error(run(runtime, name, *words, timeout=20), "no such user")


@pytest.mark.told("spec", "spec-child", given=["Permission denied"])
def test_user_of_the_image_has_no_capabilities(runtime, image):
    """capabilities(7), effect of user ID changes"""
    name = image({"User": "app"})
    out = ok(runtime, name, "grep", "-E", "Cap(Eff|Prm|Amb)", "/proc/self/status")
    assert {line.split()[1] for line in out.splitlines()} == {"0" * 16}
    result = run(runtime, name, "touch", "/etc/passwd")
    assert result.status == 1 and "Permission denied" in result.err
