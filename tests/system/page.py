#!/usr/bin/env python3
"""The status page in a headless Chromium, in front of a whole site: mosquitto, simulated meters, the gateway.

Values move; the backlog grows while mosquitto is stopped and drains after; a hostile name is text; nothing is asked
of anybody else; no error is told; at 390 pixels nothing is wider than the screen. Pictures go to target/page, and
with TIDEGATE_BLESS=1 to docs/. Chromium is spoken to over a pipe, in the DevTools protocol: there is no driver.

    tests/system/page.py BINARY      the gateway under test
"""

import base64
import json
import os
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

PATIENCE = 120
ROOT = Path(__file__).resolve().parents[2]
HOSTILE = "<img src=x onerror=document.title='pwned'>"
# What a picture in docs/ may weigh.
LARGEST = 200_000


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until(what, ask):
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        answer = ask()
        if answer:
            return answer
        time.sleep(0.1)
    raise AssertionError(f"after {PATIENCE} s still waiting until {what}")


class Browser:
    """One tab of a Chromium."""

    def __init__(self, folder):
        program = next(filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"])), None)
        assert program, "chromium is not installed"
        (to_read, self.out), (self.inn, to_write) = os.pipe(), os.pipe()
        switches = [
            "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-default-apps",
            "--disable-extensions", "--disable-sync", "--no-default-browser-check", "--hide-scrollbars",
            "--force-color-profile=srgb", "--remote-debugging-pipe", f"--user-data-dir={folder}/chromium",
        ]

        def hand_over():
            # Chromium reads from 3 and writes to 4. Copies first: the numbers may be taken by each other.
            ends = os.dup(to_read), os.dup(to_write)
            os.dup2(ends[0], 3)
            os.dup2(ends[1], 4)

        self.child = subprocess.Popen(
            [program, *switches, "about:blank"], preexec_fn=hand_over, close_fds=False,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=open(f"{folder}/chromium.log", "wb"),
        )
        os.close(to_read)
        os.close(to_write)
        self.pending, self.number, self.session = b"", 0, None
        self.requests, self.errors = [], []
        target = self.tell("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.tell("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.tell(f"{domain}.enable")

    def tell(self, method, **params):
        """Sends a command and returns its result; what happens meanwhile is noted."""
        self.number += 1
        command = {"id": self.number, "method": method, "params": params}
        if self.session:
            command["sessionId"] = self.session
        os.write(self.out, json.dumps(command).encode() + b"\0")
        while True:
            answer = self.next()
            if answer.get("id") == self.number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]
            self.note(answer)

    def next(self):
        while b"\0" not in self.pending:
            ready, _, _ = select.select([self.inn], [], [], PATIENCE)
            assert ready, "chromium does not answer"
            part = os.read(self.inn, 1 << 20)
            assert part, "chromium has ended"
            self.pending += part
        message, self.pending = self.pending.split(b"\0", 1)
        return json.loads(message)

    def note(self, event):
        params = event.get("params", {})
        match event.get("method"):
            case "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])
            case "Log.entryAdded" if params["entry"]["level"] == "error":
                self.errors.append(params["entry"]["text"])
            case "Runtime.exceptionThrown":
                self.errors.append(json.dumps(params["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if params["type"] in ("error", "warning", "assert"):
                self.errors.append(json.dumps(params["args"]))

    def ask(self, expression):
        result = self.tell("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, f"{expression}: {result['exceptionDetails']}"
        return result["result"].get("value")

    def open(self, url, width, height, mobile=False):
        self.tell("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)
        self.tell("Page.navigate", url=url)
        until("the page is there", lambda: self.ask("document.readyState") == "complete")

    def picture(self, name):
        data = base64.b64decode(self.tell("Page.captureScreenshot", format="png")["data"])
        folder = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "page"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
        assert len(data) < LARGEST, f"{name} has {len(data)} bytes"
        if "TIDEGATE_BLESS" in os.environ:
            (ROOT / "docs" / name).write_bytes(data)

    def end(self):
        self.child.terminate()
        self.child.wait()


class Site:
    """The processes of a site, in a directory of their own."""

    def __init__(self, binary, folder):
        self.binary, self.folder = binary, Path(folder)
        self.meters, self.broker_port, self.page_port = free_port(), free_port(), free_port()
        self.children = {}
        (self.folder / "mosquitto.conf").write_text(f"listener {self.broker_port} 127.0.0.1\nallow_anonymous true\n")
        (self.folder / "tidegate.toml").write_text(self.configuration())

    def configuration(self):
        meters = "".join(
            f'[endpoints.{name}]\ntoken = "T-{name}"\n[endpoints.{name}.modbus]\nunit = 1\nprofile = "sdm120"\nperiod = "1s"\n'
            f'only = ["voltage", "current", "active_power", "frequency"]\n'
            for name in ("heat-pump", "kitchen", "server-room", "workshop")
        )
        return f"""
[gateway]
state_dir = "{self.folder}/state"
control_socket = "{self.folder}/control.sock"
[clock]
trust = "always"
[http]
listen = "127.0.0.1:{self.page_port}"
[uplink]
kind = "plain"
urls = ["mqtt://127.0.0.1:{self.broker_port}"]
insecure = true
[uplink.plain]
topic = "site/{{endpoint}}"
[adapters.modbus.meters]
host = "127.0.0.1:{self.meters}"
[endpoints.boiler]
token = "T-boiler"
[endpoints.boiler.modbus]
# Nobody listens there.
host = "127.0.0.1:1"
unit = 7
[endpoints.boiler.modbus.resources]
temperature = {{ register = "input:0", type = "i16" }}
{meters}[endpoints.workshop.modbus.resources]
"{HOSTILE}" = {{ register = "input:0", type = "f32" }}
"""

    def start(self, name, *command):
        log = open(self.folder / f"{name}.log", "ab")
        self.children[name] = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def stop(self, name):
        child = self.children.pop(name)
        child.terminate()
        child.wait(timeout=PATIENCE)

    def start_broker(self):
        mosquitto = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
        self.start("mosquitto", mosquitto, "-c", str(self.folder / "mosquitto.conf"))

    def start_gateway(self):
        self.start("tidegate", self.binary, "run", "-c", str(self.folder / "tidegate.toml"))

    @property
    def url(self):
        return f"http://127.0.0.1:{self.page_port}/"

    def answers(self):
        try:
            with urllib.request.urlopen(self.url + "healthz", timeout=5) as answer:
                return answer.status == 200
        except OSError:
            return False


TEXT = "document.getElementById({!r}).innerText"
QUEUED = "Number(document.querySelector('#backlog .big').firstChild.textContent.replaceAll(',', ''))"
# The last values in the list of endpoints.
VALUES = "[...document.querySelectorAll('#rows tr td:nth-child(2)')].map((cell) => cell.textContent).join('|')"
# What reaches beyond the right edge of the screen.
WIDE = """[...document.querySelectorAll('body, body *')].filter((e) => e.getBoundingClientRect().right > innerWidth + 0.5)
    .map((e) => e.tagName + '#' + e.id + '.' + e.className)"""


def text(browser, element):
    return browser.ask(TEXT.format(element))


def click(browser, name):
    assert browser.ask(f"""(() => {{
        const found = [...document.querySelectorAll('button.name')].find((button) => button.textContent === {name!r});
        if (found) found.click();
        return Boolean(found);
    }})()"""), f"there is no endpoint {name}"


def moves(browser):
    until("all endpoints are there", lambda: browser.ask("document.querySelectorAll('#rows tr').length") == 5)
    first = until("there are values", lambda: "=" in (values := browser.ask(VALUES)) and values)
    until("values move", lambda: browser.ask(VALUES) != first)
    until("the platform is there", lambda: text(browser, "platform").startswith("PLATFORM\n\nconnected"))
    assert "It adds up." in text(browser, "ledger")
    until("the silent device is told of", lambda: "1 of 5 devices silent" in text(browser, "adapters"))
    until("and why", lambda: "to do" in text(browser, "faults"))


def looks_closer(browser):
    click(browser, "heat-pump")
    drawn = "document.querySelectorAll('#looked .spark path').length"
    until("its resources have sparklines", lambda: browser.ask(drawn) == 4)
    click(browser, "workshop")
    until("the hostile name is shown", lambda: HOSTILE in text(browser, "looked"))
    assert browser.ask("document.querySelectorAll('img').length") == 0, "a name became an element"
    assert browser.ask("document.title") == "Tidegate", "a name was run"
    browser.ask("[...document.querySelectorAll('.look button')].find((b) => b.textContent === 'Close'"
                " && b.closest('.look').innerText.startsWith('workshop')).click()")
    assert browser.ask("[...document.querySelectorAll('.needs-token')].every((e) => !e.offsetParent)"), "no token, no buttons"
    until("it is closed", lambda: HOSTILE not in text(browser, "looked"))


def filters(browser):
    typed = "(() => {{ const f = document.getElementById('filter'); f.value = {!r}; f.dispatchEvent(new Event('input')); }})()"
    browser.ask(typed.format("kitch"))
    until("one is left", lambda: browser.ask("document.querySelectorAll('#rows tr').length") == 1)
    browser.ask(typed.format(""))
    until("all are back", lambda: browser.ask("document.querySelectorAll('#rows tr').length") == 5)


def outlives_an_outage(browser, site):
    site.stop("mosquitto")
    until("the outage is seen", lambda: "not connected" in text(browser, "platform"))
    until("it is explained", lambda: "TG-102" in text(browser, "faults"))
    first = until("the backlog grows", lambda: browser.ask(QUEUED))
    until("and goes on growing", lambda: browser.ask(QUEUED) > first + 20)
    most = browser.ask(QUEUED)
    print(f"FIGURE page_backlog_most {most}")
    site.start_broker()
    until("the platform is back", lambda: "not connected" not in text(browser, "platform"))
    until("the backlog drains", lambda: browser.ask(QUEUED) < 10)
    until("it adds up", lambda: "It adds up." in text(browser, "ledger"))


def fits_a_phone(browser, site):
    browser.open(site.url, 390, 844, mobile=True)
    until("values are there", lambda: "=" in (browser.ask(VALUES) or ""))
    click(browser, "workshop")
    until("with the hostile name", lambda: HOSTILE in text(browser, "looked"))
    assert browser.ask("innerWidth") == 390
    assert browser.ask("document.documentElement.scrollWidth") <= 390, "it scrolls sideways"
    wide = browser.ask(WIDE)
    assert not wide, f"wider than the screen: {wide}"
    browser.ask("scrollTo(0, 0)")
    browser.picture("page-phone.png")


def follows_the_scheme(browser):
    ground = "getComputedStyle(document.body).backgroundColor"
    seen = set()
    for scheme in ("light", "dark"):
        browser.tell("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        seen.add(browser.ask(ground))
    assert len(seen) == 2, seen
    browser.tell("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "light"}])


def outlives_the_gateway(browser, site):
    site.stop("tidegate")
    until("it says that nobody answers", lambda: text(browser, "silent").startswith("No answer since"))
    site.start_gateway()
    until("it goes on by itself", lambda: browser.ask("document.getElementById('silent').hidden"))


def main(binary):
    with tempfile.TemporaryDirectory(prefix="tidegate-page-", ignore_cleanup_errors=True) as folder:
        site = Site(binary, folder)
        site.start_broker()
        site.start("meters", binary, "simulate", "modbus", "--profile", "sdm120", "--tcp", f"127.0.0.1:{site.meters}")
        site.start_gateway()
        browser = None
        try:
            until("the gateway answers", site.answers)
            browser = Browser(folder)
            browser.open(site.url, 1280, 1080)
            follows_the_scheme(browser)
            moves(browser)
            looks_closer(browser)
            filters(browser)
            outlives_an_outage(browser, site)
            browser.ask("scrollTo(0, 0)")
            browser.picture("page-desktop.png")
            fits_a_phone(browser, site)
            assert not browser.errors, browser.errors
            # Without an answer the browser itself tells of an error.
            outlives_the_gateway(browser, site)
            foreign = [url for url in browser.requests if not url.startswith(site.url) and url != "about:blank"]
            assert not foreign, f"asked of others: {foreign}"
            assert len(browser.requests) > 20, "the requests are not seen"
        except BaseException:
            if browser:
                print(f"errors: {browser.errors}\nthe page says: {browser.ask('document.body.innerText')}")
            print((site.folder / "tidegate.log").read_text()[-5000:])
            raise
        finally:
            if browser:
                browser.end()
            for name in list(site.children):
                site.stop(name)
    print("the page does what it should")


main(*sys.argv[1:])
