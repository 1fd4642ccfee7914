"""Our scores as metrics of `evaluate`, for models of any kind:

    import evaluate
    from unirs.evaluation.metrics import FOLDER

    vqa = evaluate.load(str(FOLDER / "vqa_accuracy"))
    vqa.compute(predictions=["Yes."], references=[["yes"]], kinds=["presence"])

Each is a file that `evaluate` copies and runs; the scores come from the installed package. `evaluate` reads the
imports of these files line by line: one module in each line, and no comment behind it.
"""

from pathlib import Path

FOLDER = Path(__file__).parent
