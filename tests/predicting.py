"""Small tables of every kind for tests, and what a model says of their rows when it is asked by other means."""

import json

from unirs.evaluation.models import load_model

from tests.tiny import picture

NEW_TOKENS = 6


def write_table(folder, count):
    """Singles, pairs, sequences and clips (as pictures) in turn, with pictures of noise beside the file."""
    rows = []
    for number in range(count):
        names = [f"{number}_{place}.png" for place in range(4)]
        kind = number % 4
        needed = (1, 2, 3, 4)[kind]
        for place, name in enumerate(names[:needed]):
            picture(100 * number + place, 20 + number % 7, 28).save(folder / name)
        visuals = (
            {"image": names[0]},
            {"before": names[0], "after": names[1]},
            {"images": names[:3]},
            {"images": names},
        )[kind]
        rows.append({"id": f"row-{number}", "question": f"Question {number}" + "?" * (number % 3), **visuals})
    file = folder / "table.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def chat_of(row, folder):
    """The conversation of a row, written by hand."""
    names = row.get("images") or [row[name] for name in ("image", "before", "after") if name in row]
    items = [{"type": "image", "image": str(folder / name)} for name in names]
    return [{"role": "user", "content": [*items, {"type": "text", "text": row["question"]}]}]


def expected_answers(table, model):
    """Every row asked on its own."""
    asked = load_model(str(model))
    rows = map(json.loads, table.read_text().splitlines())
    return [asked.answer([chat_of(row, table.parent)], NEW_TOKENS)[0] for row in rows]


def lines_of(file):
    return [json.loads(line) for line in file.read_text().splitlines()]
