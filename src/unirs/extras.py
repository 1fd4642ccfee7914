"""How packages that are not needed by everybody come into this very installation."""

from __future__ import annotations

import json
import shlex
from importlib.metadata import distributions
from urllib.parse import unquote, urlsplit


def install_command(extra: str) -> str:
    """The pip command that adds an extra, from where pip had UniRS: a folder, a repository or an index."""
    # PEP 610; a build's `unirs.egg-info` in the working directory is found too, and has none
    found = [one.read_text("direct_url.json") for one in distributions(name="unirs")]
    try:
        told = json.loads(next(filter(None, found), "{}"))
    except ValueError:
        told = {}
    url = told.get("url", "")
    if "vcs_info" in told:
        at = told["vcs_info"].get("commit_id", "")
        wanted = f"unirs[{extra}] @ {told['vcs_info']['vcs']}+{url}{at and '@'}{at}"
    elif "dir_info" in told:
        wanted = f"{unquote(urlsplit(url).path)}[{extra}]"
    else:
        wanted = f"unirs[{extra}]"
    editable = "-e " if told.get("dir_info", {}).get("editable") else ""
    return f"pip install {editable}{shlex.quote(wanted)}"
