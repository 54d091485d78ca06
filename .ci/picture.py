#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes docs/trace.svg, the README's picture, from a real run:

  .ci/picture.py BUILD

Starts the chat server and the agent of BUILD's examples, runs `nopspan trace` in a terminal, and draws what
it printed. Needs root and Debian's python3-rich. Run it when the output of `nopspan trace` changes.
"""
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

COLUMNS = 100
COMMAND = "nopspan trace --name llm.tool --limit 1"
# Rich's own format loads a font from the network.
SVG = """<svg viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: {char_height}px; line-height: {line_height}px }}
.{unique_id}-title {{ font: bold 18px sans-serif }}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal"><rect width="{terminal_width}" height="{terminal_height}"/></clipPath>
{lines}</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}<g class="{unique_id}-matrix">{matrix}</g></g>
</svg>
"""


def record(build, folder):
    """What the command prints in a terminal while the agent answers prompts."""
    port = Path(folder) / "port"
    examples = build / "examples" / "chat_service"
    server = subprocess.Popen([examples / "chat_server", "--port-file", port, "--token-delay-us", "500", "--seed", "7"],
                              stdout=subprocess.DEVNULL)
    terminal = f"stty cols {COLUMNS} rows 40; exec {build / COMMAND}"
    command = subprocess.Popen(["script", "-qec", terminal, "/dev/null"], stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, text=True)
    try:
        while command.poll() is None:
            if port.exists() and port.read_text():
                subprocess.run([examples / "agent", "--base-url", f"http://127.0.0.1:{port.read_text().strip()}",
                                "What is 6 * 7?"], stdout=subprocess.DEVNULL, check=True)
        return command.stdout.read()
    finally:
        command.kill()
        server.terminate()
        server.wait()


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    with tempfile.TemporaryDirectory() as folder:
        printed = record(Path(sys.argv[1]).resolve(), folder)
    console = Console(record=True, width=COLUMNS, file=open(os.devnull, "w", encoding="utf-8"))
    console.print(Text(f"# {COMMAND}", style="bold"))
    console.print(Text.from_ansi(printed.replace("\r\n", "\n").rstrip()))
    svg = console.export_svg(title="", theme=MONOKAI, code_format=SVG, unique_id="trace")
    svg = "\n".join(line.strip() for line in svg.splitlines() if line.strip()) + "\n"
    target = Path(__file__).resolve().parent.parent / "docs" / "trace.svg"
    target.write_text(svg, encoding="utf-8")
    print(f"{target}: {len(svg)} bytes")


main()
