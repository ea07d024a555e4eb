"""Debian's Firefox ESR without a window, driven by its own protocol, Marionette.

Playwright drives only Firefoxes of its own, and geckodriver is no package of Debian 12. The
protocol: https://firefox-source-docs.mozilla.org/testing/marionette/Protocol.html
"""

import contextlib
import json
import pathlib
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import driver


class Firefox:
    """A connection to a Firefox, with one page."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.file = self.socket.makefile("rb")
        self.count = 0
        self.receive()  # which version of the protocol it speaks
        self.command("WebDriver:NewSession")
        limits = {"script": 900_000, "pageLoad": 900_000}  # milliseconds
        self.command("WebDriver:SetTimeouts", **limits)

    def receive(self) -> Any:
        """Returns a message: its length, a colon, and JSON."""
        length = b""
        while (byte := self.file.read(1)) != b":":
            length += byte
        return json.loads(self.file.read(int(length)))

    def command(self, name: str, **parameters: Any) -> Any:
        """Returns what a command returns. AssertionError if it fails."""
        self.count += 1
        message = json.dumps([0, self.count, name, parameters]).encode()
        self.socket.sendall(b"%d:%s" % (len(message), message))
        _, _, error, result = self.receive()
        assert not error, error
        return result

    def open(self, address: str) -> None:
        self.command("WebDriver:Navigate", url=address)

    def evaluate(self, function: str, *arguments: Any) -> Any:
        """Returns what a function in JavaScript returns, or what its promise becomes."""
        script = f"""const done = arguments[arguments.length - 1];
          Promise.resolve(({function})(...[...arguments].slice(0, -1)))
            .then((value) => done({{ value }}), (error) => done({{ error: String(error) }}));"""
        found = self.command(
            "WebDriver:ExecuteAsyncScript",
            script=script,
            args=arguments,
            sandbox=None,  # the page's own world
        )["value"]
        assert "error" not in found, found["error"]
        return found.get("value")

    def wait_for(self, expression: str, seconds: float = 900) -> None:
        driver.wait_until(
            lambda: self.evaluate(f"() => Boolean({expression})"), seconds, expression
        )


@contextlib.contextmanager
def started(optimize: bool) -> Iterator[Firefox]:
    """A new Firefox with an empty profile. optimize: with its optimizing compiler, which takes
    more time than it saves if there is only one processor: see build_tab.py's NODE_COMMAND."""
    driver.install("firefox-esr")
    with tempfile.TemporaryDirectory(prefix="lab-test.", dir="/var/tmp") as profile:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        preferences = {
            "marionette.port": port,
            "javascript.options.wasm_optimizingjit": optimize,
            "app.normandy.enabled": False,
            "browser.shell.checkDefaultBrowser": False,
            "datareporting.policy.dataSubmissionEnabled": False,
        }
        lines = [
            f"user_pref({json.dumps(k)}, {json.dumps(v)});"
            for k, v in preferences.items()
        ]
        pathlib.Path(profile, "user.js").write_text("\n".join(lines))
        command = [shutil.which("firefox-esr") or "", "--headless", "--marionette"]
        command += ["--no-remote", "--profile", profile]
        environment = {"HOME": profile, "PATH": "/usr/bin:/bin"}
        process = subprocess.Popen(
            command,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            firefox = None
            deadline = time.monotonic() + 120
            while not firefox:
                try:
                    firefox = Firefox(port)
                except ConnectionRefusedError:
                    assert time.monotonic() < deadline, "Firefox does not start"
                    time.sleep(0.5)
            yield firefox
        finally:
            process.terminate()
            process.wait(60)
