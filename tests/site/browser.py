"""A look at every page of the built site in headless Chromium."""

import contextlib
import functools
import json
import pathlib
import queue
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

INSPECTOR = pathlib.Path(__file__).parent / "inspect_pages.html"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
LONGEST_VISIT = 240  # seconds
CONSOLE = re.compile(r"CONSOLE[:(]\d+\)?\] (.*)")

type Measured = dict[str, Any]


class Visit(NamedTuple):
    """The measurements of each page at each width, what the server did not have, and the messages in the console."""

    pages: list[Measured]
    missing: list[str]
    console: list[str]


class Server(SimpleHTTPRequestHandler):
    """Serves the site, the page that measures the others, and its list of pages; takes what it found."""

    def __init__(self, *args: Any, work: dict[str, Any], found: queue.Queue[Any], missing: list[str], **options: Any):
        self.work, self.found, self.missing = work, found, missing
        super().__init__(*args, **options)

    def do_GET(self) -> None:
        if self.path == "/inspect_pages.html":
            self.answer(INSPECTOR.read_bytes(), "text/html")
        elif self.path == "/pages.json":
            self.answer(json.dumps(self.work).encode(), "application/json")
        else:
            super().do_GET()

    def do_POST(self) -> None:
        self.found.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.answer(b"", "text/plain")

    def answer(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def send_error(self, *args: Any, **options: Any) -> None:
        self.missing.append(self.path)
        super().send_error(*args, **options)

    def log_message(self, *args: Any) -> None:
        pass


def find_browser() -> str | None:
    """The path of an installed Chromium or Chrome."""
    return next(filter(None, map(shutil.which, NAMES)), None)


def visit(browser: str, site: pathlib.Path, pages: list[str], widths: list[int]) -> Visit:
    """Open `pages`, paths below `site`, in frames of the given widths in pixels, and measure them."""
    found: queue.Queue[Any] = queue.Queue()
    missing: list[str] = []
    handler = functools.partial(
        Server, directory=str(site), work={"pages": pages, "widths": widths}, found=found, missing=missing
    )
    with serve(handler) as address, tempfile.TemporaryDirectory() as profile:
        log = pathlib.Path(profile) / "log"
        command = [browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        command += ["--no-first-run", "--disable-extensions", "--disable-background-networking", "--hide-scrollbars"]
        command += ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--window-size=1500,1000"]
        command += ["--enable-logging=stderr", f"--user-data-dir={profile}", f"{address}/inspect_pages.html"]
        with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
            try:
                measured = found.get(timeout=LONGEST_VISIT)
            except queue.Empty:
                measured = f"nothing in {LONGEST_VISIT} seconds"
            finally:
                process.kill()
        said = log.read_text(encoding="utf-8", errors="replace")
        assert isinstance(measured, list), f"{measured}\n{said}"
        return Visit(measured, missing, CONSOLE.findall(said))


@contextlib.contextmanager
def serve(handler: Callable[..., Server]) -> Iterator[str]:
    """The address of a server."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
