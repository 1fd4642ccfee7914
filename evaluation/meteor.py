"""METEOR 1.5, by the Java program that pycocoevalcap carries."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

TIMEOUT = 600  # seconds; LEVIR-CC's test set takes about 15
MEMORY = "-Xmx2G"  # as pycocoevalcap gives it


class MeteorError(RuntimeError):
    """METEOR could not be computed; the message says why."""


def meteor(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """METEOR of a whole test set, times 100; captions are normalised already.

    The program is run once, on files. pycocoevalcap talks to it through pipes line by line, and waits for ever if it
    dies. Pairs with fewer references than others have their last one repeated: METEOR takes the best.

    Raises:
        MeteorError: There is no Java, or the program failed.
    """
    java = shutil.which("java")
    if java is None:
        raise MeteorError("METEOR needs Java, and no `java` was found")
    import pycocoevalcap.meteor.meteor as carrier

    jar = Path(carrier.__file__).parent / carrier.METEOR_JAR
    most = max(len(captions) for captions in references)
    padded = [[*captions, *[captions[-1]] * (most - len(captions))] for captions in references]
    with tempfile.TemporaryDirectory() as folder:
        said, true = Path(folder) / "said.txt", Path(folder) / "true.txt"
        said.write_text("".join(f"{caption}\n" for caption in predictions), encoding="utf-8")
        true.write_text("".join(f"{caption}\n" for captions in padded for caption in captions), encoding="utf-8")
        command = [
            java,
            MEMORY,
            "-Dfile.encoding=UTF-8",
            "-jar",
            jar,
            said,
            true,
            "-r",
            str(most),
            "-l",
            "en",
            "-norm",
        ]
        try:
            run = subprocess.run(
                command, cwd=jar.parent, capture_output=True, timeout=TIMEOUT, stdin=subprocess.DEVNULL
            )
        except subprocess.TimeoutExpired as error:  # the program has been stopped
            raise MeteorError(f"METEOR took longer than {TIMEOUT} s") from error
        except OSError as error:
            raise MeteorError(f"{java} cannot be run ({error.strerror or error})") from error
    score = re.search(rb"^Final score:\s+([\d.]+(?:E-\d+)?)", run.stdout, re.MULTILINE)
    if run.returncode or score is None:
        reason = run.stderr.decode(errors="replace").strip().splitlines() or ["without a word"]
        raise MeteorError(f"METEOR's program failed: {reason[0]}")
    return 100 * float(score[1])
