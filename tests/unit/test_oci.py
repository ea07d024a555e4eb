"""Manifests, configs and references from strangers: `workshop image` reads them or says in one
line what is wrong with them."""

import hashlib
import json
import os
import subprocess
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from people import one_line

from workshop import images, layers, oci, origins, skopeo, transfers
from workshop.errors import Failure
from workshop.layers import Layer
from workshop.oci import Descriptor, Platform
from workshop.project import PROJECT

HEX = "0123456789abcdef" * 4
DIGEST = f"sha256:{HEX}"
ITEM = {"mediaType": oci.LAYER, "digest": DIGEST, "size": 5}
CONFIG_ITEM = {**ITEM, "mediaType": oci.CONFIG}
MANIFEST = {"schemaVersion": 2, "config": CONFIG_ITEM, "layers": [ITEM, ITEM]}
CONFIG = {
    "os": "linux",
    "architecture": "amd64",
    "rootfs": {"type": "layers", "diff_ids": [DIGEST]},
}


def changed(document, path, value):
    """Returns a copy of a document with another value at a path, such as config.size."""
    copy = json.loads(json.dumps(document))
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    place = copy
    for part in parents:
        place = place[part]
    place[last] = value
    return json.dumps(copy).encode()


def stored(document, media_type=oci.MANIFEST):
    """Stores a document as a blob. Returns its descriptor."""
    data = json.dumps(document).encode()
    about = Descriptor(media_type, oci.digest(data), len(data))
    about.path.parent.mkdir(parents=True, exist_ok=True)
    about.path.write_bytes(data)
    return about


def test_manifest_and_config_are_read():
    manifest = oci.parse_manifest(json.dumps(MANIFEST).encode())
    assert manifest.config == Descriptor(oci.CONFIG, DIGEST, 5)
    assert manifest.layers == (Descriptor(oci.LAYER, DIGEST, 5),) * 2
    config = oci.parse_config(json.dumps(CONFIG).encode())
    assert config.platform == Platform("linux", "amd64")
    assert config.diff_ids == (DIGEST,)
    nothing = {"Cmd": None, "Entrypoint": None, "Env": [], "User": "", "WorkingDir": ""}
    for value in (
        None,
        {},
        nothing,
        {"Cmd": ["sh"], "User": "0:0", "Labels": {"a": "b"}},
    ):
        oci.parse_config(json.dumps({**CONFIG, "config": value}).encode())


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("schemaVersion", 1, "version 1"),
        ("config", None, "cannot be read"),
        ("config.digest", "sha256:../../etc/passwd", "not the digest"),
        ("config.digest", f"sha512:{HEX * 2}", "not the digest"),
        ("config.digest", f"{DIGEST}\n", "not the digest"),
        ("config.digest", 5, "not the digest"),
        ("config.size", -1, "a size of -1"),
        ("config.size", "5", "a size of '5'"),
        ("config.size", True, "a size of True"),
        ("config.mediaType", "application/vnd.oci.empty.v1+json", "not a container"),
        ("layers", {"a": 1}, "cannot be read"),
        ("layers.0", [], "cannot be read"),
        ("layers.1.digest", HEX, "not the digest"),
    ],
)
def test_wrong_manifest_is_refused(path, value, message):
    with pytest.raises(Failure, match=message):
        oci.parse_manifest(changed(MANIFEST, path, value))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("os", "windows", "for windows/amd64"),
        ("rootfs.type", "base", "not of type layers"),
        ("rootfs.diff_ids", 7, "cannot be read"),
        ("rootfs.diff_ids.0", "sha256:../../x", "not the digest"),
        ("rootfs", [], "cannot be read"),
        ("config", [1], "cannot be read"),
        ("config", {"Cmd": "sh"}, "its Cmd is not a list of words"),
        ("config", {"Entrypoint": ["sh", 5]}, "its Entrypoint is not a list"),
        ("config", {"Env": ["A=a\0b"]}, "its Env is not a list of words"),
        ("config", {"User": 5}, "its User is not a word"),
        ("config", {"WorkingDir": ["/"]}, "its WorkingDir is not a word"),
    ],
)
def test_wrong_config_is_refused(path, value, message):
    with pytest.raises(Failure, match=message):
        oci.parse_config(changed(CONFIG, path, value))


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"null", b"\xff", b"[" * 100000, b" " * (oci.MOST + 1)]
)
def test_what_is_no_json_object_is_refused(data):
    for parse in oci.parse_manifest, oci.parse_config, oci.only_manifest, oci.is_list:
        with pytest.raises(Failure, match="cannot be read"):
            parse(data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just(DIGEST),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [*MANIFEST, *CONFIG, *ITEM, "diff_ids", "type", "platform", "manifests"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


@given(JSON)
@example({"mediaType": [None]})
def test_any_json_is_read_or_refused(document):
    data = json.dumps(document).encode()
    for parse in oci.parse_manifest, oci.parse_config, oci.only_manifest, oci.is_list:
        try:
            parse(data)
        except Failure as error:
            assert "\n" not in str(error)
    try:
        assert oci.choose(data, oci.own_platform()).digest.startswith("sha256:")
    except Failure as error:
        assert "\n" not in str(error)


def test_blob_with_other_contents_than_its_name_is_refused(store):
    about = stored(CONFIG)
    assert oci.read(about) == json.dumps(CONFIG).encode()
    with pytest.raises(Failure, match="other contents"):
        oci.read(Descriptor(about.media_type, about.digest, about.size + 1))
    about.path.write_bytes(b" " + about.path.read_bytes())
    with pytest.raises(Failure, match="other contents"):
        oci.read(about)
    about.path.unlink()
    with pytest.raises(Failure, match="is missing"):
        oci.read(about)
    with pytest.raises(Failure, match="too many"):
        oci.read(Descriptor(about.media_type, about.digest, oci.MOST + 1))


def test_manifest_and_config_must_list_equally_many_layers(store):
    config = stored(CONFIG, oci.CONFIG)
    manifest = stored({**MANIFEST, "config": config.as_json()})
    with pytest.raises(Failure, match="lists 2 layers, but the config 1"):
        oci.read_manifest(manifest)


def test_list_of_manifests_offers_a_platform(store):
    def item(system, architecture, variant=None, kind=oci.MANIFEST):
        text = f"{system}{architecture}{variant}".encode()
        platform = {"os": system, "architecture": architecture}
        platform |= {"variant": variant} if variant else {}
        name = f"sha256:{hashlib.sha256(text).hexdigest()}"
        return {"mediaType": kind, "digest": name, "size": 1, "platform": platform}

    v6, v7 = item("linux", "arm", "v6"), item("linux", "arm", "v7")
    items = [v6, v7, item("linux", "amd64"), item("unknown", "unknown")]
    data = json.dumps({"manifests": items}).encode()
    assert oci.is_list(data)
    assert oci.choose(data, Platform("linux", "arm")).digest == v6["digest"]
    assert oci.choose(data, Platform("linux", "arm", "v7")).digest == v7["digest"]
    with pytest.raises(Failure) as failed:
        oci.choose(data, Platform("linux", "arm64"))
    assert str(failed.value) == (
        "there is no image for linux/arm64. "
        "There is one for linux/arm/v6, linux/arm/v7, linux/amd64"
    )


@pytest.mark.parametrize(
    ("text", "platform"),
    [
        ("arm64", Platform("linux", "arm64")),
        ("linux/arm64", Platform("linux", "arm64")),
        ("linux/arm/v7", Platform("linux", "arm", "v7")),
    ],
)
def test_platform_is_parsed(text, platform):
    assert oci.parse_platform(text) == platform
    assert oci.parse_platform(str(platform)) == platform


@pytest.mark.parametrize("text", ["", "/", "linux/", "a/b/c/d", "linux/x y", "Ä"])
def test_what_is_no_platform_is_refused(text):
    with pytest.raises(Failure, match="is not a platform"):
        oci.parse_platform(text)


@pytest.mark.parametrize(
    ("reference", "checks_tls", "at"),
    [
        ("alpine", True, "docker://alpine@"),
        ("docker://alpine:3.22", True, "docker://alpine@"),
        ("quay.io/a/b:1", True, "docker://quay.io/a/b@"),
        (f"quay.io/a/b@{DIGEST}", True, "docker://quay.io/a/b@"),
        ("localhost:5000/a", False, "docker://localhost:5000/a@"),
        ("127.0.0.1:5000/a/b:1", False, "docker://127.0.0.1:5000/a/b@"),
        ("[::1]:5000/a", False, "docker://[::1]:5000/a@"),
        ("localhost.example.org/a", True, "docker://localhost.example.org/a@"),
        ("127.0.0.1.example.org/a", True, "docker://127.0.0.1.example.org/a@"),
    ],
)
def test_only_a_registry_on_this_machine_needs_no_tls(reference, checks_tls, at):
    place = skopeo.registry(reference)
    assert place.checks_tls == checks_tls
    assert place.at(DIGEST) == skopeo.Place(f"{at}{DIGEST}", checks_tls)


@pytest.mark.parametrize("text", ["", "-x", "a b", "--help", "a\nb", "oci:/x y", "ä"])
def test_what_is_no_reference_is_refused(text):
    with pytest.raises(Failure, match="is not a reference"):
        skopeo.registry(text)


@pytest.mark.parametrize(
    ("reason", "advice"),
    [
        ("reading manifest 1 in x/y: manifest unknown", "the name and the tag"),
        ("errors: denied: requested access to the resource is denied", "skopeo login"),
        ("invalid reference format: it must be lowercase", "alpine:3.22"),
        ("dial tcp 127.0.0.1:9: connect: connection refused", "whether it runs"),
        ("dial tcp: lookup x.invalid on 10.0.0.1:53: no such host", "the internet"),
        ("http: server gave HTTP response to HTTPS client", "certificate"),
        ("writing blob: write /x: no space left on device", "workshop clean"),
        ("something that nobody knows", "^skopeo: something that nobody knows$"),
    ],
)
def test_error_of_skopeo_is_one_line_that_says_what_to_do(
    tmp_path, monkeypatch, reason, advice
):
    """Its log has a line with the level fatal, and perhaps others before."""
    quoted = f'Error parsing image name \\"docker://x\\": {reason}'
    (tmp_path / "skopeo").write_text(
        "#!/bin/sh\n"
        """echo 'time="2025" level=warning msg="x"' >&2\n"""
        f"""echo 'time="2025" level=fatal msg="{quoted}"' >&2\nexit 1\n"""
    )
    (tmp_path / "skopeo").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(Failure, match=advice) as caught:
        skopeo.manifest(skopeo.registry("x"))
    assert str(caught.value).startswith(f"skopeo: {reason}")


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("alpine", "alpine"),
        ("docker.io/library/alpine:3.22", "alpine"),
        ("localhost:5000/alpine", "alpine"),
        (f"quay.io/x/alpine@{DIGEST}", "alpine"),
    ],
)
def test_image_is_called_by_the_last_word_of_its_reference(reference, name):
    assert transfers.default_name(reference) == name


def test_layer_that_occurs_twice_is_stacked_once(store):
    one, two, three = (f"sha256:{digit * 64}" for digit in "123")
    config = oci.Config(Platform("linux", "amd64"), (one, two, one, three, one), {})
    names = [path.name for path in config.stack()]
    assert names == [f"sha256-{digit * 64}" for digit in "132"]


def test_origin_counts_only_if_the_lowest_layers_are_its_own(store):
    config = stored(CONFIG, oci.CONFIG)
    document = {**MANIFEST, "config": config.as_json(), "layers": [ITEM]}
    origin = origins.Origin("alpine", DIGEST, stored(document))
    pulled, other = Layer(oci.layer_path(DIGEST)), Layer(layers.LAYERS / "x@0a")
    assert origins.find("mine", [pulled]) is None
    origins.save("mine", origin)
    assert origins.load("mine") == origin
    for stack in [pulled], [other, pulled]:
        original = origins.find("mine", stack)
        assert original and original.origin == origin
    assert origins.find("mine", [pulled, other]) is None
    assert origins.find("mine", []) is None
    origins.remove("mine")
    assert origins.load("mine") is None
    for text in "", "[]", "{}", '{"manifest": {}}', "\0":
        (origins.ORIGINS / "mine").write_text(text)
        assert origins.load("mine") is None


def test_failed_write_leaves_the_earlier_list(store, monkeypatch):
    images.write_list("mine", [store / "layers/a"])
    monkeypatch.setattr("os.fsync", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        images.write_list("mine", [store / "layers/b"])
    assert (store / "images/mine").read_text() == f"{store}/layers/a\n"
    assert [path.name for path in (store / "images").iterdir()] == ["mine"]


def test_wrong_arguments_are_an_error_of_one_line(learner, store):
    for words in ["pull"], ["push", "x"], ["export", "x"], ["import"], ["squash"]:
        done = learner.type(["image", *words])
        assert one_line(done, "^workshop image", status=2), done
    for words in ["push", "x", "y"], ["export", "x", "y"], ["rm", "x"]:
        done = learner.type(["image", *words])
        assert one_line(done, "there is no image x"), done
    done = learner.type(["image", "pull", "x y"])
    assert one_line(done, "not a reference"), done
    done = learner.type(["image", "pull", "alpine", "--name", "x y"])
    assert one_line(done, "not a valid name"), done


def test_images_are_listed_without_the_module_for_zstd(store):
    """As in the machine of the browser tab, which has no registry to pull from."""
    script = (
        "import sys; sys.modules.update({'backports': None, 'compression': None})\n"
        "from workshop.commands import image\n"
        "from workshop import unpacking\n"
        "try: unpacking._decompressed(None, b'\\x28\\xb5\\x2f\\xfd')\n"
        "except ValueError as error: print(error)"
    )
    path = f"{PROJECT}:{PROJECT / 'steps'}"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert (
        done.stdout == "it is compressed with zstd: type pip install backports.zstd\n"
    ), done
