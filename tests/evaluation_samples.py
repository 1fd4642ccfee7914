"""A small benchmark of each kind, with pictures that are not there."""

from unirs.evaluation.samples import Benchmark, Sample

NO_CHANGE = ("there is no difference", "no change has occurred")


def asked(words, *pictures):
    items = [{"type": "image", "image": one} for one in pictures]
    return [{"role": "user", "content": [*items, {"type": "text", "text": words}]}]


def pairs_benchmark(folder="nowhere"):
    references = [("a road is built", "a new road"), ("houses appear", "some houses are built"), NO_CHANGE, NO_CHANGE]
    samples = [
        Sample(
            f"pair-{place}",
            asked("What changed?", f"{folder}/A/test_{place}.png", f"{folder}/B/test_{place}.png"),
            truths,
            "no_change" if truths == NO_CHANGE else "change",
        )
        for place, truths in enumerate(references)
    ]
    return Benchmark("levir-cc", "test", "captions", samples)


def questions_benchmark(folder="nowhere"):
    rows = [("q1", "yes", "presence"), ("q2", "no", "presence"), ("q3", "more than 10", "count")]
    # Two questions on the first picture.
    samples = [
        Sample(name, asked("Is it <there>?", f"{folder}/{min(place, 1)}.tif"), (truth,), kind)
        for place, (name, truth, kind) in enumerate(rows)
    ]
    samples[1:1] = [Sample("q0", asked("And?", f"{folder}/0.tif"), ("no",), "presence")]
    return Benchmark("rsvqa-lr", "test", "vqa", samples)


def classes_benchmark(folder="nowhere"):
    names = ["Fire", "Flood", "Fire", "Fire"]
    messages = [
        [
            {
                "role": "user",
                "content": [{"type": "video", "video": f"{folder}/clip_{n}.mp4"}, {"type": "text", "text": "?"}],
            }
        ]
        for n in range(4)
    ]
    samples = [Sample(f"c{n}", messages[n], (name,), name) for n, name in enumerate(names)]
    return Benchmark("era", "test", "classes", samples, classes=("Fire", "Flood", "Non-event"))


def rows(benchmark, *answers):
    return [{"id": one.id, "prediction": said} for one, said in zip(benchmark.samples, answers, strict=True)]
