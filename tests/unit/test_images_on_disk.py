"""`workshop image` and `workshop commit`, with images and layers that the tests make: which
file hides which, and which arguments are refused. tests/guide/test_images.py compares the
output with what containers see."""

import os
import pathlib
import re
import stat
import subprocess

import pytest
from people import one_line

from workshop import cgroups, cleanup, commits, containers, garbage, oci, sandbox
from workshop.errors import Failure
from workshop.images import MOST, check_layers
from workshop.layers import Layer, entries


def whiteout(path):
    os.mknod(path, stat.S_IFCHR, 0)  # an ordinary user may make this one: mknod(2)


def make(folder, *files):
    """Makes empty files and their directories. A name that ends in / is a directory."""
    for name in files:
        path = pathlib.Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(exist_ok=True) if name.endswith("/") else path.touch()


@pytest.fixture
def stack(store):
    """The name of an image with everything that a layer can do to the layers below it."""
    top, middle, bottom, base = (
        store / "layers" / name for name in ("top", "middle", "bottom", "busybox")
    )
    make(base, "bin/sh", "etc/passwd")
    (base / "bin/sh").write_bytes(
        bytes(65536)
    )  # in a tmpfs, only contents take up space
    (store / "images/busybox").write_text(f"{base}\n")
    make(bottom, "opaque/deep/1", "opaque/2", "merged/3", "merged/4", "replaced/5")
    make(bottom, "away/6", "gone", "file", "twice", "over/7")
    (bottom / "link").symlink_to("merged")
    make(middle, "opaque/8", "merged/4", "merged/9", "replaced", "twice", "over")
    whiteout(middle / "away")
    os.setxattr(middle / "opaque", "user.overlay.opaque", b"y")
    make(top, "merged/", "file/10", "twice", "over/11")
    whiteout(top / "gone")
    whiteout(top / "merged/3")
    (store / "images/stack").write_text(f"{top}\n{middle}\n{bottom}\n{base}\n")
    return "stack"


def row(done, word):
    """Returns the cells of a table's line that has this word in its first cell."""
    for line in done.stdout.splitlines():
        cells = [cell.strip() for cell in re.split("[│┃]", line)[1:-1]]
        if cells and cells[0] == word:
            return cells
    raise AssertionError(f"no row {word} in {done.stdout}")


def stored(store):
    return sorted(str(path) for path in store.rglob("*"))


def test_list_names_a_broken_image(learner, stack, store):
    (store / "images/wrong").write_text(f"{store}/layers/missing\n")
    done = learner.type("image ls")
    assert done.returncode == 1 and "wrong is broken" in done.stdout, done
    assert row(done, "busybox")


def test_list_has_every_image_and_what_it_shares(learner, stack, store):
    make(store / "layers/alone", "x")
    (store / "images/alone").write_text(f"{store}/layers/alone\n")
    done = learner.type("image ls")
    assert done.returncode == 0, done
    assert row(done, "stack")[1] == "top middle bottom busybox"
    assert row(done, "stack")[3] == row(done, "busybox")[2] == row(done, "busybox")[3]
    assert row(done, "alone")[3] == "-"
    (store / "images/.half").write_text("")
    assert ".half" not in learner.type("image ls").stdout


def test_path_is_shown_with_its_layer_and_what_hides_it(learner, stack):
    done = learner.type("image layers stack /twice gone")
    assert done.stdout.splitlines() == [
        "/gone  top  whiteout: the file is gone",
        "/gone  bottom  hidden by top",
        "/twice  top",
        "/twice  middle  hidden by top",
        "/twice  bottom  hidden by top",
    ]
    lines = learner.type("image layers stack /opaque").stdout.splitlines()
    assert [line.split()[0] for line in lines if "hidden" not in line] == ["/opaque/8"]
    done = learner.type("image layers stack /missing")
    assert one_line(done, "no layer has /missing") and not done.stdout, done


def test_counts_say_what_a_layer_hides(learner, stack):
    done = learner.type("image layers stack")
    # files, seen, hides, whiteouts
    assert row(done, "top")[2:] == ["3", "3", "6", "2"], done
    assert row(done, "middle")[2:] == ["6", "4", "6", "1"], done


def test_files_that_are_not_hidden_are_those_that_overlayfs_shows(learner, stack):
    lines = learner.type("image layers stack --files").stdout.splitlines()
    seen = {
        x.split("  ")[0] for x in lines if "hidden" not in x and "whiteout" not in x
    }
    assert seen == {
        *("/bin/sh", "/etc/passwd", "/opaque/8", "/merged/4", "/merged/9", "/replaced"),
        *("/file/10", "/twice", "/over/11", "/link"),
    }


@pytest.mark.parametrize("word", ["missing", "../images/app", "/etc/passwd", "", "."])
def test_unknown_image_is_an_error_of_one_line(learner, store, word):
    done = learner.type(["image", "layers", word])
    assert one_line(done, "^workshop") and not done.stdout, done


@pytest.mark.parametrize(
    "words", [["image"], ["image", "rm"], ["commit", "1"], ["clean", "--all"]]
)
def test_wrong_arguments_are_an_error_of_one_line_with_status_2(learner, store, words):
    done = learner.type(words)
    assert one_line(done, "^workshop", status=2) and not done.stdout, done


@pytest.mark.parametrize("word", ["1", "0", "999999999", "abc", "1.5", "self", "²"])
def test_unknown_container_is_an_error_of_one_line_and_makes_nothing(
    learner, store, word
):
    before = stored(store)
    done = learner.type(["commit", word, "name"])
    assert one_line(done, re.escape(repr(word)[1:-1])) and not done.stdout, done
    assert stored(store) == before


@pytest.mark.parametrize(
    "word",
    ["../evil", "/tmp/evil", "a/b", ".hidden", "..", "", "-x", "a b", "x\n", "ä"],
)
def test_bad_name_is_an_error_of_one_line_and_makes_nothing(learner, store, word):
    before = stored(store)
    done = learner.type(["commit", "1", "--", word])
    assert one_line(done, "name") and not done.stdout, done
    assert stored(store) == before


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("{base}\n\n", "line 2 is blank: type `sed -i '2d' .*/images/odd`"),
        ("\n{base}\n", "line 1 is blank"),
        ("{base}\n \t\n", "line 2 is blank"),
        ("", "lists no layer"),
        ("{base} \n", "line 1 ends with a blank: type `sed -i "),
        ("{base}\t\n", "line 1 ends with a blank"),
        ("{base}\r\n", r"line 1 ends with a carriage return \(CRLF\): type `sed -i "),
        ("layers/base\n", "line 1 is 'layers/base', which is not an absolute path"),
        (" {base}\n", "line 1 is ' /.*', which is not an absolute path"),
        ("{base}\n{base}\n", "layer .*/base is listed twice"),
        ("{base}\n{base}/\n", "layer .*/base is listed twice"),
        ("{link}\n{base}\n", "layer .*/base is listed twice"),
        ("{base}\n{base}/dir\n", "layer .*/base/dir is inside layer .*/base"),
        ("{base}/dir\n{base}\n", "layer .*/base/dir is inside layer .*/base"),
    ],
)
def test_odd_list_of_layers_is_explained_in_one_line(learner, store, lines, message):
    base, link = store / "layers/base", store / "layers/link"
    make(base, "dir/file")
    link.symlink_to(base)
    text = lines.format(base=base, link=link)
    (store / "images/odd").write_bytes(text.encode())
    (store / "images/whole").write_text(f"{base}\n")
    done = learner.type("image layers odd")
    assert one_line(done, message) and not done.stdout, done
    done = learner.type("image ls")
    assert done.returncode == 1 and re.search(
        f"odd is broken: .*{message}", done.stdout
    )
    assert row(done, "whole")[1] == "base"


def test_command_that_a_message_names_repairs_the_list(learner, store):
    base = store / "layers/base"
    make(base, "file")
    (store / "images/odd").write_bytes(f"\n{base} \t\r\n\n".encode())
    for _ in range(3):
        message = learner.type("image layers odd").stderr
        subprocess.run(re.search("`(.*)`", message)[1], shell=True, check=True)
    assert learner.type("image layers odd").returncode == 0
    assert (store / "images/odd").read_text() == f"{base}\n"


def test_directory_among_the_lists_does_not_hide_the_other_images(
    learner, stack, store
):
    (store / "images/folder").mkdir()
    done = learner.type("image ls")
    assert done.returncode == 1 and "folder is broken" in done.stdout, done
    assert row(done, "busybox")
    assert list(garbage.remove_unlisted()) == []


def test_image_with_more_layers_than_step_07_can_stack_is_broken(learner, store):
    names = [f"layers/{number}" for number in range(MOST + 1)]
    for name in names:
        make(store / name, "file")
    lines = [f"{store / name}\n" for name in names]
    (store / "images/most").write_text("".join(lines[1:]))
    assert learner.type("image layers most").returncode == 0
    (store / "images/more").write_text("".join(lines))
    done = learner.type("image layers more")
    assert one_line(done, "229 layers, but step 07 can stack only 228"), done


def test_commit_on_top_of_a_full_stack_is_refused_and_makes_nothing(store, monkeypatch):
    make(store, "upper/file")
    container = containers.Container(1, 2, ())
    monkeypatch.setattr(commits, "upper_of", lambda _: store / "upper")
    before = stored(store)
    below = [Layer(store / "layers" / str(number)) for number in range(MOST)]
    with pytest.raises(Failure, match="228 layers, .* no room for one more"):
        commits.commit(container, "more", below)
    assert stored(store) == before


def test_layer_stays_whatever_else_is_in_the_list_of_its_image(store):
    made = store / "layers/mine@0a"
    make(made, "file")
    (store / "images/mine").write_text(f"\nrelative\n{made} \n")
    assert list(garbage.remove_unlisted()) == []


def test_only_the_attribute_of_users_makes_a_directory_opaque(store):
    """With userxattr the kernel reads user.overlay.opaque. filesystems/overlayfs"""
    top, low = store / "layers/top", store / "layers/low"
    make(low, "user/1", "trusted/2", "other/3")
    make(top, "user/", "trusted/", "other/")
    os.setxattr(top / "user", "user.overlay.opaque", b"y")
    os.setxattr(top / "other", "user.overlay.opaque", b"x")
    if os.geteuid() == 0:  # others cannot set it
        os.setxattr(top / "trusted", "trusted.overlay.opaque", b"y")
    seen = [entry.path for entry in entries([Layer(top), Layer(low)]) if entry.is_seen]
    assert sorted(seen) == ["/other/3", "/trusted/2"]


def test_empty_file_with_an_attribute_is_a_whiteout(store):
    """filesystems/overlayfs: whiteouts and opaque directories"""
    top, low = store / "layers/top", store / "layers/low"
    make(low, "gone", "there", "full")
    make(top, "gone", "there", "full")
    for name in "gone", "full":
        os.setxattr(top / name, "user.overlay.whiteout", b"y")
    (top / "full").write_text("text")
    found = {e.path: e for e in entries([Layer(top), Layer(low)]) if e.layer == 0}
    assert {path for path, entry in found.items() if entry.is_whiteout} == {"/gone"}


def test_layer_that_is_not_a_directory_is_named(store, tmp_path):
    (tmp_path / "file").touch()
    for name, what in ("file", "not a directory"), ("missing", "missing"):
        with pytest.raises(Failure, match=f"{name} is {what}"):
            check_layers([Layer(tmp_path / name)])


# ---- what killed commits and runtimes leave behind


def test_layer_of_a_commit_is_removed_once_no_image_lists_it(store):
    made, base = store / "layers/mine@0a", store / "layers/base"
    make(made, "file")
    make(base, "file")
    (store / "images/mine").write_text(f"{made}\n{base}\n")
    assert list(garbage.remove_unlisted()) == []
    (store / "images/mine").unlink()
    assert list(garbage.remove_unlisted()) == [made]
    assert not made.exists() and base.exists()


def test_layer_of_a_pull_and_its_blob_are_removed_once_no_image_needs_them(store):
    pulled, lab = store / "layers" / f"sha256-{'a' * 64}", store / "layers/debian"
    make(pulled, "file")
    make(lab, "file")
    blob = oci.BLOBS / "sha256" / ("b" * 64)
    make(blob.parent, blob.name)
    (store / "images/mine").write_text(f"{pulled}\n")
    assert list(garbage.remove_unlisted()) == [blob]
    garbage.remove_image("mine")
    assert list(garbage.remove_unlisted()) == [pulled]
    assert lab.exists()


def test_origin_of_an_image_that_is_gone_is_removed(store):
    for name in "mine", "gone":
        (store / "origins" / name).write_text("{}")
    (store / "images/mine").write_text(f"{store}/layers/x\n")
    assert list(garbage.remove_unlisted()) == [store / "origins/gone"]


def test_layers_of_the_lab_are_not_removed(learner, store):
    base = store / "layers/busybox"
    make(base, "file")
    (store / "images/busybox").write_text(f"{base}\n")
    done = learner.type("image rm busybox")
    assert one_line(done, "busybox came with the lab"), done
    assert learner.type("image ls").returncode == 0 and base.exists()


def test_broken_image_can_be_removed(learner, store):
    (store / "images/mine").write_text(f"{store}/layers/mine@0a\n\nx\n")
    assert learner.type("image rm mine").returncode == 0
    assert not (store / "images/mine").exists()


def test_layer_that_a_container_uses_stays(store, monkeypatch):
    made, other = store / "layers/mine@0a", store / "layers/other@0b"
    make(made, "file")
    make(other, "file")
    (store / "containers/4194305/upper").mkdir(parents=True)
    monkeypatch.setattr(containers, "is_runtime", lambda pid: pid == "4194305")
    # The container was started from the directory of the layer, not from an image.
    monkeypatch.setattr(containers, "image_of", lambda _: str(made))
    assert list(garbage.remove_unlisted()) == [other]
    monkeypatch.setattr(containers, "image_of", lambda _: "removed")
    make(other, "file")
    assert list(garbage.remove_unlisted()) == []  # its layers are unknown
    assert cleanup.dead(containers.CONTAINERS) == []


def test_only_unfinished_commits_of_processes_that_have_ended_are_removed(store):
    dead, alive = (store / "layers" / f".mine.{n}" for n in (4194305, os.getpid()))
    for path in dead, alive:
        path.mkdir()
    (store / "images/.mine.4194305").touch()
    (store / "origins/.mine.4194305").touch()
    (store / "images/.hidden").touch()
    names = [store / "images/.mine.4194305", dead, store / "origins/.mine.4194305"]
    assert garbage.unfinished() == names


def test_pid_of_an_unfinished_commit_can_be_another_process_after_a_boot(store):
    half = store / "layers" / f".mine.{os.getpid()}"
    half.mkdir()
    assert list(garbage.remove_unfinished()) == [half]  # it waits for commits to end
    assert not half.exists()


def test_layer_whose_removal_was_killed_is_not_taken_for_whole(store, monkeypatch):
    layer = store / "layers" / f"sha256-{64 * '0'}"
    make(layer, "file", "other")
    with monkeypatch.context() as patch:
        patch.setattr(garbage, "remove_tree", lambda path: os._exit(os.EX_OK))
        if not (child := os.fork()):
            list(garbage.remove_unlisted())
            os._exit(os.EX_SOFTWARE)  # nothing was removed
        _, status = os.waitpid(child, 0)
    assert status == os.EX_OK
    assert not layer.exists()
    assert list(garbage.remove_unfinished()) == [
        layer.with_name(f".{layer.name}.{child}")
    ]


def test_what_runs_in_a_cgroup_is_ended_before_its_files_are_removed(
    store, monkeypatch
):
    folder, cgroup = store / "containers/4194305", store / "cgroups/4194305"
    for path in folder, cgroup:
        path.mkdir(parents=True)
    monkeypatch.setattr(cleanup, "CGROUPS", cgroup.parent)
    monkeypatch.setattr(cleanup, "NETWORK_IS_ON", store / "none")
    monkeypatch.setattr(sandbox, "clean", list)

    def remove(path):
        assert folder.exists()
        path.rmdir()

    monkeypatch.setattr(cgroups, "remove", remove)
    lines = [str(leftover) for leftover in cleanup.remove_all()]
    assert lines == [f"removed {cgroup}", f"removed {folder}"]
    assert not folder.exists()


def test_directory_is_dead_if_its_pid_belongs_to_no_runtime(store):
    (store / "containers/4194305").mkdir()
    (store / f"containers/{os.getpid()}").mkdir()  # the pid belongs to no runtime now
    (store / "containers/notes").touch()
    found = cleanup.dead(containers.CONTAINERS)
    assert {path.name for path in found} == {"4194305", str(os.getpid())}
