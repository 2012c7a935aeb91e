"""A headless Chromium for the tests, driven through its DevTools protocol over two pipes: no package, no port.

Keys, clicks and touches are the browser's own input events, as from a keyboard, a mouse and a finger.
"""

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import time

# Chromium reads commands from descriptor 3 and answers on 4.
_ON_3_AND_4 = (
    "import os, sys; r, w = map(int, sys.argv[1:3]); os.dup2(r, 3); os.dup2(w, 4); os.execv(sys.argv[3], sys.argv[3:])"
)
_OPTIONS = (
    "--headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run --mute-audio --hide-scrollbars"
)


def find_chromium():
    """The path of a Chromium or Chrome: $CHROME, or one on the PATH; None if there is none."""
    names = [os.environ.get("CHROME"), "chromium", "chromium-browser", "google-chrome", "chrome"]
    return next((found for found in map(shutil.which, filter(None, names)) if found), None)


class Chromium:
    """One browser with one open page; `close` ends it.

    Args:
        executable: the browser.
        profile: an empty folder for its files.

    Attributes:
        problems: texts of uncaught errors, console messages and failed requests since the page was opened.
        requests: addresses that the page asked for.
    """

    def __init__(self, executable, profile):
        command_out, command_in = os.pipe()
        answer_out, answer_in = os.pipe()
        # High numbers, so that the child's 3 and 4 overwrite neither.
        theirs = [fcntl.fcntl(end, fcntl.F_DUPFD, 20) for end in (command_out, answer_in)]
        options = [*_OPTIONS.split(), "--remote-debugging-pipe", f"--user-data-dir={profile}"]
        self._process = subprocess.Popen(
            [sys.executable, "-c", _ON_3_AND_4, *map(str, theirs), executable, *options],
            pass_fds=theirs,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for end in (*theirs, command_out, answer_in):
            os.close(end)
        self._in, self._out, self._received, self._count, self._session = command_in, answer_out, b"", 0, None
        self.problems, self.requests = [], []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")
        self.send("Page.bringToFront")

    def send(self, method, **parameters):
        """Send one command of the protocol and return its result; RuntimeError if the browser refuses it."""
        self._count += 1
        command = {"id": self._count, "method": method, "params": parameters}
        if self._session is not None:
            command["sessionId"] = self._session
        os.write(self._in, json.dumps(command).encode() + b"\0")
        while True:
            answer = self._read(60)
            if answer.get("id") == self._count:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            self._note(answer.get("method"), answer.get("params"))

    def _read(self, seconds):
        while b"\0" not in self._received:
            if not select.select([self._out], [], [], seconds)[0]:
                raise TimeoutError(f"Chromium did not answer in {seconds} s")
            piece = os.read(self._out, 1 << 20)
            if not piece:
                raise RuntimeError("Chromium has ended")
            self._received += piece
        message, self._received = self._received.split(b"\0", 1)
        return json.loads(message)

    def _note(self, event, facts):
        if event == "Runtime.exceptionThrown":
            details = facts["exceptionDetails"]
            self.problems.append(details.get("exception", {}).get("description", details["text"]))
        elif event == "Runtime.consoleAPICalled":
            self.problems.append(f"{facts['type']}: {[value.get('value') for value in facts['args']]}")
        elif event == "Log.entryAdded":
            self.problems.append(facts["entry"]["text"])
        elif event == "Network.requestWillBeSent":
            self.requests.append(facts["request"]["url"])

    def open(self, path, width=800, height=900, dark=False, touch=False):
        """Open a file in a window of that size (CSS pixels) and color scheme, perhaps one for fingers."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=touch)
        self.send("Emulation.setTouchEmulationEnabled", enabled=touch)
        self.color_scheme("dark" if dark else "light")
        self.send("Page.navigate", url="about:blank")
        self.problems.clear()
        self.requests.clear()
        self.send("Page.navigate", url=f"file://{path}")
        self.wait("document.readyState === 'complete' && location.protocol === 'file:'")

    def color_scheme(self, scheme):
        """Make the system "light" or "dark"."""
        self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def run(self, expression):
        """The value of a JavaScript expression in the page; RuntimeError with its error."""
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"]["exception"]["description"])
        return answer["result"].get("value")

    def wait(self, expression, seconds=30):
        """Wait until a JavaScript expression is true, and return its value."""
        end = time.monotonic() + seconds
        while not (value := self.run(expression)):
            if time.monotonic() > end:
                raise TimeoutError(f"not within {seconds} s: {expression}")
            time.sleep(0.02)
        return value

    def point(self, element):
        """The middle of an element, which a JavaScript expression gives, in the window: (x, y)."""
        return self.run(
            f"(() => {{ const element = {element}; element.scrollIntoView({{block: 'nearest'}});"
            "let {left, top, width, height} = element.getBoundingClientRect();"
            "for (let frame = element.ownerDocument.defaultView.frameElement; frame; frame = null) {"
            "  const outer = frame.getBoundingClientRect(); left += outer.left; top += outer.top; }"
            "return [left + width / 2, top + height / 2]; })()"
        )

    def mouse(self, kind, x, y):
        """Press ("mousePressed"), release ("mouseReleased") or move ("mouseMoved") the mouse at a place."""
        held = {"mousePressed": 1, "mouseReleased": 0}.get(kind, 0)
        button = "none" if kind == "mouseMoved" else "left"
        self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button=button, buttons=held, clickCount=1)

    def click(self, element):
        """Click an element."""
        place = self.point(element)
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self.mouse(kind, *place)

    def touch(self, kind, *places):
        """Put fingers to places ("touchStart") or lift them all ("touchEnd")."""
        points = [{"x": x, "y": y} for x, y in places]
        self.send("Input.dispatchTouchEvent", type=kind, touchPoints=points)

    def key(self, kind, key):
        """Press ("keyDown") or release ("keyUp") a key: a letter, " " or a name like "ArrowLeft"."""
        letter = len(key) == 1
        code = {" ": "Space"}.get(key, f"Key{key.upper()}" if letter else key)
        numbers = {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}
        facts = {"text": key} if letter and kind == "keyDown" else {}
        number = numbers.get(key, ord(key[0].upper()))
        self.send("Input.dispatchKeyEvent", type=kind, key=key, code=code, windowsVirtualKeyCode=number, **facts)

    def screenshot(self, path):
        """Write what the window shows to a PNG file."""
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"]))

    def close(self):
        """End the browser."""
        self._session = None
        try:
            self.send("Browser.close")
            self._process.wait(10)
        except (OSError, RuntimeError, TimeoutError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        os.close(self._in)
        os.close(self._out)
