"""How packages that are not needed by everybody come into this very installation."""

from __future__ import annotations

import json
import shlex
from importlib.metadata import distributions
from urllib.parse import unquote, urlsplit


def install_command(extra: str) -> str:
    """The pip command that adds an extra, from where pip had UniRS: a folder, a wheel, a repository or an index."""
    # PEP 610; a build's `unirs.egg-info` in the working directory is found too, and has none
    found = [one.read_text("direct_url.json") for one in distributions(name="unirs")]
    try:
        told = json.loads(next(filter(None, found), "{}"))
    except ValueError:
        told = {}
    url, wanted, editable = told.get("url", ""), f"unirs[{extra}]", ""
    if "dir_info" in told:
        wanted = f"{unquote(urlsplit(url).path)}[{extra}]"
        editable = "-e " if told["dir_info"].get("editable") else ""
    elif "archive_info" in told:
        wanted += f" @ {url}"
    elif vcs := told.get("vcs_info"):
        inside = told.get("subdirectory")
        wanted += f" @ {vcs['vcs']}+{url}@{vcs['commit_id']}" + (f"#subdirectory={inside}" if inside else "")
    return f"pip install {editable}{shlex.quote(wanted)}"
